"""States that are sums of a few known directions, and a job that runs the stage on files of them."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.states import States
from ghosttrack.stages.sae_train.normalise import LayerStates, fit_layer
from tests.jobs import job_of, unit_of

ROOT = Path(__file__).resolve().parents[3]
INDEX = re.compile(r"index_.*\.pt")
SEGMENT = 40
"""Tokens of a segment; a segment is a document."""


def sparse_states(n_tokens: int, d_model: int, n_directions: int, active: int, seed: int = 0) -> Tensor:
    """[n_tokens, d_model] float32: each token is `active` of the directions, plus noise and an offset."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_directions, d_model, generator=torch.Generator().manual_seed(99))
    directions /= directions.norm(dim=1, keepdim=True)
    chosen = torch.rand(n_tokens, n_directions, generator=g).topk(active, dim=1).indices
    strength = torch.zeros(n_tokens, n_directions)
    strength.scatter_(1, chosen, torch.rand(n_tokens, active, generator=g) + 0.5)
    return 7.0 * (strength @ directions + 0.02 * torch.randn(n_tokens, d_model, generator=g)) + 2.0


def make_index(n_tokens: int) -> dict[str, Tensor]:
    """Segments of SEGMENT tokens; every fifth document is held out."""
    doc = torch.arange(n_tokens, dtype=torch.int32) // SEGMENT
    return {
        "token": torch.zeros(n_tokens, dtype=torch.int32),
        "doc": doc,
        "position": torch.arange(n_tokens, dtype=torch.int32) % SEGMENT,
        "held_out": doc % 5 == 0,
        "kind": torch.zeros(n_tokens, dtype=torch.uint8),
    }


def layer_of(states: Tensor, number: int = 0) -> LayerStates:
    index = make_index(len(states))
    return fit_layer(number, States(states), index["position"], index["held_out"])


def write_extract(folder: Path, layers: dict[int, Tensor]) -> None:
    """Files as the extract stage writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer, states in layers.items():
        torch.save({"states": states.half()}, folder / f"layer_{layer}_states.pt")
    torch.save(make_index(len(next(iter(layers.values())))), folder / "index.pt")


def config(layers: list[int], **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "name": "test",
        "model": {"base_model": "none", "d_model": 24, "n_layers": 4, "layers": layers},
        "sae": {"d_hidden": 64, "target_l0": 6},
        "sae_training": {"batch_size": 128, "epochs": 2, "base_epochs": 2, "learning_rate": 3e-3},
    }
    for section, values in changes.items():
        settings[section] = settings.get(section, {}) | values
    return Config.model_validate(settings)


def job(settings: Config, unit: str, root: Path, extract: Path) -> Job:
    """A job of the stage that writes to root/<unit>/out and finds the base in root/base/out."""
    work = unit_of("sae_train", settings, unit)
    entries = {
        read.name: SimpleNamespace(path=extract, file=lambda name: extract / INDEX.sub("index.pt", name))
        if read.stage == "extract"
        else SimpleNamespace(path=root / "base" / "out", file=(root / "base" / "out").joinpath)
        for read in work.reads
    }
    return job_of(work, settings, root / unit, entries)
