"""How long a unit will take and how many bytes it will write.

From the manifest of the same unit's last run where there is one (or of the same unit of
another layer), scaled by the ratio of the formulas below under the new and the old parameters. Otherwise from
the formulas alone, over the rate of a matrix product measured now. With n layers studied of N blocks,
width d, h latents, T corpus tokens, Q questions, and P = 12·N·d² block parameters:

| unit | FLOP | bytes |
|---|---|---|
| prepare/model | – | 4·(P + 50,000·d) |
| prepare/corpus | – | 12·T |
| extract/layers_a-b | (2·P·T + 2·N·d·L·T)·b/N (attention; L tokens a row) | m·T·(d·(bytes of a number) + (bytes of a scale)) + 14·T, exact but for headers; m layers |
| extract/sample | the same, T the sample's tokens, b = N | the same |
| sae_train/base | d·(2·h + 600·L0) a sample | 4·(2·d·h + 2·h + d), exact but for headers |
| sae_train/layer_i | the same; none with sae.pretrained | the same |
| sae_train/independent_i | the same, and its share of the base's samples | the same |
| sae_train/quality | S·n·3·(P + 2·50,000·d) + 4·n·d·h² (S spliced tokens; half the model is computed on average) | 1.6e5 a page, n + 1 pages |
| track/answers | Q·(prompt + answer)·2·(P + 50,000·d) + Q·answer·n·2·50,000·d (the lens) | Q·answer·n·(2·d + 24) |
| track/contexts | Q·(1 + K)·2·(P·prompt + (P + 50,000·d)·answer) (K contexts) | 60·Q·(1 + K) |
| track/association | F·(2·P + n·2·d·h) + n·h·2·50,000·d (F tokens to fit to) | n·h·600 |
| track/all, track/independent | Q·answer·n·2·d·h, and seconds for each associator | 24·Q·answer·n·k (k tracked latents) |
| track/account | Q·(prompt + answer)·2·P + 3·Q·answer·n·2·d·h | Q·answer·n·(34·m + 10·k) (m candidates) |
| track/causes | (tracking.causes)·30·4·2·P | 1e5 |
| track/validation | (F, at most 4,096)·(2·P + n·2·d·h), and a minute | 1e5 |

A sample of sae_train is a training token times the number of epochs. The remaining stages are seconds
long and grow with Q. The shares of the peak rate (`EFFICIENCY`) were measured on two CPU cores.
"""

import functools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.maths.sampling import sampled_rows

START_SECONDS = 5.0
"""A stage's process: imports, reading inputs, publishing."""
VOCABULARY = 50_000
ALL_QUESTIONS = 5_000
"""Questions where the configuration sets no limit."""
TOKENS_PER_PROMPT = 20
CAUSES_A_QUESTION = 30
"""Interventions, each of some four tokens."""
TOKENS_PER_ANSWER = 6
VALIDATION_TOKENS = 4096
READ_RATE = 50e6
"""Bytes a second at which model weights arrive and are converted."""
TOKENIZER_RATE = 100e3
"""Tokens a second."""
EFFICIENCY = {"extract": 0.5, "sae_train": 3.0, "track": 0.15}
"""Share of the float32 matrix product's rate that a stage reaches; SAE training has a product in bfloat16."""
GPU_EFFICIENCY = {**EFFICIENCY, "sae_train": 0.4}
"""Of a GPU's rate, which is that of its fast arithmetic already."""
ACTIVE_FLOP = 600
"""FLOP in whose time one number of an active latent's row is read, summed and updated."""
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
SCALE_BYTES = {"int8": 4}
"""Beside every row, in storage types that need it."""
PAGE_BYTES = 1.6e5
"""A page of figures, and its share of the JSON."""
INDEX_BYTES = 14
"""A token in an index: token, document, position, held out, kind."""


