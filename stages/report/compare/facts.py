"""What there is to compare of a run, from its published results; None where a run has not made it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.formats.snapshot import CONFIG
from ghosttrack.common.maths.bootstrap import Interval
from ghosttrack.stages.report.dashboard.run_card import stage_cards
from ghosttrack.stages.report.results import Results

Json = Mapping[str, Any]
SAE_FIGURES = {
    "fvu": "variance unexplained (FVU)", "ce_recovered": "cross-entropy recovered", "l0": "active latents (L0)",
}  # fmt: skip


class ModelFacts(BaseModel):
    """One column of the comparison."""

    model_config = ConfigDict(frozen=True)

    name: str
    """What it is called here: the run's name, with its place where several have that name."""
    run: str
    model: str | None
    layers: int | None
    width: int | None
    latents: int | None
    extract_batch: int | None
    """Rows of a forward pass of the extraction."""
    train_batch: int | None
    """Tokens of a training step of a SAE."""
    model_bytes: int | None
    seconds: dict[str, float]
    """Of the units of a stage, one after another."""
    bytes: dict[str, int]
    """Written by a stage, what was removed since included."""
    memory: float
    questions: int | None
    wrong: int | None
    undefined: str | None = None
    """Why its evaluation has no figures."""
    detector: str | None
    best_baseline: str | None
    figures: dict[str, Interval]
    """Of the main detector on the first split: auroc, auroc_within_relation, f1; `baseline` is the best baseline's AUROC."""
    transfers: dict[str, Interval]
    """AUROC of other configurations' detectors on these questions, nothing fitted again, by where each comes from."""
    sae: list[dict[str, float | None]]
    """A record a layer: depth (0 the model's first block, 1 its last), fvu, l0, ce_recovered."""
    outdated: list[str]
    """Files of an earlier version, whose figures are not read."""


def facts_of(results: Results, name: str | None = None) -> ModelFacts:
    """What a run's results say of its model, SAEs, detector, time and storage.

    name: to call it by, where not by its own. Raises CorruptInputError for a result that is not what its manifest says.
    """
    read = {file: results.json_if_there(file) for file in (REPORT, QUALITY)}
    outdated = [file.name for file, content in read.items() if content and not file.is_current(content)]
    report, quality = (None if file.name in outdated else content for file, content in read.items())
    parameters = {key: value for entry in results.entries.values() for key, value in entry.parameters.items()}
    cards = stage_cards(results)
    split = report["splits"][0] if report and report["splits"] else None
    model = results.entries.get(CONFIG.unit)
    layers = parameters.get("layers")
    blocks = _size(results, parameters, "n_layers", "num_hidden_layers", "n_layer")
    return ModelFacts(
        name=name or results.name,
        run=results.name,
        model=report["model"] if report else parameters.get("model.base_model"),
        layers=len(layers) if layers else None,
        width=_size(results, parameters, "d_model", "hidden_size", "n_embd"),
        latents=parameters.get("sae.d_hidden"),
        extract_batch=_extract_batch(results),
        train_batch=parameters.get("sae_training.batch_size"),
        model_bytes=model.size if model else None,
        seconds={card["stage"]: card["seconds"] for card in cards},
        bytes={card["stage"]: card["bytes"] for card in cards},
        memory=max((card["memory"] for card in cards), default=0.0),
        questions=report["data"]["n_labelled"] if report else None,
        wrong=report["data"]["n_wrong"] if report else None,
        undefined=report.get("undefined") if report else None,
        detector=report["detector"] if report else None,
        best_baseline=(split["best_baseline"].get("auroc") or None) if split else None,
        figures=_figures(report, split),
        transfers=_transfers(report),
        sae=_sae(quality, blocks),
        outdated=outdated,
    )


def stages_of(facts: Sequence[ModelFacts]) -> list[str]:
    """All that any model has results of, in the order in which they run."""
    return list(dict.fromkeys(stage for each in facts for stage in each.seconds))


def _extract_batch(results: Results) -> int | None:
    extracted = [entry for label, entry in results.entries.items() if label.startswith("extract/layers")]
    internal = [entry.manifest.predicate.build_definition.internal_parameters for entry in extracted]
    return internal[0].get("batchSize") if internal else None


def _size(results: Results, parameters: Json, key: str, *names: str) -> int | None:
    """A size of the model: `key` of the parameters, or one of these names in the model's own configuration."""
    if f"model.{key}" in parameters:
        return int(parameters[f"model.{key}"])
    config = results.json_if_there(CONFIG) or {}
    return next((config[name] for name in names if config.get(name)), None)


def _figures(report: Json | None, split: Json | None) -> dict[str, Interval]:
    if report is None or split is None:
        return {}
    by_name = {method["name"]: method["figures"] for method in split["methods"]}
    main, base = by_name.get(report["detector"], {}), by_name.get(split["best_baseline"].get("auroc", ""), {})
    found = {key: main[key] for key in ("auroc", "auroc_within_relation", "f1") if key in main}
    if "auroc" in base:
        found["baseline"] = base["auroc"]
    return {key: Interval(**figure) for key, figure in found.items()}


def _transfers(report: Json | None) -> dict[str, Interval]:
    return {
        split["origin"]: Interval(**method["figures"]["auroc"])
        for split in (report["splits"] if report else [])
        for method in split["methods"]
        if report and split.get("origin") and method["name"] == report["detector"]
    }


def _sae(quality: Json | None, blocks: int | None) -> list[dict[str, float | None]]:
    """blocks: of the model; where that is not known, the last studied layer counts as its last."""
    if not quality:
        return []
    last = max(blocks - 1, 1) if blocks else max([each["layer"] for each in quality["layers"]] + [1])
    found = []
    for each in quality["layers"]:
        recovered, depth = each["splice"]["ce_recovered"]["mean"], each["layer"] / last
        found.append({"depth": depth, "fvu": each["fvu"], "l0": each["l0"], "ce_recovered": recovered})
    return found
