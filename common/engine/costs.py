"""What a unit is expected to take, as its stage tells it in `stages/<name>/costs.py`, a module that loads no torch.

That module has a function `cost(quantities, unit) -> Cost | None` (None: nobody knows), and where it computes, `EFFICIENCY`
and `GPU_EFFICIENCY`, the shares of a matrix product's rate that it reaches (1 unless given), and a function
`memory(quantities) -> float`, bytes of one process. A stage without the module has no known costs.
"""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.fingerprint import FACTBOOK, FACTBOOK_PROFILES, FACTBOOK_QUESTIONS, local_path
from ghosttrack.common.models.sizes import weights_and_vocabulary

MODULE = "costs.py"
VOCABULARY = 50_000
"""Tokens of a model that does not tell before it is fetched."""
PACKED = 0.5
"""Share of the formula's weights; with fewer in its files a model is packed, several to a number."""
ALL_QUESTIONS = 5_000
"""Of a data set of which nobody knows how many it has."""
QUESTIONS = {FACTBOOK: 9_000, FACTBOOK_QUESTIONS: 9_000, FACTBOOK_PROFILES: 200}
"""Of those that come with the product, about."""
BY_LINES = frozenset({".jsonl", ".csv", ".tsv"})
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


def expected_questions(source: str, most: int | None) -> int:
    """How many questions a value of `data.questions` will give, before it is read. most: of `data.max_questions`."""
    count, path = QUESTIONS.get(source, ALL_QUESTIONS), local_path(source, "data.questions")
    if path and path.is_file() and path.suffix.lower() in BY_LINES:
        with contextlib.suppress(OSError), path.open("rb") as lines:
            count = sum(1 for _ in lines)
    return min(count, most or count)


@dataclass(frozen=True)
class Quantities:
    """What the formulas are made of: `q["data.max_tokens"]` is a key of the configuration, the rest is worked out."""

    settings: Mapping[str, Any]
    """Dotted key to value of a configuration; beside them `layers`, and `questions`: how many are asked."""

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    @property
    def d_model(self) -> int:
        return int(self["model.d_model"])

    @property
    def d_hidden(self) -> int:
        return int(self["sae.d_hidden"])

    @property
    def layers(self) -> int:
        return len(self["layers"])

    @property
    def row_bytes(self) -> int:
        """A token's state of one layer, as it is stored."""
        dtype = self["extract.dtype"]
        return self.d_model * ITEM_BYTES[dtype] + SCALE_BYTES.get(dtype, 0)

    @property
    def train_tokens(self) -> float:
        return float(self["data.max_tokens"] * (1 - self["data.held_out_fraction"]))

    @property
    def base_tokens(self) -> float:
        """A layer's tokens in the pooled sample that the shared base is trained on."""
        return min(self["sae_training.base_tokens_per_layer"], self.train_tokens)

    @property
    def base_samples(self) -> float:
        return self.base_tokens * self.layers * self["sae_training.base_epochs"]

    @property
    def questions(self) -> int:
        return int(self["questions"])

    @property
    def answer(self) -> int:
        """Tokens."""
        most = self["tracking.max_new_tokens"]
        return most // 2 if most >= LONG_ANSWER else min(most, TOKENS_PER_ANSWER)

    @functools.cached_property
    def _weights_and_vocabulary(self) -> tuple[int | None, int | None]:
        return weights_and_vocabulary(self["model.base_model"])

    @property
    def vocabulary(self) -> int:
        return self._weights_and_vocabulary[1] or VOCABULARY

    @property
    def block_parameters(self) -> float:
        return 12.0 * self["model.n_layers"] * self.d_model**2

    @property
    def model_parameters(self) -> float:
        """By the model's files where they are at hand."""
        by_formula = self.block_parameters + self.vocabulary * self.d_model
        weights, _ = self._weights_and_vocabulary
        return by_formula if weights is None or weights < PACKED * by_formula else weights

    @property
    def sae_bytes(self) -> float:
        """Of one SAE, exact but for headers."""
        return 4.0 * (2 * self.d_model * self.d_hidden + 2 * self.d_hidden + self.d_model)


@dataclass(frozen=True)
class Cost:
    """flop: its arithmetic; seconds: what it takes besides; size: bytes that it writes."""

    flop: float = 0.0
    seconds: float = 0.0
    size: float = 1e5


def _unknown(*_: object) -> None:
    return None


@dataclass(frozen=True)
class StageCosts:
    """What a stage tells of itself."""

    cost: Callable[[Quantities, Unit], Cost | None] = _unknown
    efficiency: float = 1.0
    gpu_efficiency: float = 1.0
    memory: Callable[[Quantities], float | None] = _unknown

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
