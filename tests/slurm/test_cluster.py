"""What the executor relies on is true of the real scheduler."""

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


def test_a_failed_element_holds_its_own_successor_only(slurm: Cluster) -> None:
    first = slurm.submit("--array=0,2", script="[ $SLURM_ARRAY_TASK_ID = 0 ]")
    second = slurm.submit("--array=0,2", f"--dependency=aftercorr:{first}", script="true")
    slurm.wait(lambda: slurm.ended(f"{second}_0") == "COMPLETED")
    assert slurm.job(f"{second}_2")["Reason"] in ("Dependency", "DependencyNeverSatisfied")
    slurm.wait(lambda: slurm.job(f"{second}_2").get("Reason") == "DependencyNeverSatisfied")


def test_a_dependency_on_a_failed_job_that_is_forgotten_never_comes_true_or_is_refused(
    slurm: Cluster,
) -> None:
    """Whatever happens to it, a stage verifies its inputs itself."""
    failed = slurm.submit(script="exit 1")
    slurm.wait(lambda: slurm.job(failed) == {})
    done = slurm.call("sbatch", "--parsable", f"--dependency=afterok:{failed}", "--wrap=true")
    if done.returncode == 0:  # accepted, with the dependency lifted or not
        job = done.stdout.strip()
        slurm.wait(lambda: slurm.ended(job) == "COMPLETED" or slurm.job(job).get("JobState") == "PENDING")
    else:
        assert "dependency" in done.stderr.lower()


def test_the_batch_shell_gets_the_signal_and_a_requeued_job_counts_its_restarts(
    slurm: Cluster, tmp_path: Path
) -> None:
    job = slurm.submit(
        "--requeue",
        "--open-mode=append",
        script=f"""
        trap 'echo stopped-$SLURM_RESTART_COUNT >> {tmp_path}/said; scontrol requeue $SLURM_JOB_ID; sleep 30' USR1
        if [ ${{SLURM_RESTART_COUNT:-0}} = 1 ]; then echo again >> {tmp_path}/said; exit 0; fi
        touch {tmp_path}/ready
        sleep 60 & wait""",
    )
    slurm.wait(lambda: (tmp_path / "ready").exists())
    assert slurm.call("scancel", "--signal=USR1", "--batch", job).returncode == 0
    slurm.wait(lambda: slurm.ended(job) == "COMPLETED")
    assert (tmp_path / "said").read_text().splitlines() == ["stopped-", "again"]


def test_a_silent_scheduler_is_noticed(slurm: Cluster) -> None:
    with slurm.silent():
        done = slurm.call("sbatch", "--wrap=true")
        assert done.returncode != 0
        assert "timed out" in done.stderr
