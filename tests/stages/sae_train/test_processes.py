"""Two processes, started for real by accelerate's launcher or forked, share the layers: each trains some of them."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import STAGES_FOLDER, load_contract
from ghosttrack.common.engine.stage import Job, run_units
from ghosttrack.common.files import sha256_of
from ghosttrack.stages.sae_train.run import run
from tests.commands import python
from tests.pipeline import CODE, Pipeline

pytestmark = pytest.mark.slow

UNITS = ("base", *(f"{kind}_{n}" for n in range(4) for kind in ("layer", "independent")))


def test_two_processes_train_the_saes_that_one_trains(
    stub_run: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = alone, forked, together = [tmp_path / name for name in ("alone", "forked", "together")]
    for root in roots:
        shutil.copytree(stub_run.root, root, symlinks=True)
        for trained in ("sae_train", "current/demo-stub/sae_train"):
            shutil.rmtree(root / ".store" / trained)
    twin = "sae.independent_twin=true"
    processes = tmp_path / "processes"

    def followed(job: Job) -> dict[str, Any]:
        with processes.open("a") as lines:
            lines.write(f"{os.getpid()}\n")
        return run(job)

    for root, threads in ((alone, 1), (forked, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        config = load_config("demo", [f"paths.root={root}", twin], stub=True, environ={})
        contract = load_contract(STAGES_FOLDER / "sae_train")
        run_units(contract, followed, config, names=UNITS, log=logging.getLogger("test"))
        used = processes.read_text().split()
        processes.unlink()
        assert len(used) == len(UNITS)
        assert len(set(used)) == (1 if threads == 1 else 3)  # this one trains the base
    settings = (f"paths.root={together}", twin, "sae_training.layers_together=2")
    python(
        "-m", "ghosttrack.stages.sae_train", "--config", "demo", "--stub", "--processes", "2",
        *(part for value in settings for part in ("--set", value)), *(f"--unit={unit}" for unit in UNITS), cwd=CODE,
    )  # fmt: skip
    digests = [
        {
            path.name: sha256_of(path)
            for path in (root / "models/checkpoints/demo-stub").iterdir()
            if path.exists() and "manifest" not in path.name
        }
        for root in roots
    ]
    assert len(digests[0]) == 2 + 4 * 2 * 2
    assert digests[0] == digests[1] == digests[2]
