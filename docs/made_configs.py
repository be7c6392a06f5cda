"""The parts of docs/MODEL_CONFIGS.md that come from the code: every key, and what two models are predicted to take.

`python -m docs.made_configs` writes them anew between their marks.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from docs.made_files import filled
from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import load_cluster, load_config
from ghosttrack.common.config.schema import SIZES, Config
from ghosttrack.common.engine.contract import STAGES_FOLDER, Unit, expand, load_contracts
from ghosttrack.common.engine.costs import costs_of
from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.formats.neutral import markdown_table
from ghosttrack.common.formats.saes import INDEPENDENT_SAE, SAE
from ghosttrack.orchestrate.estimate import Estimator
from ghosttrack.orchestrate.plan import gpus_of

DOCUMENT = Path("docs/MODEL_CONFIGS.md")
SMALL, MEDIUM, PROFILE = "gpt2-small", "gpt2-medium", "example-a100"


def parts() -> dict[str, str]:
    """Mark to Markdown."""
    return {"keys": keys(), "comparison": comparison(), "batches": batches()}


def keys() -> str:
    """A table a section of the configuration."""
    return "\n\n".join(_sections(Config, ""))


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    rows, sections = [], []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append((name, field.annotation))
            continue
        default = {"name": "the file's name", **dict.fromkeys(SIZES, "the model's")}.get(name, "*(required)*")
        if not field.is_required():
            default = f"`{_shown(field.get_default(call_default_factory=True))}`"
        rows.append([f"`{prefix}{name}`", default, " ".join((field.description or "").split())])
    if rows:
        title = f"### {prefix.rstrip('.')}\n\n" if prefix else ""
        yield title + markdown_table([["key", "default", "meaning"], *rows])
    for name, section in sections:
        yield from _sections(section, f"{prefix}{name}.")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).replace("'", "")
    return text.lower() if isinstance(value, bool) else text


def comparison() -> str:
    """GPT-2 small beside medium: settings, and the estimator's time, memory and storage with their ratios."""
    profile = load_cluster(PROFILE)
    small, medium = (Predicted(load_config(name, environ={}), profile) for name in (SMALL, MEDIUM))

    def row(title: str, of: Callable[[Predicted], float], show: Any = "{:,}".format) -> list[str]:
        one, other = of(small), of(medium)
        return [title, show(one), show(other), f"{other / one:.2f}×" if one else "–"]

    stages = [
        row(f"  {stage}", partial(Predicted.seconds_of, stage=stage), format_seconds)
        for stage in small.by_stage
    ]
    rows = [
        row("layers", lambda each: each.layers),
        row("width (`model.d_model`)", lambda each: each.config.model.d_model),
        row("latents of a SAE (`sae.d_hidden`)", lambda each: each.config.sae.d_hidden),
        row("rows a forward pass (`extract.batch_size`)", lambda each: each.config.extract.batch_size),
        row("tokens a training step (`sae_training.batch_size`)", lambda each: each.config.sae_training.batch_size),
        row("time, all units one after another", lambda each: each.seconds, format_seconds),
        *stages,
        row("hidden states, all at once", lambda each: each.states, format_bytes),
        row("SAEs", lambda each: each.saes, format_bytes),
        row("everything else", lambda each: each.rest, format_bytes),
        row("memory: a forward pass", lambda each: each.memory("extract"), format_bytes),
        row("memory: training a SAE", lambda each: each.memory("sae_train"), format_bytes),
        row("memory: answers and tracks", lambda each: each.memory("track"), format_bytes),
    ]  # fmt: skip
    return markdown_table([["", SMALL, MEDIUM, "ratio"], *rows])


def batches() -> str:
    """What the batch sizes do to the memory of GPT-2 Medium."""
    config, profile = load_config(MEDIUM, environ={}), load_cluster(PROFILE)
    rows = []
    for extract, train in ((4, 32), (8, 64), (12, 96), (16, 128), (20, 160), (32, 256), (64, 4096)):
        changed = config.model_copy(
            update={"extract": config.extract.model_copy(update={"batch_size": extract}),
                    "sae_training": config.sae_training.model_copy(update={"batch_size": train})}
        )  # fmt: skip
        predicted = Predicted(changed, profile)
        memory = [format_bytes(predicted.memory(stage)) for stage in ("extract", "sae_train")]
        rows.append([str(extract), memory[0], str(train), memory[1]])
    return markdown_table([["`EXTRACT_BATCH_SIZE`", "memory", "`TRAIN_BATCH_SIZE`", "memory"], *rows])


class Predicted:
    """What a whole run of a configuration is expected to take where nothing has run yet."""

    def __init__(self, config: Config, profile: ClusterProfile) -> None:
        self.config, self.layers = config, len(config.layers)
        estimator = Estimator(config, {})
        self._quantities = estimator.now
        self.by_stage: dict[str, float] = {}
        sizes: dict[str, float] = {}
        for contract in load_contracts():
            # Stages without GPUs have next to no arithmetic: one GPU's rate stands in for whatever machine writes this.
            rate = gpus_of(contract, profile)[1] or profile.resources_of(contract.stage).gpu_tflops * 1e12
            for unit in expand(contract, config):
                seconds, size, _ = estimator.predict(unit, rate)
                self.by_stage[unit.stage] = self.by_stage.get(unit.stage, 0.0) + seconds
                kind = _kind(unit)
                sizes[kind] = sizes.get(kind, 0.0) + size
        self.seconds = sum(self.by_stage.values())
        self.states, self.saes, self.rest = (sizes.get(kind, 0.0) for kind in ("states", "saes", "rest"))

    def seconds_of(self, stage: str) -> float:
        return self.by_stage[stage]

    def memory(self, stage: str) -> float:
        """Bytes of one process, on the device where the arithmetic is done, as the stage tells; 0 where it does not."""
        return costs_of(STAGES_FOLDER / stage).memory(self._quantities) or 0.0


def _kind(unit: Unit) -> str:
    if unit.temporary:
        return "states"
    files = {saes.of(unit.layer).name for saes in (SAE, INDEPENDENT_SAE)}
    return "saes" if files & set(unit.writes) else "rest"


if __name__ == "__main__":  # in a clone: an installed package has no docs
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), parts()), encoding="utf-8")
