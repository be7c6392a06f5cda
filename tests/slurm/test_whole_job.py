"""The reference page's job, the whole pipeline in one allocation, submitted as the page says: what only SLURM itself can show.

That the pipeline which it calls runs from `make` to the report is `test_seeds`'.
"""

import subprocess
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.whole import CODE

pytestmark = pytest.mark.slurm
MAKE = """#!/bin/sh
echo "$@" $EXTRACT_BATCH_SIZE $OMP_NUM_THREADS >>calls
[ -n "$SLURM_RESTART_COUNT" ] && exit 0
while [ ! -e "$GHOSTTRACK_STOP_FILE" ]; do sleep 0.2; done
exit 75
"""
"""Works until it is told to stop; done when it is called again."""


def test_the_job_of_the_page_goes_back_into_the_queue_and_on(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").symlink_to(CODE / "jobs")
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("EXTRACT_BATCH_SIZE", "12")
    page = "jobs/gpt2_medium_full_pipeline.sbatch"
    # than 64 cores, 480 GB and 72 hours, which the test's node has not
    less = ["--cpus-per-task=2", "--mem=8G", "--time=1-0"]
    done = subprocess.run(["sbatch", "--parsable", *less, page, "--set", "a=1"],
                          cwd=tmp_path, capture_output=True, text=True, check=True)  # fmt: skip
    job, calls = done.stdout.strip(), tmp_path / "calls"
    slurm.wait(calls.exists, "the job to call make")
    asked = slurm.job(job)
    assert (asked["JobName"], asked["NumCPUs"], asked["TresPerNode"][-5:]) == ("gpt2m-full", "8", "gpu:4")
    slurm.call("scancel", "--batch", "--signal=USR1", job)  # as SLURM does five minutes before the time limit
    slurm.wait(lambda: slurm.job(job).get("Restarts") == "1", "the job to be back in the queue")

    slurm.wait(lambda: slurm.ended(job) == "COMPLETED", "the job to go on to its end")
    assert calls.read_text() == "gpt2-medium EXECUTOR=local CLUSTER=a100-node ARGS=--set a=1 12 2\n" * 2
    assert "back into the queue" in (tmp_path / f"gpt2m-full_{job}.out").read_text()
    assert not list((tmp_path / "runs").iterdir())
