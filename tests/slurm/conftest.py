"""A real SLURM, for `pytest -m slurm` (`tests/components.py`)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components import missing
from tests.slurm.cluster import Cluster, missing_programs
from tests.slurm.runs import Run


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if programs := missing_programs():
        missing("slurm", f"SLURM is not installed: there is no {programs[0]}")
    if os.geteuid() != 0:
        pytest.skip("the test cluster's daemons run as root")
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def slurm(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A real cluster with an empty queue, which `sbatch` and the like find."""
    monkeypatch.setenv("SLURM_CONF", running_cluster.environment["SLURM_CONF"])
    yield running_cluster
    running_cluster.cancel_all()
    # Jobs that are ending are in the queue for a while, where the next test would find them.
    running_cluster.wait(lambda: not running_cluster.queue(), "an empty queue")


@pytest.fixture
def run(tmp_path: Path, slurm: Cluster) -> Run:
    return Run(tmp_path, slurm)
