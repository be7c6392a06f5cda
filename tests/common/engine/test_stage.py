"""What every stage's command line does around its science: inputs, outputs, errors, exit codes."""

import contextlib
import errno
import json
import shutil
import sys
import textwrap
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import STAGES_FOLDER, expand, load_contract
from ghosttrack.common.engine.runner import select_units
from ghosttrack.common.engine.stage import Job, Run, run_stage
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.engine.usage import together
from ghosttrack.common.errors import DataError, NumericError
from tests.common.engine.test_storage import crash_points

UPPER = """
    stage: upper
    phase: 0
    version: 1
    summary: Writes two files.
    gpu: false
    units:
      - name: all
        parameters: [seed]
        folder: data/{name}
        writes: [a.txt, b.json]
    """
LOWER = """
    stage: lower
    phase: 1
    version: 1
    summary: A file a layer.
    gpu: false
    units:
      - name: "layer_{layer}"
        reads: {upper/all: [a.txt]}
        parameters: [sae.d_hidden]
        folder: results/{name}
        writes: ["layer_{layer}.txt"]
    """


def write_upper(job: Job) -> dict[str, Any]:
    job.output("a.txt").write_text(f"seed {job.config.seed}")
    job.output("b.json").write_text("{}")
    return {"letters": 6}


def write_lower(job: Job) -> dict[str, Any]:
    text = job.input("a.txt").read_text()
    job.output(f"layer_{job.layer}.txt").write_text(f"{text}, layer {job.layer}")
    return {}


