"""The local executor over real processes of the fake stages."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ghosttrack.common.engine.claims import process_start
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import MissingInputError, StageFailedError
from ghosttrack.orchestrate import cli, request
from ghosttrack.orchestrate.executor import executor_behind
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.runs import summaries
from ghosttrack.orchestrate.status import JobsStatus
from ghosttrack.orchestrate.submitting import adopt
from tests.fake_project import FakeProject

ALL = ["source/all", "layers/base", "layers/layer_0", "layers/layer_1", "layers/layer_2", "sink/all"]


PATIENCE = 120
"""Seconds that a process is waited for: only a test that fails waits so long, and a loaded machine needs its time."""


def run(project: FakeProject, *overrides: str) -> list[str]:
    """Bring everything up to date; the units that ran."""
    request = project.request(*overrides)
    LocalExecutor(Terminal()).submit(request, request.plan())
    return project.calls()


def joined(project: FakeProject) -> dict[str, object]:
    return json.loads((project.root / "results/small/sink/joined.json").read_text())


def test_everything_runs_once_and_in_order(project: FakeProject) -> None:
    assert run(project) == ALL
    assert joined(project) == {"parts": ["0 8 0", "0 8 1", "0 8 2"], "top": 50}
    assert run(project) == []


def test_a_parameter_reruns_its_stage_and_what_follows(finished: FakeProject) -> None:
    assert run(finished, "tracking.top_k_features=30") == ["sink/all"]
    assert run(finished, "tracking.top_k_features=30", "sae.d_hidden=16") == ALL[1:]


def test_an_unchanged_result_cuts_off_what_follows(
    finished: FakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(finished, "seed=1") == ["source/all"]
    assert "came out the same" in capsys.readouterr().out
    assert run(finished, "seed=10") == ALL


def test_going_back_to_an_earlier_setting_takes_the_kept_result(finished: FakeProject) -> None:
    run(finished, "tracking.top_k_features=30")
    planned = finished.request().plan().stale
    assert [(p.unit.label, p.kept) for p in planned] == [("sink/all", True)]
    assert run(finished) == []
    assert joined(finished)["top"] == 50


def test_a_variant_under_a_name_of_its_own_shares_what_is_the_same(finished: FakeProject) -> None:
    other = finished.request("name=other", "tracking.top_k_features=30")
    planned = {p.unit.label: p.kept for p in other.plan().stale}
    assert planned == {label: label != "sink/all" for label in ALL}
    assert adopt(other.plan()) == len(ALL) - 1
    assert [p.unit.label for p in other.plan().stale] == ["sink/all"]
    assert run(finished, "name=other", "tracking.top_k_features=30") == ["sink/all"]
    assert joined(finished)["top"] == 50
    first, second = sorted(summaries(Store(str(finished.root))), key=lambda found: found.name)
    assert (first.name, first.units, first.shared) == ("other", len(ALL), len(ALL) - 1)
    assert (second.name, second.units, second.shared) == ("small", len(ALL), len(ALL) - 1)
    assert first.differs == {"tracking.top_k_features": 30}
    assert second.differs == {"tracking.top_k_features": 50}


def test_a_damaged_result_is_not_adopted(finished: FakeProject) -> None:
    entry = Store(str(finished.root)).current("small", "layers", "base")
    assert entry
    [name] = entry.manifest.files
    entry.file(name).chmod(0o644)
    entry.file(name).write_text("other")
    request = finished.request("name=other")
    assert adopt(request.plan()) == 1  # what is before it
    assert run(finished, "name=other") == ["layers/base"]  # the others come out as they are


def test_where_nothing_was_submitted_nothing_stands_and_what_takes_it_back_says_how_to_submit(
    finished: FakeProject,
) -> None:
    request = finished.request()
    executor = executor_behind(request, Terminal())
    assert executor.status(request, request.plan()) == JobsStatus()
    with pytest.raises(MissingInputError, match=rf"`ghosttrack run {request.name} --executor slurm`"):
        executor.cancel(request)


def test_a_failure_keeps_the_exit_code_and_what_was_done(project: FakeProject) -> None:
    project.trouble("layers/layer_1", "layer 1 is all zeros")
    with pytest.raises(StageFailedError) as failure:
        run(project)
    assert failure.value.exit_code == 19
    assert "layers ended with exit code 19" in str(failure.value)
    log = project.request().logs / "layers.log"
    assert str(log) in str(failure.value)
    assert "layer 1 is all zeros" in log.read_text()
    project.calls()
    project.trouble("layers/layer_1", None)
    assert run(project) == ["layers/layer_1", "layers/layer_2", "sink/all"]


def test_a_killed_stage_is_named_and_continued(project: FakeProject) -> None:
    project.trouble("layers/layer_2", "kill")
    with pytest.raises(StageFailedError) as failure:
        run(project)
    assert failure.value.exit_code == 128 + signal.SIGKILL
    assert "SIGKILL" in str(failure.value)
    assert "memory" in str(failure.value)
    project.calls()
    project.trouble("layers/layer_2", None)
    assert run(project) == ["layers/layer_2", "sink/all"]


def test_a_damaged_result_is_made_again_and_nothing_else(finished: FakeProject) -> None:
    file = finished.root / "models/checkpoints/small/layer_1.txt"
    file.chmod(0o644)
    file.write_text("0 8 9")
    assert [(p.unit.label, p.reason.kind) for p in finished.request().plan().stale if p.reason] == [
        ("layers/layer_1", "corrupt"),
        ("sink/all", "input"),
    ]
    assert run(finished) == ["layers/layer_1"]
    assert file.read_text() == "0 8 1"


def test_stale_units_alone_are_handed_to_the_stage(finished: FakeProject) -> None:
    (finished.root / "models/checkpoints/small/layer_2.txt").resolve().unlink()
    run(finished)
    lines = (finished.request().logs / "layers.log").read_text().splitlines()
    commands = [line for line in lines if line.startswith("=====") and "stages.layers" in line]
    assert [re.findall(r"--unit (\S+)", command) for command in commands] == [[], ["layer_2"]]


def test_the_command_says_what_it_does(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ghosttrack(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ghosttrack", *arguments])
        cli.main()
        return capsys.readouterr().out

    original = request.Request.of.__func__  # type: ignore[attr-defined]

    def of(cls: type, *arguments: object, **options: object) -> object:
        return original(cls, *arguments, **options, stages_folder=project.stages)

    monkeypatch.setattr(request.Request, "of", classmethod(of))
    config = str(project.config_file)
    first = ghosttrack("run", config)
    assert "6 of 6 units to run" in first
    assert "[2/3] layers: 4 units, missing" in first
    assert f"{project.root}/results/small/sink" in first
    assert "nothing is stale" in ghosttrack("run", config)
    status = ghosttrack("status", config)
    assert "4/4" in status
    assert "up to date" in ghosttrack("why", config, "sink")
    assert "layers/base (1 of 4): done in" in ghosttrack("logs", config, "layers")
    assert len(ghosttrack("logs", config, "-n", "2").splitlines()) == 2
    assert "6 files" in ghosttrack("verify", config, "--deep")
    assert "removed results/small/sink/joined.json" in ghosttrack("clean", config)
    assert not (project.root / "results").exists()
    assert not list((project.root / ".store").glob("sink/*"))


def start_in_background(project: FakeProject) -> "subprocess.Popen[str]":
    script = (
        "import sys; from pathlib import Path; from ghosttrack.orchestrate import cli; from ghosttrack.orchestrate.request import Request\n"
        "of = Request.of.__func__\n"
        f"Request.of = classmethod(lambda cls, *a, **k: of(cls, *a, **k, stages_folder=Path({str(project.stages)!r})))\n"
        f"sys.argv = ['ghosttrack', 'run', {str(project.config_file)!r}]\n"
        "cli.main()"
    )
    code = Path(cli.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(code)}, cwd=project.root,
    )  # fmt: skip


def wait_for(file: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, f"{file} did not appear"
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while process_start(pid) is not None:
        assert time.monotonic() < end, f"process {pid} lives on"
        time.sleep(0.02)


def test_ctrl_c_ends_the_stage_and_says_how_to_go_on(project: FakeProject) -> None:
    project.trouble("layers/layer_1", "sleep")
    running = start_in_background(project)
    wait_for(project.root / "asleep")
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, output
    assert "layers: interrupted" in output
    assert "ghosttrack: interrupted" in output
    assert "Traceback" not in output
    wait_until_gone(int((project.root / "asleep").read_text()))
    project.calls()
    project.trouble("layers/layer_1", None)
    assert run(project) == ["layers/layer_1", "layers/layer_2", "sink/all"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux only")
def test_a_stage_does_not_outlive_a_killed_command(project: FakeProject) -> None:
    project.trouble("layers/layer_1", "sleep")
    running = start_in_background(project)
    wait_for(project.root / "asleep")
    running.kill()
    running.communicate()
    wait_until_gone(int((project.root / "asleep").read_text()))
    project.trouble("layers/layer_1", None)
    project.calls()
    assert run(project) == ["layers/layer_1", "layers/layer_2", "sink/all"]


def test_two_runs_at_once_are_kept_apart(project: FakeProject) -> None:
    project.trouble("layers/layer_1", "sleep")
    first = start_in_background(project)
    wait_for(project.root / "asleep")
    try:
        with pytest.raises(StageFailedError) as failure:
            run(project)
        assert failure.value.exit_code == 18
        log = (project.request().logs / "layers.log").read_text()
        assert f"is being written by process {(project.root / 'asleep').read_text()}" in log
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=PATIENCE)
