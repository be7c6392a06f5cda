"""What `final_report.json` holds, field by field; published as `docs/final_report.schema.json`.

Label 1 (wrong) is the positive class everywhere: precision is the share of alarms that were wrong answers. Every
figure stands with its interval; null is a figure that is not defined, never one that was left out. Definitions of the
metrics are in `common/maths/metrics.py`, of the intervals in `common/maths/bootstrap.py`.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ghosttrack.common.formats.file import Json, Record

Kind = Literal["detector", "baseline", "rung", "early", "control"]
About = Literal["detector", "association", "increment", "contexts"]
Metric = Literal["auroc", "auroc_within_relation"]
Verdict = Literal["better", "worse", "no clear difference", "undefined"]


class Figure(Record):
    """A figure and its interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class Figures(Record):
    """The figures of one method on one split."""

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
        description="At the threshold that each training side chose on its inner folds, as are:"
    )
    recall: Figure
    f1: Figure
    accuracy: Figure
    brier: Figure = Field(description="Mean squared error of the calibrated probability.")
    brier_skill: Figure = Field(description="1 − Brier / Brier of always saying the prevalence.")
    ece_before: Figure = Field(
        description="Expected calibration error of the probability before calibration."
    )
    ece: Figure = Field(description="The same after calibration; 15 bins of equal mass.")
    ece_by_chance: Figure = Field(
        default=Figure(value=None, low=None, high=None),
        description="What ECE is on average where the probabilities are exact, by the number of answers alone.",
    )
    aurc: Figure = Field(description="Area under the risk–coverage curve; lower is better.")
    e_aurc: Figure = Field(description="AURC − AURC of an oracle that puts every right answer first.")
    prr: Figure = Field(
        description="Prediction rejection ratio: (A − A_random) / (A_oracle − A_random), rejection up to all."
    )
    prr_half: Figure = Field(description="The same with at most half of the answers rejected.")
    coverage_80: Figure = Field(
        description="Largest share of answers that can be kept, least suspicious first, at an accuracy of 80 %."
    )
    coverage_90: Figure = Field(description="The same at an accuracy of 90 %.")


class MethodCard(Record):
    """What a method is; its figures are in the splits."""

    name: str
    title: str = Field(description="As plots and tables call it.")
    kind: Kind = Field(
        description="A detector sees tracks, a baseline does not; a rung is a detector on other associations of the same "
        "latents; an early method sees the first layers only."
    )
    description: str
    signals: list[str] = Field(description="What it sees, such as tracks, lens, logits.")
    rung: str | None = Field(description="The association that a rung's tracks were made by.")
    layer: int | None = Field(description="The last layer that an early method sees.")
    before_answer: bool = Field(description="Sees the prompt alone: known before a token is generated.")


class MethodReport(Record):
    name: str
    kind: Kind
    figures: Figures


class Comparison(Record):
    """Paired difference, method − against, on the same resamples of the same questions."""

    about: About = Field(
        description="detector: a detector against the best single baseline. association: a rung against no association or "
        "random association. increment: the same signals with and without tracks. contexts: the anchored detector against its "
        "trained score of one prompt and its controls, and the anchor against the answer's own log-probability."
    )
    method: str
    against: str
    metric: Metric
    difference: Figure
    verdict: Verdict = Field(description="Whether the interval excludes zero.")


class Confusion(Record):
    """Decisions of the main detector, mean over repeats, each at the threshold of its training side."""

    wrong_called_wrong: float
    wrong_called_right: float
    right_called_wrong: float
    right_called_right: float


class Curve(Record):
    """Points of one method's curve, at most 101, mean over repeats; low and high: the pointwise interval of y."""

    method: str
    x: list[float]
    y: list[float]
    low: list[float] | None
    high: list[float] | None


