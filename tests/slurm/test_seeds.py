"""The shipped configurations of GPT-2 from `make` to the final report, by SLURM and by the local executor, on random weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.orchestrate.submission import read_submission
from tests import gpt2
from tests.slurm.cluster import Cluster
from tests.slurm.whole import CODE, ghosttrack, profile, sets

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


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
