"""The real stages on a real SLURM: the stub chain byte for byte as the local executor makes it."""

from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import expand, load_contracts
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.submission import read_submission
from tests.slurm.cluster import Cluster
from tests.slurm.whole import ghosttrack, profile, sets

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def science(config: Config) -> dict[str, tuple[str, dict[str, str]]]:
    """Unit to its task key and the digests of its files."""
    store, found = Store(config.paths.root), {}
    for contract in load_contracts():
        for unit in expand(contract, config):
            entry = store.current(config.name, unit.stage, unit.name)
            assert entry, unit.label
            found[unit.label] = entry.key, {s.name: s.sha256 for s in entry.manifest.subject}
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, str]]]:
    """What the local executor makes of the stub configuration in two waves."""
    root = tmp_path_factory.mktemp("local")
    ghosttrack("run", "demo", "--stub", *sets(options(root)), "--executor", "local")
    return science(stub(root))


def options(root: Path) -> list[str]:
    return [f"paths.root={root}", "extract.layers_per_wave=2"]


def stub(root: Path) -> Config:
    return load_config("demo", options(root), stub=True, environ={})


@pytest.mark.parametrize("bounded", [False, True])
def test_the_stub_chain_gives_what_the_local_executor_gives(
    slurm: Cluster, tmp_path: Path, local: dict[str, tuple[str, dict[str, str]]], bounded: bool
) -> None:
    """Unbounded, with two processes a job through accelerate."""
    chosen = options(tmp_path / "root")
    if bounded:  # a wave at a time, released when its SAEs are trained
        chosen.append("extract.max_disk_gb=0.005")
        site = profile(tmp_path)
    else:
        one = {"cpus": 4, "memory": "8G", "time": "1:00:00"}
        two = {**one, "processes": 2}
        site = profile(tmp_path, resources={"default": one, "extract": two, "sae_train": two})
    common = ["demo", "--stub", *sets(chosen), "--cluster", str(site)]
    said = ghosttrack("run", *common, "--executor", "slurm")
    config = load_config("demo", chosen, stub=True, environ={})
    submission = read_submission(tmp_path / "root/runs" / config.name)
    assert submission
    assert len(submission.jobs) <= 9
    assert ("removed when its SAEs are trained" in said) is bounded
    ghosttrack("watch", *common, "--every", "2")
    assert science(config) == local
    entry = Store(config.paths.root).current(config.name, "extract", "layers_0-1")
    assert entry
    assert entry.manifest.predicate.resource_usage["processes"] == (1 if bounded else 2)
    states = list((tmp_path / "root/data/cache/demo-stub/hidden_states").glob("layer_*_states.pt"))
    assert len(states) == (0 if bounded else len(config.layers))
    assert "nothing is stale" in ghosttrack("run", *common, "--executor", "slurm")


@pytest.mark.apptainer
def test_the_stub_chain_in_containers_gives_the_same(
    slurm: Cluster, tmp_path: Path, local: dict[str, tuple[str, dict[str, str]]]
) -> None:
    from tests.apptainer.images import built

    images = built()
    site = profile(tmp_path, container="apptainer", images=str(images))
    common = ["demo", "--stub", *sets(options(tmp_path / "root")), "--cluster", str(site)]
    ghosttrack("run", *common, "--executor", "slurm")
    ghosttrack("watch", *common, "--every", "2")
    config = stub(tmp_path / "root")
    assert science(config) == local
    entry = Store(config.paths.root).current(config.name, "track", "all")
    assert entry
    image = entry.manifest.predicate.container_image
    submission = read_submission(tmp_path / "root/runs" / config.name)
    assert image
    assert submission
    assert image["sha256"] == submission.images["track"]
