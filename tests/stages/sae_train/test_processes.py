"""Two processes, started for real by accelerate's launcher, share the layers: each trains a group of them side by side."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ghosttrack.common.files import sha256_of

pytestmark = pytest.mark.slow

CODE = Path(__file__).parents[3]


def stage(name: str, root: Path, *options: str) -> None:
    command = [sys.executable, "-m", f"ghosttrack.stages.{name}", "--config", "demo", "--stub"]
    settings = ("--set", f"paths.root={root}", "--set", "sae.independent_twin=true")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *settings, *options], cwd=CODE, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_processes_train_the_saes_that_one_trains(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    for name in ("prepare", "extract"):
        stage(name, alone)
    shutil.copytree(alone, together, symlinks=True)
    units = [
        f"--unit={unit}"
        for unit in ("base", *(f"{kind}_{n}" for n in range(4) for kind in ("layer", "independent")))
    ]
    stage("sae_train", alone, *units)
    stage("sae_train", together, *units, "--processes", "2", "--set", "sae_training.layers_together=2")
    folders = [root / "models/checkpoints/demo-stub" for root in (alone, together)]
    digests = [
        {path.name: sha256_of(path) for path in folder.iterdir() if "manifest" not in path.name}
        for folder in folders
    ]
    assert len(digests[0]) == 2 + 4 * 2 * 2
    assert digests[0] == digests[1]
