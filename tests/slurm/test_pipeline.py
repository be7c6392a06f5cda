"""The real stages on a real SLURM: the stub chain byte for byte as the local executor makes it, and the seeds."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import expand, load_contracts
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.submission import read_submission
from tests import gpt2
from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

CODE = Path(__file__).parents[2]


def profile(folder: Path, **changes: object) -> Path:
    """A site whose jobs compute with one thread, as the runs that they are compared with."""
    settings = {
        "environment": {"OMP_NUM_THREADS": "1"},
        "resources": {"default": {"cpus": 4, "memory": "8G", "time": "1:00:00"}},
        **changes,
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def ghosttrack(*arguments: str, folder: Path = CODE) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CODE / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ghosttrack.orchestrate", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def science(config: Config) -> dict[str, tuple[str, dict[str, str]]]:
    """Unit to its task key and the digests of its files."""
    store, found = Store(config.paths.root), {}
    for contract in load_contracts():
        for unit in expand(contract, config):
            entry = store.current(config.name, unit.stage, unit.name)
            assert entry, unit.label
            found[unit.label] = entry.key, {s.name: s.sha256 for s in entry.manifest.subject}
    return found


def sets(values: Sequence[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


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


@pytest.mark.parametrize(
    ("name", "n_layers", "d_model", "executor", "less"),
    [("gpt2-medium", 24, 1024, "slurm", []), ("gpt2-small", 12, 768, "local", gpt2.LEAST)],
)
def test_the_seeds_from_make_to_the_final_report(
    slurm: Cluster, tmp_path: Path, name: str, n_layers: int, d_model: int, executor: str, less: list[str]
) -> None:
    """The shipped configurations, with all layers in waves of 6 and all latents; little text, one epoch."""
    settings = [*gpt2.build(tmp_path, n_layers, d_model), *less, f"paths.root={tmp_path / 'root'}"]
    resources = {"cpus": 4, "memory": "12G", "time": "2:00:00"}  # two at a time on this machine's fake CPUs
    site = profile(tmp_path, resources={"default": resources})
    environment = Path(sys.prefix)
    done = subprocess.run(
        ["make", "-o", f"{environment}/.installed", name, f"VENV={environment}", f"EXECUTOR={executor}",
         f"CLUSTER={site}", "EXTRACT_BATCH_SIZE=8", "ARGS=" + " ".join(sets(settings))],
        cwd=CODE, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    config = load_config(name, [*settings, "extract.batch_size=8"], environ={})
    if executor == "slurm":
        submission = read_submission(tmp_path / "root/runs" / name)
        assert submission
        assert len(submission.jobs) == 9
        ghosttrack("watch", name, *sets(settings), "--cluster", str(site), "--every", "5")
    root = tmp_path / "root"
    results, saes = root / "results" / name, root / "models/checkpoints" / name
    states = root / "data/cache" / name / "hidden_states"
    for path in [
        *(results / "tracking" / n for n in ("hypothesis_trajectories.json", "semantic_clusters.pkl", "feature_activations.pt")),
        *(results / "detection" / n for n in ("hallucination_scores.json", "classifications.csv", "detection_metrics.json")),
        *(results / "evaluation" / n for n in ("final_report.json", "confusion_matrix.png", "roc_curve.png")),
        *(saes / f"sae_layer_{i}_best.pt" for i in range(n_layers)),
        *(saes / n for n in ("sae_quality.json", "sae_identity.png", f"sae_layer_{n_layers - 1}.png")),
        *(states / f"layer_{i}_states.pt" for i in range(n_layers)),
    ]:  # fmt: skip
        assert path.stat().st_size > 0, path
    report = json.loads((results / "evaluation/final_report.json").read_text())
    assert (report["name"], config.name) == (name, name)
    shutil.rmtree(root)
