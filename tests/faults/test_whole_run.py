"""The units of a whole stub run, each killed at changes of files, or with the machine, or refused: the same bytes in the end."""

import contextlib
import gc
import importlib
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ghosttrack.common.engine.contract import STAGES_FOLDER, Unit
from ghosttrack.common.engine.stage import run_stage
from ghosttrack.common.engine.storage import Entry
from tests.faults.conftest import SEED, WHOLE, Tally
from tests.faults.injection import EVERYDAY, Outcome, run
from tests.faults.test_kills_and_errors import DOCUMENTED
from tests.pipeline import Pipeline

LONG = ("prepare/model", "sae_train/quality", "track/validation", "detect/all", "evaluate/all")
"""Units that compute for seconds: they have a quarter of the trials of others."""


def _linked(source: str, copy: str) -> None:
    """A link; a copy of what is appended to in place."""
    (shutil.copy2 if "openings" in Path(source).parts else os.link)(source, copy)


class Trials:
    """A finished run of which single units are made again, each from what the others have published."""

    def __init__(self, finished: Pipeline, folder: Path) -> None:
        self.root = folder / "root"
        shutil.copytree(finished.root, self.root, symlinks=True, copy_function=_linked)
        again = Pipeline(self.root)
        self.store, self.units = again.store, {unit.label: unit for unit in again.units()}
        self.manifests = {label: self.entry(unit).manifest for label, unit in self.units.items()}
        self.seen = self.public()
        self.changes: dict[str, int] = {}

    def entry(self, unit: Unit) -> Entry:
        entry = self.store.current(unit.config_name, unit.stage, unit.name)
        assert entry, unit.label
        return entry

    def public(self) -> set[str]:
        """All names outside the store, hidden ones too."""
        return {str(path) for top in self.root.glob("[!.]*") if top.name != "runs" for path in top.rglob("*")}

    def work(self, unit: Unit) -> int:
        torch.set_num_threads(1)  # this is a fork of a process that may have had threads
        sys.argv = [
            "x",
            "--config",
            "demo",
            "--stub",
            "--set",
            f"paths.root={self.root}",
            "--unit",
            unit.name,
        ]
        try:
            run_stage(str(STAGES_FOLDER / unit.stage / "__main__.py"))
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def do(
        self, unit: Unit, at: int | None = None, code: int | None = None, *, power: bool = False
    ) -> Outcome:
        watch = "changes" if code is None else "all"
        return run(lambda: self.work(unit), self.root, at, code, watch=watch, power=power)

    def remove(self, unit: Unit) -> None:
        result = self.entry(unit).path
        self.store.layout.pointer_of(unit).unlink()
        shutil.rmtree(result)

    def count(self, unit: Unit) -> int:
        """Changes of files that the unit makes from first to last; fewer where its inputs were found whole a moment ago."""
        if unit.label not in self.changes:
            self.remove(unit)
            whole = self.do(unit)
            assert whole.code == 0, whole.said
            self.changes[unit.label] = whole.operations
            for name in whole.modules:  # once, and not in every fork
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
            gc.freeze()
        return self.changes[unit.label]

    def recovers(self, unit: Unit) -> None:
        """Published whole or not at all; the next run gets through, to the same bytes, and nothing else is seen.

        What was killed after the commit may leave work behind that only `gc` looks for.
        """
        with contextlib.suppress(AssertionError):
            self.store.verify(self.entry(unit), deep=True)
        again = self.do(unit)
        assert again.code == 0, f"{unit.label}: {again.said}"
        entry, before = self.entry(unit), self.manifests[unit.label]
        self.store.verify(entry, deep=True)
        assert set(entry.manifest.files) == set(before.files)
        for name, subject in before.files.items():
            assert entry.manifest.files[name].sha256 == subject.sha256, f"{unit.label}: {name}"
        assert not list(self.store.at_work())
        assert self.public() == self.seen


@pytest.fixture(scope="module")
def trials(stub_run: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    for folder in STAGES_FOLDER.iterdir():
        if (folder / "run.py").exists():
            importlib.import_module(f"ghosttrack.stages.{folder.name}.run")  # once, and not in every fork
    return Trials(stub_run, tmp_path_factory.mktemp("trials"))


def rounds(whole: int) -> pytest.MarkDecorator:
    """A test for each turn through all units, so that the whole can be done in pieces and by several processes."""
    return pytest.mark.parametrize(("turn", "of"), [(turn, whole) for turn in range(whole if WHOLE else 1)])


def chosen(
    trials: Trials, quick: list[str], turn: int, of: int, chance: random.Random
) -> Iterator[tuple[Unit, int]]:
    """Few units that are quick, or all, and where in each: the turns spread over all its changes of files."""
    for label in sorted(trials.units) if WHOLE else quick:
        every = 4 if label in LONG else 1
        if turn % every == 0:
            unit, share = trials.units[label], (turn + every * chance.random()) / (of + every - 1)
            yield unit, int(share % 1 * trials.count(unit))


def killed(trials: Trials, unit: Unit, at: int, chance: random.Random) -> int:
    """How often the unit was killed, here and where it went on then, before it was let through to the same bytes."""
    trials.remove(unit)
    kills = [trials.do(unit, at).code]
    while chance.random() < (0.75 if WHOLE else 0.5):
        kills.append(trials.do(unit, chance.randrange(trials.count(unit))).code)
    assert set(kills) <= {-9, 0}, f"{unit.label} at {at}: {kills}"
    trials.recovers(unit)
    return kills.count(-9)


@rounds(16)
def test_any_unit_of_a_run_is_killed(trials: Trials, turn: int, of: int, tally: Tally) -> None:
    chance = random.Random(f"{SEED} kills {turn}")
    kills = [
        killed(trials, *each, chance)
        for each in chosen(trials, ["track/reasons", "detect/tokens"], turn, of, chance)
    ]
    assert sum(kills) >= len(kills)
    for _ in range(sum(kills)):
        tally("killed at a change of a file: units of a run", True)


@rounds(8)
def test_the_machine_ends_with_any_unit_of_a_run(trials: Trials, turn: int, of: int, tally: Tally) -> None:
    chance = random.Random(f"{SEED} power {turn}")
    for unit, at in chosen(trials, ["track/reasons"], turn, of, chance):
        trials.remove(unit)
        cut = trials.do(unit, at, power=True)
        assert cut.code in (-9, 0), cut
        trials.recovers(unit)
        if cut.code:
            tally("power cut at a change of a file: units of a run", True)


@rounds(8)
def test_any_unit_of_a_run_is_refused_a_file(trials: Trials, turn: int, of: int, tally: Tally) -> None:
    chance = random.Random(f"{SEED} refusals {turn}")
    for unit, at in chosen(trials, ["track/reasons"], turn, of, chance):
        code = chance.choice(EVERYDAY)
        trials.remove(unit)
        failed = trials.do(unit, at, code)
        assert failed.code in DOCUMENTED, f"{unit.label} at {at}, errno {code}: {failed}"
        trials.recovers(unit)
        tally("errno at a file operation: units of a run", True)
