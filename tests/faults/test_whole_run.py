"""The units of a whole stub run, each killed at changes of files, or with the machine, or refused: the same bytes in the end."""

import importlib
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch

from ghosttrack.common.engine.contract import STAGES_FOLDER, Unit
from ghosttrack.common.engine.stage import main
from ghosttrack.common.engine.storage import Store
from tests.faults.conftest import SEED, Tally, budget
from tests.faults.injection import EVERYDAY, Outcome, run
from tests.faults.test_kills_and_errors import DOCUMENTED
from tests.pipeline import Pipeline

SCIENCE = (".pt", ".json", ".jsonl", ".csv", ".parquet", ".npy", ".txt")
"""Files that are the same in every run, whatever the hour."""


class Trials:
    """A finished run of which single units are made again."""

    def __init__(self, finished: Pipeline, folder: Path) -> None:
        self.saved, self.root = finished.root, folder / "root"
        self.units = {unit.label: unit for unit in Pipeline(self.root).units()}
        self.operations: dict[str, int] = {}

    def prepare(self, unit: Unit) -> None:
        """All but this unit is there. Results are links to those of the run: nothing writes into one."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.saved, self.root, symlinks=True, copy_function=link)
        store = Store(str(self.root))
        entry = store.current(unit.config_name, unit.stage, unit.name)
        assert entry
        store.layout.pointer_of(unit).unlink()
        shutil.rmtree(entry.path)

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
            main(STAGES_FOLDER / unit.stage)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def do(
        self, unit: Unit, at: int | None = None, code: int | None = None, *, power: bool = False
    ) -> Outcome:
        watch = "changes" if code is None else "all"
        return run(lambda: self.work(unit), self.root, at, code, watch=watch, power=power)

    def count(self, unit: Unit) -> int:
        """Changes of files that the unit makes from first to last."""
        if unit.label not in self.operations:
            self.prepare(unit)
            whole = self.do(unit)
            assert whole.code == 0, whole.said
            self.operations[unit.label] = whole.operations
        return self.operations[unit.label]

    def recovers(self, unit: Unit) -> None:
        store = Store(str(self.root))
        if entry := store.current(unit.config_name, unit.stage, unit.name):
            store.verify(entry, deep=True)  # published whole, or not at all
        again = self.do(unit)
        assert again.code == 0, f"{unit.label}: {again.said}"
        entry = store.current(unit.config_name, unit.stage, unit.name)
        before = Store(str(self.saved)).current(unit.config_name, unit.stage, unit.name)
        assert entry
        assert before
        store.verify(entry, deep=True)
        assert set(entry.manifest.files) == set(before.manifest.files)
        for name, subject in before.manifest.files.items():
            if Path(name).suffix in SCIENCE:
                assert entry.manifest.files[name].sha256 == subject.sha256, f"{unit.label}: {name}"
        assert not list(store.at_work())


def link(source: str, target: str) -> None:
    """What is never written into is a link; records that are replaced are, too."""
    Path(target).hardlink_to(source)


@pytest.fixture(scope="module")
def trials(stub_run: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    for folder in STAGES_FOLDER.iterdir():
        if (folder / "run.py").exists():
            importlib.import_module(f"ghosttrack.stages.{folder.name}.run")  # once, and not in every fork
    return Trials(stub_run, tmp_path_factory.mktemp("trials"))


def chosen(trials: Trials, quick: list[str], whole: int, seed: int) -> list[tuple[Unit, random.Random]]:
    """Units of the trials: few that are quick, or all in turn, in an order of the seed."""
    chance = random.Random(SEED + seed)
    labels = quick if budget(0, 1) == 0 else chance.sample(sorted(trials.units), len(trials.units)) * 100
    return [(trials.units[label], chance) for label in labels[: budget(len(quick), whole)]]


def test_any_unit_of_a_run_is_killed(trials: Trials, tally: Tally) -> None:
    for unit, chance in chosen(trials, ["track/reasons", "detect/tokens"], 96, 2):
        at = chance.randrange(trials.count(unit))
        trials.prepare(unit)
        killed = trials.do(unit, at)
        assert killed.code == -9 or killed.code != 0, f"{unit.label} at {at}: {killed}"
        trials.recovers(unit)
        tally("killed at a file operation: units of a run", True)


def test_the_machine_ends_with_any_unit_of_a_run(trials: Trials, tally: Tally) -> None:
    for unit, chance in chosen(trials, ["track/answers"], 72, 3):
        at = chance.randrange(trials.count(unit))
        trials.prepare(unit)
        assert trials.do(unit, at, power=True).code != 0
        trials.recovers(unit)
        tally("power cut at a file operation: units of a run", True)


def test_any_unit_of_a_run_is_refused_a_file(trials: Trials, tally: Tally) -> None:
    for unit, chance in chosen(trials, ["track/causes"], 72, 4):
        at, code = chance.randrange(trials.count(unit)), chance.choice(EVERYDAY)
        trials.prepare(unit)
        failed = trials.do(unit, at, code)
        assert failed.code in DOCUMENTED, f"{unit.label} at {at}, errno {code}: {failed}"
        trials.recovers(unit)
        tally("errno at a file operation: units of a run", True)
