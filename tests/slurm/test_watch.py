"""What the watching commands say about jobs on a real SLURM, and how often they ask it."""

import subprocess
from pathlib import Path

import pytest

from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.status import LinkStatus
from ghosttrack.orchestrate.watching import overview
from tests.slurm.runs import Run, run_command

pytestmark = pytest.mark.slurm


def links(run: Run) -> dict[str, LinkStatus]:
    return {link.link: link for link in overview(run.request()).jobs.links}


def causes(run: Run) -> dict[str, str]:
    return {t.units[0]: t.cause for link in links(run).values() for t in link.troubles}


def test_waiting_running_failed_and_held_are_told_apart(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.project.trouble("source/all", "steps 600")
    run.project.trouble("layers/layer_1", "no luck")
    run.submit()
    run.wait(lambda: links(run)["source"].running == 1)
    assert links(run)["heads"].waiting == 3
    assert "Dependency" in links(run)["layers"].reason
    assert overview(run.request()).jobs.active
    run.project.hurry()
    run.wait_for_end()
    run.wait(lambda: causes(run) == {"layers/layer_1": "FAILED", "heads/layer_1": "DependencyNeverSatisfied"})
    run.wait(
        lambda: not overview(run.request()).jobs.active
    )  # the scheduler gives up each waiting job at its own time
    found = links(run)
    assert (found["layers"].done, found["layers"].failed, found["sink"].waiting) == (2, 1, 1)
    [trouble] = found["layers"].troubles
    assert any("no luck" in line for line in trouble.tail)
    assert "ghosttrack rerun" in trouble.mend
    capsys.readouterr()
    Terminal().overview(overview(run.request()))
    text = capsys.readouterr().out
    for part in ("small", "layers", "2/3", "FAILED", "no luck", "ghosttrack rerun"):
        assert part in text
    done = run_command(run, "watch")
    assert done.returncode == 1
    assert "layers/layer_1: FAILED" in done.stderr


def test_status_asks_the_scheduler_once(run: Run, tmp_path: Path) -> None:
    run.project.trouble("source/all", "sleep")
    run.submit()
    spies = tmp_path / "spies"
    spies.mkdir()
    for name in ("squeue", "scontrol", "sinfo", "sacct", "scancel"):
        real = subprocess.run(["which", name], capture_output=True, text=True).stdout.strip() or "false"
        (spies / name).write_text(f'#!/bin/sh\necho {name} >> {tmp_path}/calls\nexec {real} "$@"\n')
        (spies / name).chmod(0o755)
    done = run_command(run, "status", path=str(spies))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().split() == ["squeue"]


def test_cancelled_and_forgotten_jobs_are_known_for_what_they_are(run: Run) -> None:
    run.project.trouble("source/all", "sleep")
    run.submit()
    run.wait(lambda: links(run)["source"].running == 1)
    assert run_command(run, "cancel").returncode == 0
    run.wait(lambda: causes(run).get("source/all") == "CANCELLED")
    run.wait(lambda: not scheduler.queue(run.submission().job_ids))
    assert set(causes(run).values()) <= {"CANCELLED", "FAILED"}
    assert causes(run)["sink/all"] == "CANCELLED"


def test_a_job_that_is_gone_without_a_word_is_known_to_be(run: Run) -> None:
    run.project.trouble("source/all", "sleep")
    submission = run.submit()
    run.wait(lambda: links(run)["source"].running == 1)
    run.slurm.call("scancel", "--signal=KILL", "--full", *submission.job_ids)
    run.slurm.cancel_all()
    run.wait(lambda: not scheduler.queue(submission.job_ids))
    # Whether its script could still write a note, and of what, is a race.
    assert causes(run)["source/all"] in ("vanished", "FAILED", "CANCELLED", "OUT_OF_MEMORY")
    assert causes(run)["sink/all"] == "vanished"
    done = run_command(run, "status")
    assert done.returncode == 0
    assert "it was killed or lost" in done.stdout


def test_a_job_out_of_time_is_known_for_it(run: Run) -> None:
    """The scheduler counts in minutes, so that the shortest limit is one."""
    run.project.trouble("source/all", "sleep")
    submission = run.submit()
    run.wait(lambda: links(run)["source"].running == 1)
    job = submission.jobs[0].job_id
    done = run.slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=00:00:01")
    assert done.returncode == 0, done.stderr
    run.wait(lambda: causes(run).get("source/all") == "TIMEOUT")


def test_a_scheduler_that_is_silent_does_not_hide_the_results(run: Run) -> None:
    run.submit()
    run.wait(lambda: run.stale() == [])
    with run.slurm.silent():
        done = run_command(run, "status")
    assert done.returncode == 0
    assert "the scheduler could not be asked" in done.stdout
    assert "3/3" in done.stdout


def test_watch_ends_when_all_is_done(run: Run) -> None:
    run.submit()
    done = run_command(run, "watch")
    assert done.returncode == 0, done.stderr
    assert run.stale() == []
    logs = run_command(run, "logs")
    assert "layers/layer_2: done" in logs.stdout
    advice = run_command(run, "advice")
    assert "resources:" in advice.stdout