@dataclass(frozen=True)
class Work:
    """The quantities that the formulas are made of."""

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
    causes: int
    answer: int
    fit_tokens: int
    """Of held-out text, for the association model."""
    associators: int
    """Rungs of the ladder."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Work":
        """From dotted keys of a configuration, `layers` among them."""
        train_tokens = settings["data.max_tokens"] * (1 - settings["data.held_out_fraction"])
        layers = len(settings["layers"])
        dtype, width = settings["extract.dtype"], settings["model.d_model"]
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
            causes=settings["tracking.causes"],
            answer=min(settings["tracking.max_new_tokens"], TOKENS_PER_ANSWER),
            fit_tokens=settings["tracking.fit_tokens"],
            associators=len(settings["tracking.ladder"]),
        )

    @property
    def block_parameters(self) -> float:
        return 12 * self.blocks * self.width**2

    @property
    def model_parameters(self) -> float:
        return self.block_parameters + VOCABULARY * self.width

    def flop(self, unit: Unit) -> float:
        """Arithmetic of a unit."""
        if unit.stage == "extract":
            depth = (unit.layers[-1] + 1) / self.blocks if unit.layers else 1.0
            attention = 2 * self.blocks * self.width * self.row
            return depth * (2 * self.block_parameters + attention) * self._extracted(unit)
        if unit.label == "sae_train/quality":
            losses = 3 * self.splice_tokens * (self.block_parameters + 2 * VOCABULARY * self.width)
            return self.layers * (losses + 4 * self.width * self.latents**2)
        if unit.stage == "sae_train":
            samples = self.base_samples if unit.layer is None else self.train_tokens * self.epochs
            if unit.name.startswith("independent_"):
                samples += self.base_samples / self.layers
            return self.width * (2 * self.latents + ACTIVE_FLOP * self.target_l0) * samples
        if unit.stage == "track":
            return self._tracking_flop(unit)
        return 0.0

    def _tracking_flop(self, unit: Unit) -> float:
        encoding = 2 * self.width * self.latents * self.layers
        unembedding = 2 * self.width * VOCABULARY
        reading = 2 * self.block_parameters + encoding
        asked = {
            "answers": self.questions
            * (
                2 * self.model_parameters * (TOKENS_PER_PROMPT + self.answer)
                + (1 + self.answer) * self.layers * unembedding
            ),
            "contexts": self.questions
            * (1 + self.contexts)
            * 2
            * (self.block_parameters * TOKENS_PER_PROMPT + self.model_parameters * self.answer),
            "asked_contexts": 0.0,
            "association": self.fit_tokens * reading + self.layers * self.latents * unembedding,
            "validation": min(self.fit_tokens, VALIDATION_TOKENS) * reading,
            "all": self.questions * (1 + self.answer) * encoding,
            "account": self.questions
            * (
                2 * self.block_parameters * (TOKENS_PER_PROMPT + self.answer)
                + 3 * (1 + self.answer) * encoding
            ),
            "asked_answers": 0.0,  # nobody has counted the new questions
            "asked": 0.0,
            "causes": self.causes * CAUSES_A_QUESTION * 2 * self.block_parameters * 4,
            "independent": self.questions * (1 + self.answer) * encoding + self.fit_tokens * reading,
        }
        return float(asked[unit.name])

    def seconds(self, unit: Unit, rate: float, efficiency: Mapping[str, float] = EFFICIENCY) -> float:
        """Time of a unit's work at this rate of a matrix product, FLOP a second, of which a stage reaches a share."""
        if self.pretrained and unit.stage == "sae_train" and unit.layer is not None:
            return self.size(unit) / READ_RATE
        others = {
            "prepare/model": 4 * self.model_parameters / READ_RATE,
            "prepare/questions": 2.0,
            "prepare/corpus": self.tokens / TOKENIZER_RATE,
            "track/association": 5 + 1.5 * self.layers,
            "track/all": self.questions * (1 + self.answer) * self.layers * (1 + self.associators) * 1e-4,
            "track/independent": self.questions * (1 + self.answer) * self.layers * 2e-4,
            "track/validation": 30 + 2 * self.layers,
            "detect/all": 10 + 0.03 * self.questions,
            "evaluate/all": 5 + 0.002 * self.questions,
        }
        return self.flop(unit) / (rate * efficiency.get(unit.stage, 1.0)) + others.get(unit.label, 0.0)

    def size(self, unit: Unit) -> float:
        """Bytes that a unit writes."""
        if unit.label == "sae_train/quality":
            return PAGE_BYTES * (self.layers + 1)
        if unit.stage == "sae_train":
            return 4.0 * (2 * self.width * self.latents + 2 * self.latents + self.width)
        if unit.stage == "extract":
            layers = len(unit.layers) or self.layers
            return self._extracted(unit) * float(layers * self.row_bytes + INDEX_BYTES)
        answers = self.questions * (1 + self.answer)
        return {
            "prepare/model": 4 * self.model_parameters,
            "prepare/questions": 600.0 * self.questions,
            "prepare/corpus": 12.0 * self.tokens,
            "track/answers": answers * self.layers * (2.0 * self.width + 24),
            "track/contexts": 60.0 * self.questions * (1 + self.contexts),
            "track/association": 600.0 * self.layers * self.latents,
            "track/all": 24.0 * answers * self.layers * self.top_k,
            "track/account": answers * self.layers * (34.0 * self.candidates + 10.0 * self.top_k),
            "track/independent": 12.0 * answers * self.layers * self.top_k,
            "detect/all": 2e3 * self.questions,
            "evaluate/all": 5e5,
        }.get(unit.label, 1e5)

    def _extracted(self, unit: Unit) -> float:
        """Tokens whose states a unit of extract writes: all, or those of the pooled sample."""
        rows = sampled_rows(self.tokens, self.row, self.base_tokens, self.held_out)
        return self.tokens if unit.layers or rows is None else rows * self.row