class Curves(Record):
    """Of the main methods: the `main_methods`."""

    roc: list[Curve] = Field(description="x: false alarm rate, y: share of wrong answers found.")
    precision_recall: list[Curve] = Field(description="x: recall of wrong answers, y: precision.")
    reliability: list[Curve] = Field(
        description="x: mean calibrated probability in a bin of equal mass, y: share wrong there."
    )
    risk_coverage: list[Curve] = Field(description="x: share of answers kept, y: share wrong among them.")


class SplitReport(Record):
    """One way to hold questions back, and every method on it."""

    split: str = Field(description="grouped, test, relations, answers, transfer, transfer_2, …")
    title: str
    description: str
    origin: str | None = Field(
        None,
        description="Of a transfer: the configuration whose detector scored these questions, nothing fitted again.",
    )
    n: int = Field(description="Labelled questions scored.")
    n_wrong: int
    n_right: int
    prevalence: float = Field(description="Share wrong.")
    n_groups: int
    n_relations: int
    repeats: int
    f1_all_called_wrong: float = Field(description="F1 of calling every answer wrong: what F1 is worth here.")
    methods: list[MethodReport] = Field(
        description="Detectors, baselines, rungs; each kind by falling AUROC. Early methods are in `early_warning`."
    )
    best_baseline: dict[Metric, str] = Field(
        description="Of the baselines on one signal, the one with the highest value, chosen after the fact in its favour; empty without one."
    )
    comparisons: list[Comparison]
    confusion: Confusion | None = Field(description="Of the main detector; null if it was not scored here.")
    curves: Curves


class RelationReport(Record):
    relation: str
    n: int
    n_wrong: int
    auroc: dict[str, Figure] = Field(description="Main methods → AUROC inside the relation, grouped split.")


class EarlyPoint(Record):
    """What is known after some layers."""

    method: str
    layer: int | None = Field(description="Last layer seen; null: all of them.")
    depth: float = Field(description="Share of the studied layers seen, 0 to 1.")
    before_answer: bool
    auroc: Figure
    auroc_within_relation: Figure


class Permutation(Record):
    """A ridge regression on the detector's features, by its folds, on labels permuted within relations."""

    n: int
    observed: float = Field(description="Mean AUROC inside a relation and fold, with the true labels.")
    mean: float
    low: float = Field(description="Smallest of all permutations.")
    high: float = Field(description="Largest of all permutations.")
    p_value: float = Field(description="(1 + permutations at least as good) / (n + 1).")
    auroc: list[float]
    met: bool = Field(description="Mean within 0.48 to 0.52, and the observed one beyond every permutation.")


class ErrorType(Record):
    """Wrong answers of one type, and how well the main detector tells them from all right answers."""

    name: str
    description: str
    n: int
    share: float = Field(description="Of all wrong answers.")
    auroc: Figure = Field(description="Answers of this type against all right answers.")
    baseline_auroc: Figure = Field(description="The same by the best baseline.")
    found: Figure = Field(description="Share that the main detector calls wrong.")


class ErrorTypeAgreement(Record):
    """Types told from the accounts of answers against those told from the leaders of tracks alone."""

    n: int = Field(description="Wrong answers.")
    same: int = Field(description="Of the same type by both.")
    kappa: float = Field(description="Cohen's.")
    counts: dict[str, dict[str, int]] = Field(description="Type by the account → type by tracks → answers.")


class StrictReport(Record):
    """The grouped split's scores against the strict labels; nothing was fitted on them."""

    n: int
    n_wrong: int
    disagree: int = Field(description="Questions whose strict label is not the lenient one.")
    kappa: float | None = Field(description="Cohen's kappa between the two.")
    methods: list[MethodReport] = Field(description="Detectors and baselines.")


class MatcherReport(Record):
    """What one matcher says of the labelled answers (`data.matching` chose one of them for the labels)."""

    name: str
    n: int = Field(description="Labelled answers of which it can say something.")
    n_wrong: int = Field(description="Of these, wrong by this matcher.")
    wrong_where_label_is_right: int
    right_where_label_is_wrong: int
    differs: dict[str, int] = Field(
        description="Other matcher → answers of which the two say different things."
    )
    disagreements: list[str] = Field(
        description="Ids of the first questions where it differs from the label."
    )


