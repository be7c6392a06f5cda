"""What `final_report.json` holds, field by field. `FinalReport.model_json_schema()` is its JSON Schema.

Label 1 (wrong) is the positive class everywhere: precision is the share of alarms that were wrong answers.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(Record):
    """A figure and its interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class Figures(Record):
    auroc: Figure = Field(
        description="P(score of a wrong answer > score of a right one), all questions pooled."
    )
    auroc_within_relation: Figure = Field(
        description="Mean of the AUROCs inside each relation that has both classes."
    )
    auprc_wrong: Figure = Field(
        description="Average precision, wrong answers positive; chance is the prevalence."
    )
    auprc_right: Figure = Field(
        description="Average precision, right answers positive; chance is 1 − prevalence."
    )
    precision: Figure = Field(
        description="At the threshold that each fold chose on its training side, as are:"
    )
    recall: Figure
    f1: Figure
    accuracy: Figure
    brier: Figure = Field(description="Mean squared error of the calibrated probability.")
    ece: Figure = Field(description="Expected calibration error, 15 bins of equal mass.")


class MethodReport(Record):
    name: str
    kind: Literal["detector", "baseline"] = Field(description="A detector sees tracks, a baseline does not.")
    description: str
    figures: Figures


class Comparison(Record):
    """Paired difference of AUROC, detector − baseline, on the same resamples."""

    detector: str
    baseline: str
    metric: Literal["auroc", "auroc_within_relation"]
    difference: Figure
    verdict: Literal["better", "worse", "not told apart"] = Field(
        description="Whether the interval excludes zero."
    )


class RelationReport(Record):
    relation: str
    n: int
    n_wrong: int
    auroc: dict[str, Figure] = Field(description="Method → AUROC inside the relation.")


class Confusion(Record):
    """Decisions of the first detector on the labelled questions, each at its fold's threshold."""

    wrong_called_wrong: int
    wrong_called_right: int
    right_called_wrong: int
    right_called_right: int
    thresholds: list[float] = Field(description="On the calibrated probability, one a fold.")


class DataCard(Record):
    n_questions: int
    n_labelled: int
    n_wrong: int
    n_right: int
    prevalence: float = Field(description="Share of labelled answers that are wrong.")
    excluded: dict[str, int] = Field(description="Reason → questions left out of fitting and figures.")
    n_groups: int
    n_relations: int
    f1_all_called_wrong: float = Field(description="F1 of calling every answer wrong: what F1 is worth here.")


class SaeLayer(Record):
    """Held-out quality of one layer's SAE; null where it is not defined."""

    layer: int
    l0: float = Field(description="Mean number of active latents a token.")
    fvu: float = Field(description="Fraction of variance unexplained.")
    mse: float = Field(description="Reconstruction loss on normalised states.")
    dead_fraction: float
    ce_recovered: float | None = Field(
        description="Share of mean-ablation's cross-entropy that the SAE in the block's place does not lose."
    )
    kl_recovered: float | None = Field(description="The same for KL to the model as it is.")
    next_self_match: float | None = Field(
        description="Share of latents whose nearest in the next layer is the one with the same number."
    )


class SaeStack(Record):
    """All layers' SAEs in the model at once."""

    ce_recovered: float | None = Field(description="As of a layer, against all layers' means.")
    kl_recovered: float | None
    fvu_at_the_end: float = Field(
        description="Variance of the last layer's state that is lost, errors of all layers before it included."
    )


class TrackingSummary(Record):
    """Means over all questions at the last answer token."""

    mean_life_layers: float = Field(description="Layers that a track lives.")
    single_layer_share: float = Field(description="Share of tracks that live in one layer only.")
    tracks_per_layer: float
    births_share: float = Field(description="Share of a layer's tracks that were born in it.")


class Expectation(Record):
    """A row of the reference page's table of expected quality."""

    metric: str
    wanted: str
    found: Figure
    met: bool | None
    note: str


class FinalReport(Record):
    schema_version: int = SCHEMA_VERSION
    name: str
    model: str
    layers: list[int]
    seed: int
    confidence: float = Field(description="Coverage of every interval.")
    resamples: int = Field(description="Bootstrap resamples of groups.")
    headline: str = Field(description="The finding in one sentence.")
    data: DataCard
    methods: list[MethodReport] = Field(description="Detectors first, each kind by falling AUROC.")
    best_baseline: str = Field(
        description="The baseline with the highest AUROC, chosen after the fact in its favour."
    )
    comparisons: list[Comparison]
    confusion: Confusion
    relations: list[RelationReport]
    sae: list[SaeLayer]
    sae_all_layers: SaeStack
    tracking: TrackingSummary
    expectations: list[Expectation]
