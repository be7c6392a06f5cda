"""A chain on a real SLURM: from submission to results, through failures, stops and a scheduler that is silent."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import BusyError, SchedulerError
from ghosttrack.orchestrate.chain import chain_of
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.submission import read_ending, read_submission
from tests.slurm.cluster import CPUS, PATIENCE, Cluster
from tests.slurm.runs import Run, run_command, start_command

pytestmark = pytest.mark.slurm

CODE = Path(__file__).parents[2]
SLOWLY = "steps 600"
"""A minute of work, which a test makes short when it has seen what it waits for (`hurry`)."""


def test_a_chain_is_submitted_in_one_go_and_runs_to_its_end(run: Run) -> None:
    run.project.trouble("source/all", SLOWLY)
    submission = run.submit()
    assert [job.link for job in submission.jobs] == ["source", "base", "layers", "heads", "sink"]
    assert submission.complete
    ids = {job.link: job.job_id for job in submission.jobs}
    assert submission.jobs[3].dependency == f"aftercorr:{ids['layers']}"
    assert submission.jobs[4].dependency == f"afterok:{ids['heads']}"
    with pytest.raises(BusyError, match=r"jobs of it are in the queue.*ghosttrack watch"):
        run.submit()
    run.project.hurry()
    run.wait(lambda: run.stale() == [])
    folder = run.request().folder
    run.wait(lambda: read_ending(folder, ids["sink"]) is not None)
    ending = read_ending(folder, f"{ids['layers']}_1")
    assert ending
    assert (ending.exit_code, ending.restarts) == (0, 0)
    log = folder / "logs" / f"small.layers-{ids['layers']}_1.out"
    assert "layers/layer_1: done" in log.read_text()
    entry = Store(str(run.project.root)).current("small", "layers", "layer_1")
    assert entry
    details = entry.manifest.predicate.run_details
    assert details.builder.id == "slurm"
    assert details.metadata.invocation_id == f"test/{ids['layers']}_1/0"
    assert run.project.calls().count("layers/layer_1") == 1


def test_a_job_sees_nothing_of_the_submitter_s_environment(
    tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "1")
    monkeypatch.setenv("SBATCH_JOB_NAME", "another")
    run = Run(tmp_path, slurm, setup=[f"env > {tmp_path}/environment"], environment={"MINE": "yes"})
    run.submit()
    run.wait(lambda: run.stale() == [])
    lines = (tmp_path / "environment").read_text().splitlines()
    assert "MINE=yes" in lines
    assert "SLURM_JOB_NAME=small.sink" in lines
    assert not [line for line in lines if line.startswith(("LEAK", "VIRTUAL_ENV"))]


def test_a_failed_element_holds_its_own_followers_and_rerun_does_the_rest(run: Run) -> None:
    run.project.trouble("layers/layer_1", "no luck")
    run.submit()
    run.wait_for_end()
    layers, heads, sink = (run.job(link) for link in ("layers", "heads", "sink"))
    states = run.states()
    assert run.slurm.ended(f"{layers}_1") == "FAILED"
    assert states[f"{heads}_1"] == "DependencyNeverSatisfied"
    assert states[sink] == "PENDING"  # for what waits for ever
    assert run.stale() == ["layers/layer_1", "heads/layer_1", "sink/all"]
    ending = read_ending(run.request().folder, f"{layers}_1")
    assert ending
    assert ending.exit_code == 19
    run.project.trouble("layers/layer_1", None)
    run.project.calls()
    done = run_command(run, "rerun")
    assert done.returncode == 0, done.stderr
    submission = run.submission()
    assert [(job.link, [task.index for task in job.tasks]) for job in submission.jobs] == [
        ("layers", [1]), ("heads", [1]), ("sink", [None]),
    ]  # fmt: skip
    assert {job.link for job in submission.earlier} == {"source", "base", "layers", "heads", "sink"}
    run.wait(lambda: run.stale() == [])
    assert run.project.calls() == ["layers/layer_1", "heads/layer_1", "sink/all"]


def test_a_job_whose_dependency_was_lifted_verifies_its_inputs_and_does_no_harm(run: Run) -> None:
    run.project.trouble("source/all", "no source")
    run.submit()
    run.wait(lambda: run.slurm.ended(run.job("source")) == "FAILED")
    run.wait(lambda: run.slurm.job(run.job("source")) == {})  # forgotten
    script = run.request().folder / "jobs/base.sbatch"
    done = run.slurm.call("sbatch", "--parsable", f"--dependency=afterok:{run.job('source')}", str(script))
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    run.wait(lambda: read_ending(run.request().folder, job) is not None)
    ending = read_ending(run.request().folder, job)
    assert ending
    assert ending.exit_code == 13
    log = (run.request().folder / f"logs/small.base-{job}.out").read_text()
    assert "needs source/all, which has no published result" in log
    assert not (run.project.root / "models").exists()


def test_a_job_that_is_told_to_stop_goes_on_from_where_it_was(run: Run) -> None:
    run.project.trouble("source/all", SLOWLY)
    run.submit()
    job, steps = run.job("source"), run.project.root / "steps.txt"
    run.wait(lambda: steps.exists() and len(steps.read_text()) >= 5)
    assert run.slurm.call("scancel", "--signal=USR1", "--batch", job).returncode == 0
    run.wait(lambda: run.slurm.job(job).get("Restarts") == "1")
    run.project.hurry()
    run.wait(lambda: run.stale() == [])
    assert len(steps.read_text()) == 600  # nothing twice
    entry = Store(str(run.project.root)).current("small", "source", "all")
    assert entry
    assert entry.manifest.predicate.run_details.metadata.invocation_id == f"test/{job}/1"
    log = (run.request().folder / f"logs/small.source-{job}.out").read_text()
    assert "back into the queue" in log
    [at_stop] = re.findall(r"goes on after (\d+) finished steps", log)
    assert 5 <= int(at_stop) < 600


def test_before_its_time_limit_a_job_stops_and_goes_on_in_another_start(
    slurm: Cluster, tmp_path: Path
) -> None:
    minute = {"default": {"cpus": 1, "memory": "1G", "time": "0:01:00"}}
    run = Run(tmp_path, slurm, resources=minute, slurm={"grace": 40})  # leaves twenty seconds a start
    run.project.trouble("source/all", SLOWLY)
    run.submit()
    job, steps = run.job("source"), run.project.root / "steps.txt"
    # Loaded machines have starts that make no step.
    run.wait(lambda: run.slurm.job(job).get("Restarts", "0") != "0" and steps.exists())
    assert 0 < len(steps.read_text()) < 600
    run.project.hurry()
    run.wait(lambda: "source/all" not in run.stale())
    assert len(steps.read_text()) == 600  # nothing twice
    run_command(run, "cancel")


def test_a_job_whose_node_fails_goes_on_when_the_node_is_back(run: Run) -> None:
    run.project.trouble("source/all", SLOWLY)
    run.submit()
    job, steps = run.job("source"), run.project.root / "steps.txt"
    run.wait(lambda: steps.exists() and len(steps.read_text()) >= 5)
    node = run.slurm.ask("sinfo", "-h", "-o", "%n").strip()
    try:
        assert (
            run.slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test").returncode
            == 0
        )
        run.wait(lambda: run.slurm.job(job).get("Restarts") == "1")
    finally:
        run.slurm.call("scontrol", "update", f"nodename={node}", "state=resume")
    run.project.hurry()
    run.wait(lambda: run.stale() == [])
    assert len(steps.read_text()) in (600, 601)  # nothing twice but for the step that it was in


def test_a_preempted_job_goes_on_when_there_is_room_again(slurm: Cluster, tmp_path: Path) -> None:
    run = Run(tmp_path, slurm, slurm={"partition": "scavenge"})
    # slurmctld looks every half a minute who has had his grace
    run.project.trouble("source/all", "steps 1200")
    run.submit()
    job, steps = run.job("source"), run.project.root / "steps.txt"
    run.wait(lambda: steps.exists() and len(steps.read_text()) >= 5)
    urgent = slurm.submit(
        "--partition=main", f"--cpus-per-task={CPUS}", "--mem=60G", script="#!/bin/sh\nsleep 3\n"
    )
    run.wait(lambda: run.slurm.job(job).get("Restarts") == "1")
    assert len(steps.read_text()) < 1200
    run.project.hurry()
    run.wait(lambda: run.slurm.ended(urgent) == "COMPLETED")
    run.wait(lambda: "source/all" not in run.stale())
    assert len(steps.read_text()) in (1200, 1201)  # nothing twice but for the step that it was in
    run_command(run, "cancel")


def test_cancel_takes_everything_back(run: Run) -> None:
    run.project.trouble("source/all", "sleep")
    run.submit()
    run.wait(lambda: run.states()[run.job("source")] == "RUNNING")
    done = run_command(run, "cancel")
    assert done.returncode == 0, done.stderr
    assert "9 jobs cancelled" in done.stdout
    run.wait_for_end()
    assert not any(job.active for job in scheduler.queue(run.submission().job_ids).values())
    assert "no job of it is left" in run_command(run, "cancel").stdout
    run.project.trouble("source/all", None)
    run.submit()
    run.wait(lambda: run.stale() == [])


def test_two_runs_side_by_side_do_not_meet(tmp_path: Path, slurm: Cluster) -> None:
    runs = []
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        runs.append(Run(tmp_path / name, slurm, name))
    for run in runs:
        run.submit()
    for run in runs:
        run.wait(lambda run=run: run.stale() == [])  # type: ignore[misc]
        assert len(set(run.project.calls())) == 9


NOBODY = 65534


def test_two_users_side_by_side_do_not_meet(slurm: Cluster) -> None:
    """The same configuration of root and of an ordinary user, who takes the system's Python: root's may be shut away."""
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    packages = f"{CODE / 'src'}:{sysconfig.get_paths()['purelib']}"
    ordinary: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if os.geteuid() != 0:
        pytest.skip("only root can submit as two users")
    try:
        environment = {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            [python, "-c", "import ghosttrack.orchestrate.cli"],
            env=environment,
            cwd="/",
            check=True,
            **ordinary,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"an ordinary user cannot read this code or run {python}")
    for parent in [slurm.folder, *slurm.folder.parents]:
        if Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(0o755)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "mine").mkdir()
        (folder / "yours").mkdir()
        mine = Run(folder / "mine", slurm)
        yours = Run(folder / "yours", slurm)
        for path in [folder / "yours", *(folder / "yours").rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        mine.project.trouble("source/all", SLOWLY)  # so that both are there at a time
        mine.submit()
        environment |= {
            "PATH": os.environ["PATH"], "HOME": str(folder / "yours"), "SLURM_CONF": str(slurm.file),
        }  # fmt: skip
        done = start_command(
            yours, "run", wait=True, python=python, env=environment, cwd=folder / "yours", **ordinary
        )
        assert done.returncode == 0, done.stderr
        owners = {line.split()[0] for line in slurm.ask("squeue", "-h", "-o", "%U %i").splitlines()}
        assert owners == {"0", str(NOBODY)}
        mine.project.hurry()
        for run in (mine, yours):
            run.wait(lambda run=run: run.stale() == [])  # type: ignore[misc]
            assert len(set(run.project.calls())) == 9
        [entry] = [Store(str(yours.project.root)).current("small", "sink", "all")]
        assert entry
        assert entry.path.stat().st_uid == NOBODY


def test_ctrl_c_during_submission_leaves_a_record_of_all_that_was_submitted(run: Run, tmp_path: Path) -> None:
    run.project.trouble("source/all", "sleep")
    slow = tmp_path / "slow"
    slow.mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    (slow / "sbatch").write_text(
        f'#!/bin/sh\n{real} "$@"; code=$?; touch {tmp_path}/accepted\n'
        f"while [ ! -e {tmp_path}/pressed ]; do sleep 0.1; done; exit $code\n"
    )
    (slow / "sbatch").chmod(0o755)
    running = start_command(run, "run", path=str(slow))
    run.wait((tmp_path / "accepted").exists)  # and nobody knows its number yet
    running.send_signal(signal.SIGINT)
    (tmp_path / "pressed").touch()
    output, error = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, error
    assert "1 of 5 jobs are submitted and recorded" in output
    submission = run.submission()
    assert not submission.complete
    assert [line.split()[0] for line in run.slurm.queue()] == submission.job_ids
    assert run_command(run, "cancel").returncode == 0
    run.wait(lambda: not run.slurm.queue())


def test_no_account_is_one_clear_error(tmp_path: Path, slurm: Cluster) -> None:
    run = Run(tmp_path, slurm, slurm={"partition": "members"})
    with pytest.raises(
        SchedulerError, match=r"Invalid account.*correct slurm\.account in the cluster profile"
    ):
        run.submit()
    assert read_submission(run.request().folder) is None
    (tmp_path / "member").mkdir()
    member = Run(tmp_path / "member", slurm, slurm={"partition": "members", "account": "physics"})
    member.submit()
    member.wait(lambda: member.stale() == [])


def test_a_partition_that_is_none_is_one_clear_error(tmp_path: Path, slurm: Cluster) -> None:
    run = Run(tmp_path, slurm, slurm={"partition": "nowhere"})
    with pytest.raises(SchedulerError, match=r"(?i)invalid partition.*sinfo -s"):
        run.submit()
    assert read_submission(run.request().folder) is None
    assert not slurm.queue()


def test_a_scheduler_that_is_silent_for_a_while_loses_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scheduler, "WAITS", (1.0, 1.0, 1.0, 1.0))
    silence = run.slurm.silent()
    silence.__enter__()
    threading.Timer(7, lambda: silence.__exit__(None, None, None)).start()
    run.submit()
    assert "gets no answer" in capsys.readouterr().out
    run.wait(lambda: run.stale() == [])
    calls = run.project.calls()
    assert sorted(calls) == sorted(set(calls))
    assert len(run.submission().jobs) == 5


def test_a_scheduler_that_stays_silent_is_one_clear_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "WAITS", (0.1,))
    with run.slurm.silent(), pytest.raises(SchedulerError, match=r"did not answer 2 times.*scontrol ping"):
        run.submit()
    run.slurm.cancel_all()


def test_a_script_can_be_submitted_by_hand(run: Run) -> None:
    request = run.request()
    from ghosttrack.orchestrate.slurm.submit import setting_of, write_scripts

    scripts = write_scripts(setting_of(request, {}), chain_of(request.plan()))
    before = ""
    for link in ("source", "base", "layers", "heads", "sink"):
        script = scripts[link][0]
        assert script.stat().st_mode & stat.S_IXUSR
        options = [f"--dependency=afterok:{before}"] if before else []
        before = run.slurm.call("sbatch", "--parsable", *options, str(script)).stdout.strip()
    run.wait(lambda: run.stale() == [])
    joined = json.loads((run.project.root / "results/small/sink/joined.json").read_text())
    assert len(joined["parts"]) == 3