class Estimator:
    """Predictions for the units of one configuration.

    entries: `stage/unit` to its published result, of the units that have one.
    """

    def __init__(self, config: Config, entries: Mapping[str, Entry]) -> None:
        settings = settings_of(config)
        earlier = dict(settings)
        for entry in entries.values():
            parameters = entry.manifest.predicate.build_definition.external_parameters
            earlier.update({key: value for key, value in parameters.items() if key in settings})
        self._now, self._earlier = Work.of(settings), Work.of(earlier)
        self._entries = entries
        self._by_kind: dict[str, list[Entry]] = {}
        for label, entry in entries.items():
            self._by_kind.setdefault(_kind(label), []).append(entry)

    def predict(self, unit: Unit, gpu_rate: float | None = None) -> tuple[float, float]:
        """Seconds and bytes. gpu_rate: FLOP a second, where the stage uses GPUs; else this machine's, measured."""
        measured = [self._entries[unit.label]] if unit.label in self._entries else []
        if not measured and unit.layer is not None:
            measured = self._by_kind.get(_kind(unit.label), [])
        if measured:
            seconds = sum(elapsed_of(entry) for entry in measured) / len(measured)
            size = sum(size_of(entry) for entry in measured) / len(measured)
            fixed = min(_start_seconds(unit), seconds)
            # only a ratio is taken, so any plausible rate does for the formula
            before, now = (work.seconds(unit, 1e11) for work in (self._earlier, self._now))
            growth = now / before if before else 1.0
            return fixed + (seconds - fixed) * growth, size * self._now.size(unit) / self._earlier.size(unit)
        if gpu_rate:
            work_seconds = self._now.seconds(unit, gpu_rate, GPU_EFFICIENCY)
        else:
            work_seconds = self._now.seconds(unit, measure_rate())
        return _start_seconds(unit) + work_seconds, self._now.size(unit)


def _kind(label: str) -> str:
    """What a unit has in common with those of other layers."""
    return re.sub(r"_\d+$", "", label)


def settings_of(config: Config) -> dict[str, Any]:
    """Dotted key to value, `layers` among them."""
    return dict(_flatten(config.model_dump(mode="json")), layers=config.layers)


def _start_seconds(unit: Unit) -> float:
    return START_SECONDS if unit.layer is None else START_SECONDS / 20  # layers share a process


@functools.cache
def measure_rate(size: int = 768, seconds: float = 0.05) -> float:
    """FLOP a second of a float32 matrix product on this machine's cores, while nothing else disturbs it; measured once."""
    import numpy as np

    matrix = np.ones((size, size), dtype=np.float32)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or fastest == float("inf"):
        start = time.perf_counter()
        matrix @ matrix
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * size**3 / fastest


def finished_at(entry: Entry) -> datetime:
    """When a result was finished (UTC)."""
    text = entry.manifest.predicate.run_details.metadata.finished_on
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def elapsed_of(entry: Entry) -> float:
    return entry.manifest.predicate.resource_usage.get("elapsedSec") or 0.0


def size_of(entry: Entry) -> int:
    """Bytes that a result took when it was made."""
    return sum(subject.size for subject in entry.manifest.subject)


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
