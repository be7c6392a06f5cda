"""Retry by cause on a real SLURM."""

from pathlib import Path

import pytest

from ghosttrack.orchestrate.slurm import scheduler
from tests.slurm.cluster import MEMORY_MB, Cluster
from tests.slurm.runs import Run

pytestmark = pytest.mark.slurm
RETRY = {"retry": {"enabled": True, "attempts": 1}}


@pytest.fixture
def run(tmp_path: Path, slurm: Cluster) -> Run:
    return Run(tmp_path, slurm, slurm=RETRY)


def medic_log(run: Run, job: str | None) -> str:
    log = run.request().folder / f"logs/small.retry-{job}.out"
    return log.read_text() if log.exists() else ""


def test_a_killed_task_gets_more_memory_and_the_chain_goes_on_by_itself(run: Run) -> None:
    run.project.trouble("layers/layer_1", "kill once")
    run.project.trouble("heads/layer_0", "steps 3000")  # until the medic has seen that it runs
    medic = run.submit().medic
    run.wait(lambda: "looks after the others" in medic_log(run, medic))  # later, when nothing runs any more
    run.project.hurry()
    run.wait(lambda: run.stale() == [])
    submission = run.submission()
    assert submission.attempt == 1
    assert [(job.link, [task.index for task in job.tasks]) for job in submission.jobs] == [
        ("layers", [1]), ("heads", [1]), ("sink", [None]),
    ]  # fmt: skip
    assert [job.resources.memory for job in submission.jobs] == ["1536M", "1G", "1G"]
    logs = run.request().logs.glob("small.retry-*.out")
    assert sum("layers: OUT_OF_MEMORY; retry 1 of 1" in log.read_text() for log in logs) == 1
    assert submission.medic is None  # the attempts are used up
    calls = run.project.calls()
    assert sorted(calls) == sorted([*set(calls), "layers/layer_1"])


def test_what_a_stage_complains_of_is_not_retried(run: Run) -> None:
    run.project.trouble("source/all", "no luck")
    submission = run.submit()
    run.wait(lambda: "another try does not cure" in medic_log(run, run.submission().medic))
    assert run.submission().jobs == submission.jobs
    assert run.project.calls() == ["source/all"]


def test_after_a_chain_that_succeeds_the_medic_has_nothing_to_do(run: Run) -> None:
    medic = run.submit().medic
    run.wait(lambda: "all is done" in medic_log(run, medic))
    assert run.stale() == []
    run.wait(lambda: not run.slurm.queue())


def test_the_limits_of_a_partition_are_those_of_the_cluster(slurm: Cluster) -> None:
    assert scheduler.limits(None) == scheduler.Limits(MEMORY_MB, 86400)
    assert scheduler.limits("short") == scheduler.Limits(MEMORY_MB, 600)
