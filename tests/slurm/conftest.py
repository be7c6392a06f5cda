"""The tests on a real SLURM run only where they are asked for: `pytest -m slurm`.

Where SLURM is missing they skip; with GHOSTTRACK_REQUIRE_SLURM=1 they fail instead.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs
from tests.slurm.runs import Run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slurm" in (config.option.markexpr or ""):
        return
    asleep = [item for item in items if item.get_closest_marker("slurm")]
    if asleep:
        config.hook.pytest_deselected(items=asleep)
        items[:] = [item for item in items if item not in asleep]


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := missing_programs():
        text = f"SLURM is not installed: there is no {missing[0]}"
        if os.environ.get("GHOSTTRACK_REQUIRE_SLURM") == "1":
            pytest.fail(f"{text}, and GHOSTTRACK_REQUIRE_SLURM=1")
        pytest.skip(text)
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


@pytest.fixture
def run(tmp_path: Path, slurm: Cluster) -> Run:
    return Run(tmp_path, slurm)
