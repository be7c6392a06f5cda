"""A tiny model and a packed corpus as the prepare stage publishes them, in a store of their own."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit, expand, load_contract
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.stages.extract.run import run
from tests.common.results import manifest_of
from tests.tiny_models import D_MODEL, N_LAYERS, VOCABULARY, save_random_model

STAGES = Path(__file__).resolve().parents[3] / "stages"
LENGTH, TOKENS = 16, 16 * 21 + 5
"""Tokens a row; of the corpus, whose last row is short."""


def packed(n_tokens: int = TOKENS, length: int = LENGTH) -> dict[str, Tensor]:
    """Documents of 1 to 15 tokens; a segment never crosses a row; every fourth document is held out."""
    random = torch.Generator().manual_seed(3)
    doc, position = [], []
    while len(doc) < n_tokens:
        left = length - len(doc) % length
        size = min(int(torch.randint(1, 16, (1,), generator=random)), left)
        doc += [doc[-1] + 1 if doc else 0] * size
        position += range(size)
    columns = [torch.tensor(column[:n_tokens], dtype=torch.int32) for column in (doc, position)]
    documents = int(columns[0].max()) + 1
    return {
        "tokens": torch.randint(VOCABULARY, (n_tokens,), dtype=torch.int32, generator=random),
        "doc": columns[0],
        "position": columns[1],
        "doc_held_out": torch.arange(documents) % 4 == 0,
        "doc_kind": (torch.arange(documents) % 3 == 0).to(torch.uint8),
    }


def configured(root: Path, **extract: Any) -> Config:
    settings = {"max_length": LENGTH, "shard_rows": 2, "batch_size": 2, "dtype": "float32", **extract}
    return Config.model_validate(
        {
            "name": "tiny",
            "paths": {"root": str(root)},
            "model": {"base_model": "none", "d_model": D_MODEL, "n_layers": N_LAYERS},
            "data": {"max_tokens": TOKENS},
            "sae": {"d_hidden": 64, "target_l0": 4},
            "sae_training": {"base_tokens_per_layer": 90},
            "extract": settings,
        }
    )


def prepare(
    config: Config,
    corpus: Mapping[str, Tensor] | None = None,
    write_model: Callable[[Path], object] = lambda out: save_random_model(out, "llama"),
) -> None:
    """Publish prepare/model and prepare/corpus."""
    units = {unit.name: unit for unit in expand(load_contract(STAGES / "prepare"), config)}
    store = Store(config.paths.root)
    publish(store, units["model"], write_model)
    publish(store, units["corpus"], lambda out: torch.save(corpus or packed(), out / "corpus.pt"))


def publish(store: Store, unit: Unit, write: Callable[[Path], object]) -> None:
    """Publish what `write` puts into the folder that it is given as a unit's result."""
    scratch = store.root / "scratch" / unit.name
    scratch.mkdir(parents=True)
    write(scratch)
    files = {path.name: path.read_bytes() for path in scratch.iterdir()}
    key, statement = manifest_of(unit, files)
    out = store.staging(unit, key) / "out"
    for name, content in files.items():
        (out / name).write_bytes(content)
    store.publish(unit, key, statement)


def extract(config: Config, *names: str) -> None:
    """Run the stage in this process: all of its units, or those of these names."""
    run_units(load_contract(STAGES / "extract"), run, config, names=names, log=logging.getLogger("test"))


def result(config: Config, unit: str = f"layers_0-{N_LAYERS - 1}") -> Entry | None:
    return Store(config.paths.root).current(config.name, "extract", unit)


def digests(config: Config, unit: str = f"layers_0-{N_LAYERS - 1}") -> dict[str, str]:
    """File to sha256 of a published unit."""
    entry = result(config, unit)
    assert entry
    return {subject.name: subject.sha256 for subject in entry.manifest.subject}
