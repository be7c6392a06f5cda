"""What a unit is expected to take, as its stage tells it in `stages/<name>/costs.py`, a module that loads no torch.

That module has a function `cost(quantities, unit) -> Cost | None` (None: nobody knows), and where it computes, `EFFICIENCY`
and `GPU_EFFICIENCY`, the shares of a matrix product's rate that it reaches (1 unless given), and a function
`memory(quantities, config) -> float`, bytes of one process. A stage without the module has no known costs.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.models.sizes import weights_and_vocabulary

MODULE = "costs.py"
VOCABULARY = 50_000
"""Tokens of a model that does not tell before it is fetched."""
PACKED = 0.5
"""Share of the formula's weights; with fewer in its files a model is packed, several to a number."""
ALL_QUESTIONS = 5_000
"""Questions where the configuration sets no limit."""
TOKENS_PER_PROMPT = 20
TOKENS_PER_ANSWER = 4
LONG_ANSWER = 64
"""Most new tokens from which on answers are taken to be half as long as they may be."""
READ_RATE = 140e6
"""Bytes a second at which model weights arrive and are converted."""
ITEM_BYTES = {"auto": 2, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
SCALE_BYTES = {"int8": 4}
"""Beside every row, in storage types that need it."""
INTERPRETER_BYTES = 0.5e9
"""A process with torch and transformers loaded."""
FLOAT = 4
"""Bytes."""


@dataclass(frozen=True)
class Quantities:
    """What the formulas are made of."""

    layers: int
    blocks: int
    width: int
    latents: int
    tokens: int
    row: int
    row_bytes: int
    """A token's state of one layer, as it is stored."""
    base_tokens: float
    """A layer's tokens in the pooled sample that the shared base is trained on."""
    held_out: float
    """Fraction of the documents."""
    train_tokens: float
    epochs: float
    base_samples: float
    splice_tokens: int
    target_l0: float
    pretrained: bool
    """Whether SAEs are read instead of trained."""
    questions: int
    contexts: int
    top_k: int
    candidates: int
    answer: int
    fit_tokens: int
    """Of held-out text, for the association model."""
    associators: int
    """Rungs of the ladder."""
    vocabulary: int
    weights: int | None
    """Numbers in the model's files, where they are at hand."""
    settings: Mapping[str, Any]
    """Dotted key to value of the whole configuration, for what one stage alone asks about."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Quantities:
        """From dotted keys of a configuration, `layers` among them."""
        train_tokens = settings["data.max_tokens"] * (1 - settings["data.held_out_fraction"])
        layers = len(settings["layers"])
        dtype, width = settings["extract.dtype"], settings["model.d_model"]
        weights, vocabulary = weights_and_vocabulary(settings["model.base_model"])
        base_tokens = min(settings["sae_training.base_tokens_per_layer"], train_tokens)
        return cls(
            layers=layers,
            blocks=settings["model.n_layers"],
            width=width,
            latents=settings["sae.d_hidden"],
            tokens=settings["data.max_tokens"],
            row=settings["extract.max_length"],
            row_bytes=width * ITEM_BYTES[dtype] + SCALE_BYTES.get(dtype, 0),
            base_tokens=base_tokens,
            held_out=settings["data.held_out_fraction"],
            train_tokens=train_tokens,
            epochs=settings["sae_training.epochs"],
            base_samples=base_tokens * layers * settings["sae_training.base_epochs"],
            splice_tokens=settings["sae_training.splice_tokens"],
            target_l0=settings["sae.target_l0"],
            pretrained=settings["sae.pretrained"] is not None,
            questions=settings["data.max_questions"] or ALL_QUESTIONS,
            contexts=settings["tracking.contexts"],
            top_k=settings["tracking.top_k_features"],
            candidates=settings["tracking.candidates"],
            answer=_tokens_of_answer(settings["tracking.max_new_tokens"]),
            fit_tokens=settings["tracking.fit_tokens"],
            associators=len(settings["tracking.ladder"]),
            vocabulary=vocabulary or VOCABULARY,
            weights=weights,
            settings=settings,
        )

    @property
    def block_parameters(self) -> float:
        return 12 * self.blocks * self.width**2

    @property
    def model_parameters(self) -> float:
        by_formula = self.block_parameters + self.vocabulary * self.width
        return by_formula if self.weights is None or self.weights < PACKED * by_formula else self.weights

    @property
    def sae_bytes(self) -> float:
        """Of one SAE, exact but for headers."""
        return 4.0 * (2 * self.width * self.latents + 2 * self.latents + self.width)


@dataclass(frozen=True)
class Cost:
    """flop: its arithmetic; seconds: what it takes besides; size: bytes that it writes."""

    flop: float = 0.0
    seconds: float = 0.0
    size: float = 1e5


def _tokens_of_answer(most: int) -> int:
    return most // 2 if most >= LONG_ANSWER else min(most, TOKENS_PER_ANSWER)


def _unknown(*_: object) -> None:
    return None


@dataclass(frozen=True)
class StageCosts:
    """What a stage tells of itself."""

    cost: Callable[[Quantities, Unit], Cost | None] = _unknown
    efficiency: float = 1.0
    gpu_efficiency: float = 1.0
    memory: Callable[[Quantities, Config], float | None] = _unknown

    def seconds(self, quantities: Quantities, unit: Unit, rate: float, gpu: bool = False) -> float | None:
        """Time of a unit's work at this rate of a matrix product, FLOP a second; None where nobody knows."""
        cost = self.cost(quantities, unit)
        if cost is None:
            return None
        return cost.flop / (rate * (self.gpu_efficiency if gpu else self.efficiency)) + cost.seconds

    def size(self, quantities: Quantities, unit: Unit) -> float | None:
        """Bytes that a unit writes; None where nobody knows."""
        cost = self.cost(quantities, unit)
        return None if cost is None else cost.size


@functools.cache
def costs_of(stage_folder: Path) -> StageCosts:
    """Of a stage, from its folder, wherever that lies; nothing else of the stage is loaded."""
    path = stage_folder / MODULE
    if not path.is_file():
        return StageCosts()
    found = importlib.util.spec_from_file_location(f"{stage_folder.name}_costs", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return StageCosts(
        cost=module.cost,
        efficiency=getattr(module, "EFFICIENCY", 1.0),
        gpu_efficiency=getattr(module, "GPU_EFFICIENCY", getattr(module, "EFFICIENCY", 1.0)),
        memory=getattr(module, "memory", _unknown),
    )
