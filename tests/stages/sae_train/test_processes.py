"""Two processes, started for real by accelerate's launcher, share the layers: each trains a group of them side by side."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import STAGES_FOLDER, load_contract
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.files import sha256_of
from ghosttrack.stages.sae_train.run import run
from tests.pipeline import CODE, Pipeline

pytestmark = pytest.mark.slow

UNITS = ("base", *(f"{kind}_{n}" for n in range(4) for kind in ("layer", "independent")))


def test_two_processes_train_the_saes_that_one_trains(stub_run: Pipeline, tmp_path: Path) -> None:
    roots = alone, together = tmp_path / "alone", tmp_path / "together"
    for root in roots:
        shutil.copytree(stub_run.root, root, symlinks=True)
        for trained in ("sae_train", "current/demo-stub/sae_train"):
            shutil.rmtree(root / ".store" / trained)
    twin = "sae.independent_twin=true"
    config = load_config("demo", [f"paths.root={alone}", twin], stub=True, environ={})
    run_units(
        load_contract(STAGES_FOLDER / "sae_train"), run, config, names=UNITS, log=logging.getLogger("test")
    )
    settings = (f"paths.root={together}", twin, "sae_training.layers_together=2")
    done = subprocess.run(
        [sys.executable, "-m", "ghosttrack.stages.sae_train", "--config", "demo", "--stub", "--processes", "2",
         *(part for value in settings for part in ("--set", value)), *(f"--unit={unit}" for unit in UNITS)],
        cwd=CODE, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    digests = [
        {
            path.name: sha256_of(path)
            for path in (root / "models/checkpoints/demo-stub").iterdir()
            if path.exists() and "manifest" not in path.name
        }
        for root in roots
    ]
    assert len(digests[0]) == 2 + 4 * 2 * 2
    assert digests[0] == digests[1]