class Stages:
    """Two stages and a configuration; `upper(…)` and `lower(…)` run them in this process."""

    def __init__(self, folder: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config_file, self.monkeypatch = config_file, monkeypatch
        self.root = folder / "root"
        self.store = Store(str(self.root))
        self.folders = {}
        for name, contract in {"upper": UPPER, "lower": LOWER}.items():
            self.folders[name] = folder / "stages" / name
            self.folders[name].mkdir(parents=True)
            (self.folders[name] / "contract.yaml").write_text(textwrap.dedent(contract))

    def run(self, stage: str, run: Run, *arguments: str) -> int:
        """The exit code."""
        argv = ["x", "--config", str(self.config_file), *arguments]
        self.monkeypatch.setattr(sys, "argv", argv)
        try:
            self.monkeypatch.setitem(sys.modules, f"stages.{stage}.run", types.SimpleNamespace(run=run))
            run_stage(str(self.folders[stage] / "__main__.py"))
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def upper(self, *arguments: str, run: Run = write_upper) -> int:
        return self.run("upper", run, *arguments)

    def lower(self, *arguments: str, run: Run = write_lower) -> int:
        return self.run("lower", run, *arguments)

    def results(self) -> dict[str, str]:
        """Public files and their content, manifests left out."""
        return {
            path.relative_to(self.root).as_posix(): path.read_text()
            for folder in ("data", "results")
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and not path.name.endswith("manifest.json")
        }

    def attempts(self, stage: str, unit: str) -> list[dict[str, Any]]:
        units = expand(load_contract(self.folders[stage]), load_config(str(self.config_file)))
        return self.store.failures(next(each for each in units if each.name == unit))


@pytest.fixture
def stages(tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(tmp_path, write_config(), monkeypatch)


def test_units_are_published_with_a_manifest(stages: Stages) -> None:
    assert stages.upper() == 0
    assert stages.lower() == 0
    assert stages.results() == {
        "data/small/a.txt": "seed 0",
        "data/small/b.json": "{}",
        **{f"results/small/layer_{i}.txt": f"seed 0, layer {i}" for i in range(3)},
    }
    manifest = json.loads((stages.root / "results/small/layer_1.manifest.json").read_text())
    predicate = manifest["predicate"]
    names = {each["name"] for each in predicate["buildDefinition"]["resolvedDependencies"]}
    assert {"upper/all/a.txt", "upper/all/manifest.json"} <= names
    assert predicate["buildDefinition"]["externalParameters"] == {"sae.d_hidden": 8, **_targets(predicate)}
    assert predicate["resourceUsage"]["maxRSS"] > 1e6
    upper = json.loads((stages.root / "data/small/manifest.json").read_text())
    assert upper["predicate"]["metrics"] == {"letters": 6}


def test_a_unit_is_charged_with_its_own_time_only(stages: Stages) -> None:
    def busy_first(job: Job) -> dict[str, Any]:
        end = time.process_time() + (0.5 if job.layer == 0 else 0.0)
        while time.process_time() < end:
            pass
        return write_lower(job)

    assert stages.upper() == 0
    assert stages.lower(run=busy_first) == 0
    entries = [stages.store.current("small", "lower", f"layer_{layer}") for layer in (0, 1)]
    first, second = [entry.manifest.predicate.resource_usage["cpuSec"] for entry in entries if entry]
    assert (first or 0) >= 0.5
    assert (second or 0) < 0.4


def test_what_processes_used_together_is_their_sum() -> None:
    one = {"elapsedSec": 3.0, "cpuSec": 2.0, "maxRSS": 100.0, "gpuPeakBytes": None}
    other = {"elapsedSec": 4.0, "cpuSec": 1.0, "maxRSS": 50.0, "gpuPeakBytes": None}
    assert together([one, other]) == {
        "elapsedSec": 4.0, "cpuSec": 3.0, "maxRSS": 150.0, "gpuPeakBytes": None,
    }  # fmt: skip


def _targets(predicate: dict[str, Any]) -> dict[str, Any]:
    parameters = predicate["buildDefinition"]["externalParameters"]
    return {key: value for key, value in parameters.items() if key != "sae.d_hidden"}


def test_a_second_run_does_nothing(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    def never(job: Job) -> dict[str, Any]:
        raise AssertionError("it ran")

    stages.upper()
    assert stages.upper(run=never) == 0
    assert "up to date" in capsys.readouterr().err


def test_an_earlier_result_is_taken_again(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    stages.upper()
    stages.upper("--set", "seed=1")
    assert stages.results()["data/small/a.txt"] == "seed 1"
    assert stages.upper() == 0
    assert "taken from an earlier run" in capsys.readouterr().err
    assert stages.results()["data/small/a.txt"] == "seed 0"


def test_layers_and_units_can_be_chosen(stages: Stages) -> None:
    stages.upper()
    assert stages.lower("--layers", "2") == 0
    assert stages.lower("--unit", "layer_0") == 0
    assert [name for name in stages.results() if "layer" in name] == [
        "results/small/layer_0.txt",
        "results/small/layer_2.txt",
    ]


def test_what_reads_all_layers_is_left_out_where_some_are_chosen() -> None:
    config = load_config("demo", ["model.layers=0-2"], environ={})
    units = expand(load_contract(STAGES_FOLDER / "sae_train"), config)
    assert [unit.name for unit in select_units(units, config, [0, 2], ())] == ["base", "layer_0", "layer_2"]
    assert [unit.name for unit in select_units(units, config, [0, 1, 2], ())] == [unit.name for unit in units]
    assert [unit.name for unit in select_units(units, config, None, ())] == [unit.name for unit in units]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--layers", "3"], 10, "layer 3 is out of range; small studies layers 0-2"),
        (["--layers", "some"], 10, "is not a list of layers"),
        (["--unit", "layer_9"], 10, "there is no unit 'layer_9'"),
        (["--set", "sae.d_hiden=3"], 10, "did you mean 'sae.d_hidden'?"),
        (["--cluster", "nowhere"], 10, "there is no cluster profile 'nowhere'"),
        (["--colour"], 2, "No such option"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    stages: Stages, arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.upper()
    capsys.readouterr()
    assert stages.lower(*arguments) == code
    printed = capsys.readouterr().err
    assert expected in printed
    assert "Traceback" not in printed
    assert "results" not in stages.results()


def test_a_failure_in_publishing_and_a_damaged_input_are_failed_attempts(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("ghosttrack.common.engine.atomic.replace", full)
        assert stages.upper() == 17
    assert "the disk is full" in stages.attempts("upper", "all")[-1]["error"]
    assert stages.upper() == 0
    file = (stages.root / "data/small/a.txt").resolve()
    file.chmod(0o644)
    file.write_text("seed 9")
    assert stages.lower() == 14
    assert "a.txt does not match its manifest" in stages.attempts("lower", "layer_0")[-1]["error"]


def test_layers_mean_nothing_to_a_stage_of_one_unit(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stages.upper("--layers", "0") == 10
    assert "--set model.layers" in capsys.readouterr().err


def test_a_configuration_must_be_named(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    stages.monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        run_stage(str(stages.folders["upper"] / "__main__.py"))
    assert ended.value.code == 2
    assert "--config" in capsys.readouterr().err


def test_trouble_is_one_line_an_attempt_and_nothing_published(
    stages: Stages, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(job: Job) -> dict[str, Any]:
        job.output("a.txt").write_text("half")
        raise NumericError("layer 2 of x.pt holds NaN; check the model")

    stages.upper()
    before = stages.results()
    capsys.readouterr()
    log = tmp_path / "upper.jsonl"
    assert stages.upper("--set", "seed=5", "--log-file", str(log), run=fail) == 19
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1] == "upper: error: layer 2 of x.pt holds NaN; check the model"
    assert "Traceback" not in printed
    assert stages.results() == before
    attempt = stages.attempts("upper", "all")[-1]
    assert attempt["actionStatus"] == "FailedActionStatus"
    assert attempt["error"] == "NumericError: layer 2 of x.pt holds NaN; check the model"
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["level"] == "error"
    assert "NumericError" in last["traceback"]


def test_a_defect_of_ours_keeps_its_traceback(stages: Stages) -> None:
    def broken(job: Job) -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stages.upper(run=broken)
    assert "ZeroDivisionError" in stages.attempts("upper", "all")[0]["error"]


@pytest.mark.parametrize("names", [["a.txt"], ["a.txt", "b.json", "c.txt"]])
def test_outputs_must_be_those_of_the_contract(stages: Stages, names: list[str]) -> None:
    def wrong(job: Job) -> dict[str, Any]:
        for name in names:
            job.output(name).write_text("x")
        return {}

    with pytest.raises(RuntimeError, match="broke its contract"):
        stages.upper(run=wrong)
    assert stages.results() == {}


def test_interruption_exits_with_130(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(job: Job) -> dict[str, Any]:
        raise KeyboardInterrupt

    assert stages.upper(run=interrupted) == 130
    assert "goes on from here" in capsys.readouterr().err


# ---- bad inputs


def test_a_missing_upstream_unit_names_the_stage_to_run(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stages.lower() == 13
    assert "stages.upper" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "code"), [("truncated", 14), ("tampered", 14), ("missing", 13), ("manifest", 14), ("entry", 14)]
)
def test_a_damaged_upstream_file_is_named_and_nothing_changes(
    stages: Stages, how: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.upper()
    stages.lower()
    before = {name: text for name, text in stages.results().items() if name.startswith("results")}
    entry = stages.store.current("small", "upper", "all")
    assert entry
    file = entry.file("manifest.json" if how in ("manifest", "entry") else "a.txt")
    file.chmod(0o644)
    if how == "truncated":
        file.write_text("see")
    elif how == "tampered":
        file.write_text("seed 9")
    elif how == "manifest":
        file.write_text(file.read_text().replace('"seed": 0', '"seed": 9'))
    else:
        file.unlink()
    capsys.readouterr()
    assert stages.lower("--set", "sae.d_hidden=16") == code
    printed = capsys.readouterr().err
    assert file.name in printed
    assert "ghosttrack run" in printed
    assert {name: text for name, text in stages.results().items() if name.startswith("results")} == before


def test_what_upstream_does_not_write_is_named(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    stages.upper()
    contract = stages.folders["lower"] / "contract.yaml"
    contract.write_text(contract.read_text().replace("[a.txt]", "[z.txt]"))
    assert stages.lower() == 13
    assert "upper/all/z.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied"),
     (errno.EDQUOT, "quota")],
)  # fmt: skip
def test_a_disk_that_refuses_is_one_clear_error(
    stages: Stages, number: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(job: Job) -> dict[str, Any]:
        raise OSError(number, "refused", str(job.output("a.txt")))

    assert stages.upper(run=refused) == 17
    printed = capsys.readouterr().err.splitlines()[-1]
    assert expected in printed
    assert "a.txt" in printed


def test_two_runs_at_once_are_kept_apart(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    codes = []

    def meanwhile(job: Job) -> dict[str, Any]:
        codes.append(stages.upper())
        return write_upper(job)

    assert stages.upper(run=meanwhile) == 0
    assert codes == [18]
    assert "is being written by process" in capsys.readouterr().err


# ---- going on after a crash


def write_upper_in_steps(job: Job) -> dict[str, Any]:
    """Like an extraction: what a step wrote is opened again, so it must be there and writable."""
    job.step("make", lambda: write_upper(job))
    for name in ("a.txt", "b.json"):
        assert job.output(name).stat().st_mode & 0o200, "an ordinary user could not go on"
    return {"letters": 6}


def test_wherever_it_dies_the_next_run_comes_to_the_same(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stages.upper(run=write_upper_in_steps) == 0
    expected = stages.results()

    def from_the_start() -> None:
        shutil.rmtree(stages.root)
        stages.upper(run=write_upper_in_steps)

    crashes = 0
    for _ in crash_points(from_the_start, monkeypatch):
        crashes += 1
        shutil.rmtree(stages.root / ".store" / "claims", ignore_errors=True)  # its holder is dead
        assert stages.upper(run=write_upper_in_steps) == 0
        assert stages.results() == expected
        # A result that is damaged later is made anew, not gone on with from what its first run left behind.
        entry = stages.store.current("small", "upper", "all")
        assert entry
        entry.file("a.txt").unlink()
        assert stages.upper(run=write_upper_in_steps) == 0
        assert stages.results() == expected
    assert crashes > 20


def test_finished_steps_are_not_done_again(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    power_fails = True

    def in_steps(job: Job) -> dict[str, Any]:
        def step(name: str) -> None:
            job.scratch(f"{name}.txt").write_text(name)
            done.append(name)

        for name in ("one", "two"):
            job.step(name, lambda name=name: step(name))  # type: ignore[misc]
        if power_fails:
            raise DataError("killed between two and three")
        job.step("three", lambda: step("three"))
        job.output("a.txt").write_text(
            "".join(job.scratch(f"{n}.txt").read_text() for n in ("one", "two", "three"))
        )
        job.output("b.json").write_text("{}")
        return {}

    assert stages.upper(run=in_steps) == 15
    power_fails = False
    assert stages.upper(run=in_steps) == 0
    assert done == ["one", "two", "three"]
    assert stages.results()["data/small/a.txt"] == "onetwothree"
    assert "goes on after 2 finished steps" in capsys.readouterr().err
    done.clear()
    assert stages.upper("--set", "seed=1", run=in_steps) == 0
    assert done == ["one", "two", "three"], "another task key starts anew"


def test_describe_and_help_say_what_a_stage_does(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--help"], "reads   upper/all: a.txt"), (["describe"], "A file a layer.")):
        stages.monkeypatch.setattr(sys, "argv", ["x", *arguments])
        with contextlib.suppress(SystemExit):
            # there is no code of it that could be loaded
            run_stage(str(stages.folders["lower"] / "__main__.py"))
        assert expected in capsys.readouterr().out