class DataCard(Record):
    n_questions: int
    n_examples: int = Field(
        0, description="Facts that stand before the questions as worked examples, and are not asked."
    )
    n_labelled: int
    n_wrong: int
    n_right: int
    prevalence: float | None = Field(
        description="Share of labelled answers that are wrong; null without labels."
    )
    excluded: dict[str, int] = Field(description="Reason → questions left out of fitting and figures.")
    unexplained: int = Field(description="Left out without a reason.")
    n_groups: int = Field(description="Groups of questions that never cross a fold.")
    largest_group: int = Field(description="Questions in the largest.")
    n_relations: int


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


class Expectation(Record):
    """A row of a table of expected quality."""

    metric: str
    source: Literal["reference page", "this project"] = Field(
        description="The expectations of the reference page, and the harder ones set here beside them."
    )
    wanted: str
    found: Figure
    met: bool | None = Field(description="null: not measured.")
    note: str


class Headline(Record):
    """The finding in words, for the top of every page; a negative is said as plainly as a positive."""

    contexts: str = Field(
        description="What the candidate answers' standing in other contexts adds to everything of one prompt; empty: not read."
    )
    detector: str = Field(description="Whether the main detector beats the best baseline, by how much.")
    tracking: str = Field(description="Whether tracking helps, by how much, over which baseline.")
    helps: bool | None = Field(
        description="Association beats random and none, and tracks add to the other signals: all three intervals above "
        "zero. null: not all of them were measured."
    )


class FinalReport(Record):
    schema_version: int = 2
    name: str
    model: str
    layers: list[int]
    seed: int
    confidence: float = Field(description="Coverage of every interval.")
    resamples: int = Field(description="Bootstrap resamples of groups.")
    headline: Headline
    undefined: str | None = Field(
        None,
        description="Why wrong answers cannot be told from right ones, as where all are wrong; then there are no methods and splits.",
    )
    data: DataCard
    detector: str = Field(description="The main detector, whose scores and decisions are the published ones.")
    main_methods: list[str] = Field(
        description="Those with curves: the main detector, the best single baseline, tracks alone, all but tracks, other baselines."
    )
    methods: list[MethodCard]
    splits: list[SplitReport] = Field(description="grouped first.")
    absent: list[str] = Field(
        description="What could have been measured and was not, a sentence each; the rest is shown."
    )
    relations: list[RelationReport] = Field(description="The most frequent first.")
    early_warning: list[EarlyPoint] = Field(description="By rising depth; those before the answer first.")
    permutation: Permutation | None
    frozen_test_openings: int | None = Field(
        None,
        description="How many times the frozen test was opened: runs of this configuration that differ in inputs, settings or "
        "code. A figure on it means less the more there are.",
    )
    error_types: list[ErrorType]
    error_type_agreement: ErrorTypeAgreement | None = None
    strict: StrictReport | None
    matching: str = Field("auto", description="`data.matching`: what the labels were decided by.")
    matchers: list[MatcherReport] = Field([], description="Those that differ most from the labels first.")
    sae: list[SaeLayer]
    sae_all_layers: SaeStack
    expectations: list[Expectation]

    def split(self, name: str) -> SplitReport | None:
        return next((each for each in self.splits if each.split == name), None)

    def card(self, method: str) -> MethodCard:
        return next(each for each in self.methods if each.name == method)

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=REPORT.indent) + "\n", encoding="utf-8")


REPORT = Json(
    "final_report.json",
    "evaluate/all",
    "every figure of every method on every split with its interval, comparisons, curves, controls; "
    "[schema](final_report.schema.json)",
    version=2,
    record=FinalReport,
)
