"""What the stage reads, on a tiny model, in a store of its own: questions, a corpus, SAEs whose latents are alike at all layers."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Contract, Unit, expand, load_contract
from ghosttrack.common.engine.stage import run_units
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.formats.contexts import Context, write_contexts
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track.run import run
from tests.stages.extract import corpora
from tests.tiny_models import D_MODEL, save_random_model

D_HIDDEN = 64
QUESTIONS = [
    ("", "The cat sat on", "cat"),
    ("", "A b", "A"),  # ends at the sequence's first token, which is never tracked
    ("", "Who is he", "Rome"),  # not in the prompt
    ("one two\n", "Rome is", "Rome"),
    ("one two\n", "a", "a"),  # the first of its query, but not of the sequence
]
"""Prefix, query, subject."""


def sae(layer: int, d_hidden: int = D_HIDDEN) -> JumpReLUSAE:
    """The first latents of a wider one are those of a narrower one."""
    random = torch.Generator().manual_seed(7)
    decoder = torch.nn.functional.normalize(torch.randn(d_hidden, D_MODEL, generator=random), dim=1)
    return JumpReLUSAE(
        W_enc=decoder.T.contiguous(), b_enc=torch.zeros(d_hidden), W_dec=decoder, b_dec=torch.zeros(D_MODEL),
        threshold=torch.full((d_hidden,), 0.5), mean=torch.zeros(D_MODEL), scale=3.0, norm_limit=float("inf"),
        layer=layer, target_l0=12.0,
    )  # fmt: skip


def silent(layer: int) -> JumpReLUSAE:
    return replace(sae(layer), threshold=torch.full((D_HIDDEN,), 1e6))


def question(number: int, prefix: str, query: str, subject: str) -> dict[str, Any]:
    return {"id": f"q{number}", "relation": "r", "subject": subject, "prefix": prefix, "query": query, "question": query,
            "answer": "x", "aliases": ["x"]}  # fmt: skip


class TinyRun:
    """`give` publishes what other stages make; `track` runs units of this one."""

    def __init__(
        self, root: Path, *, layers: list[int] | None = None, twin: bool = False, **tracking: Any
    ) -> None:
        (root.parent / "asked.jsonl").write_text("")  # its content is read from prepare/asked
        settings = corpora.configured(root).model_dump(mode="json", exclude_unset=True)
        settings["model"]["layers"] = layers
        settings["data"]["asked"] = str(root.parent / "asked.jsonl")
        settings["sae"] |= {"d_hidden": D_HIDDEN, "independent_twin": twin}
        settings["tracking"] = {
            "max_new_tokens": 3,
            "top_k_features": 12,
            "fit_tokens": 64,
            "clusters": 2,
            **tracking,
        }
        self.config = Config.model_validate(settings)
        self.store = Store(str(root))

    def units(self, stage: str) -> dict[str, Unit]:
        return {unit.name: unit for unit in expand(contract(stage), self.config)}

    def give(
        self,
        questions: Sequence[tuple[str, str, str]] = QUESTIONS,
        saes: Mapping[int, JumpReLUSAE | None] | None = None,
        write_model: Callable[[Path], object] = lambda out: save_random_model(out, "llama"),
    ) -> "TinyRun":
        """saes: those that are not as the others; None leaves one out. write_model: of another model's snapshot."""
        corpora.prepare(self.config, write_model=write_model)
        lines = [json.dumps(question(number, *each)) + "\n" for number, each in enumerate(questions)]
        for name, file in (("questions", "questions.jsonl"), ("asked", "asked.jsonl")):
            self._publish("prepare", name, lambda out, file=file: (out / file).write_text("".join(lines)))
        contexts = [Context(relation="r", context=1, kind="examples", prefix="x y\nz is Rome\n"),
                    Context(relation="r", context=2, kind="halved", prefix="x y\n")]  # fmt: skip
        for name in ("contexts", "asked_contexts"):
            self._publish("prepare", name, lambda out: write_contexts(out / "contexts.jsonl", contexts))
        for layer in self.config.layers:
            one = (saes or {}).get(layer, sae(layer))
            for unit in self.units("sae_train").values():
                if one is not None and unit.layer == layer:
                    [file] = [name for name in unit.writes if name.endswith(".pt")]
                    self._publish(
                        "sae_train", unit.name, lambda out, one=one, file=file: one.save(out / file)
                    )
        return self

    def _publish(self, stage: str, unit: str, write: Callable[[Path], object]) -> None:
        corpora.publish(self.store, self.units(stage)[unit], write)

    def track(self, *units: str) -> "TinyRun":
        run_units(contract("track"), run, self.config, names=units, log=logging.getLogger("test"))
        return self

    def entry(self, unit: str) -> Entry:
        entry = self.store.current(self.config.name, "track", unit)
        assert entry
        return entry

    def metrics(self, unit: str) -> dict[str, Any]:
        return self.entry(unit).manifest.predicate.metrics

    def table(self, unit: str, file: str) -> Any:
        return pq.read_table(self.entry(unit).file(file)).to_pandas()

    def digests(self, unit: str) -> dict[str, str]:
        return {subject.name: subject.sha256 for subject in self.entry(unit).manifest.subject}


def contract(stage: str) -> Contract:
    return load_contract(corpora.STAGES / stage)
