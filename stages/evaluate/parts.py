"""The parts of the final report, each from scores and resampled values."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from ghosttrack.common.formats.detection_metrics import Permutations
from ghosttrack.common.formats.final_report import (
    Confusion,
    DataCard,
    EarlyPoint,
    ErrorType,
    ErrorTypeAgreement,
    Figure,
    MatcherReport,
    MethodCard,
    Permutation,
    RelationReport,
    SaeLayer,
    SaeStack,
    SplitReport,
    StrictReport,
)
from ghosttrack.common.formats.saes import QUALITY, SaeQuality
from ghosttrack.common.maths.metrics import weighted
from ghosttrack.stages.evaluate import scorecard
from ghosttrack.stages.evaluate.curves import curves
from ghosttrack.stages.evaluate.scorecard import Sample, Values, figure
from ghosttrack.stages.evaluate.scores import Detection, ScoredSplit

MAIN_METHODS = 6
MOST_DISAGREEMENTS = 20


def chosen_for_plots(detection: Detection, values: Mapping[str, Values]) -> list[str]:
    """The main detector, the best single baseline, tracks alone, what the main one is without tracks, other singles."""
    cards, main = detection.cards, detection.detector
    ranked = sorted(values, key=lambda name: -np.nan_to_num(values[name].by_name["auroc"][0]))
    singles = single_baselines(cards, ranked)
    tracks = [name for name in ranked if cards[name].kind == "detector" and cards[name].signals == ["tracks"]]
    without = scorecard.without_tracks(main, ranked, cards)
    chosen = dict.fromkeys([main, *singles[:1], *tracks, *([without] if without else [])])
    for name in singles[1:]:
        if not any(cards[name].signals == cards[each].signals for each in chosen):
            chosen[name] = None
    return list(chosen)[:MAIN_METHODS]


def single_baselines(cards: Mapping[str, MethodCard], names: Iterable[str]) -> list[str]:
    """Methods without tracks that rest on one signal; what several do together is compared with and without tracks."""
    return [name for name in names if cards[name].kind == "baseline" and len(cards[name].signals) <= 1]


def split_report(
    detection: Detection, split: ScoredSplit, sample: Sample, values: Mapping[str, Values], main_methods: Sequence[str]
) -> SplitReport:  # fmt: skip
    cards = detection.cards
    kinds = ("detector", "baseline", "rung", "control")
    shown = [name for name in values if cards[name].kind in kinds]
    reports = [scorecard.method_report(sample, cards[name], values[name]) for name in shown]
    reports.sort(key=lambda each: (kinds.index(each.kind), -(each.figures.auroc.value or 0), each.name))
    baselines = single_baselines(cards, (report.name for report in reports))
    best = {metric: scorecard.best(baselines, values, metric) for metric in scorecard.METRICS if baselines}
    label, n = split.label, len(split.label)
    wrong = int(label.sum())
    main = split.methods.get(detection.detector)
    return SplitReport(
        split=split.name,
        title=split.text.title,
        description=split.text.description,
        origin=split.origin,
        n=n,
        n_wrong=wrong,
        n_right=n - wrong,
        prevalence=wrong / n,
        n_groups=split.questions["group"].nunique(),
        n_relations=len(sample.relations),
        repeats=len(next(iter(split.methods.values())).probability),
        f1_all_called_wrong=2 * wrong / (wrong + n),
        methods=reports,
        best_baseline=best,
        comparisons=scorecard.comparisons(sample, values, cards, best),
        confusion=None if main is None else Confusion(
            wrong_called_wrong=float(main.predicted[:, label == 1].sum(axis=1).mean()),
            wrong_called_right=float((1 - main.predicted[:, label == 1]).sum(axis=1).mean()),
            right_called_wrong=float(main.predicted[:, label == 0].sum(axis=1).mean()),
            right_called_right=float((1 - main.predicted[:, label == 0]).sum(axis=1).mean()),
        ),
        curves=curves(sample, {name: split.methods[name] for name in main_methods if name in split.methods}),
    )  # fmt: skip


def data_card(counts: Mapping[str, Any], n_examples: int) -> DataCard:
    """The questions in numbers. counts: of detection_metrics.json; n_examples: facts that are not asked but shown."""
    unexplained = counts["n_questions"] - counts["n_labelled"] - sum(counts["excluded"].values())
    own = {"n_examples": n_examples, "unexplained": unexplained}
    return DataCard(**{name: counts[name] for name in DataCard.model_fields.keys() - own}, **own)


def relation_reports(questions: pd.DataFrame, auroc: Mapping[str, dict[str, Figure]]) -> list[RelationReport]:
    """A row a relation of labelled questions, the most frequent first. auroc: by relation and method."""
    rows = [
        RelationReport(
            relation=str(name), n=len(own), n_wrong=int(own["label"].sum()), auroc=auroc.get(str(name), {})
        )
        for name, own in questions.groupby("relation")
    ]
    return sorted(rows, key=lambda row: (-row.n, row.relation))


def auroc_by_relation(
    sample: Sample, values: Mapping[str, Values], methods: Sequence[str]
) -> dict[str, dict[str, Figure]]:
    return {
        name: {m: figure(values[m].by_relation[:, number], sample.confidence) for m in methods}
        for number, name in enumerate(sample.relations)
    }


def matcher_reports(questions: pd.DataFrame) -> list[MatcherReport]:
    """Each matcher against the labels, and of two matchers how often they differ; those that differ most come first."""
    table = pd.DataFrame([*questions["matched"]], dtype=np.float64)
    says, label = {str(name): said.to_numpy() for name, said in table.items()}, questions["label"].to_numpy()
    reports = []
    for name, said in says.items():
        both = np.flatnonzero(np.isfinite(said) & np.isfinite(label))
        if not len(both):
            continue
        apart = said[both] - label[both]
        reports.append(
            MatcherReport(
                name=name,
                n=len(both),
                n_wrong=int(said[both].sum()),
                wrong_where_label_is_right=int((apart > 0).sum()),
                right_where_label_is_wrong=int((apart < 0).sum()),
                differs={
                    other: int((np.abs(said - o) > 0).sum()) for other, o in says.items() if other != name
                },
                disagreements=questions["id"].iloc[both[apart != 0][:MOST_DISAGREEMENTS]].tolist(),
            )
        )
    reports.sort(
        key=lambda each: (-each.wrong_where_label_is_right - each.right_where_label_is_wrong, each.name)
    )
    return reports


def early_warning(
    detection: Detection, sample: Sample, values: Mapping[str, Values], layers: Sequence[int]
) -> list[EarlyPoint]:
    points = [
        EarlyPoint(
            method=name,
            layer=card.layer,
            depth=1.0 if card.layer is None else sum(layer <= card.layer for layer in layers) / len(layers),
            before_answer=card.before_answer,
            auroc=figure(values[name].by_name["auroc"], sample.confidence),
            auroc_within_relation=figure(values[name].by_name["auroc_within_relation"], sample.confidence),
        )
        for name, card in detection.cards.items()
        if card.kind == "early" and name in values
    ]
    return sorted(points, key=lambda point: (not point.before_answer, point.depth, point.method))


def permutation_report(found: Permutations | None) -> Permutation | None:
    if found is None:
        return None
    permuted = np.array(found.auroc)
    return Permutation(
        n=len(permuted),
        observed=found.observed,
        mean=float(permuted.mean()),
        low=float(permuted.min()),
        high=float(permuted.max()),
        p_value=found.p_value,
        auroc=permuted.tolist(),
        met=bool(0.48 <= permuted.mean() <= 0.52 and found.observed > permuted.max()),
    )


def error_types(
    detection: Detection, sample: Sample, split: ScoredSplit, baseline: str | None
) -> list[ErrorType]:
    """Wrong answers of one type against all right ones, by the main detector and by the best baseline."""
    reports = []
    types = split.questions["error_type"].to_numpy()
    no_figure = figure(np.array([np.nan]), sample.confidence)
    for name, description in detection.error_types.items():
        mine = (types == name) & (split.label == 1)
        if not mine.any():
            continue
        rows = mine | (split.label == 0)
        smaller = sample.only(rows)
        aurocs = {}
        for method in filter(None, (detection.detector, baseline)):
            own = split.methods[method].only(rows)
            ranked = scorecard.measure_ranking(smaller, own, detection.cards[method])
            aurocs[method] = figure(ranked.by_name["auroc"], sample.confidence)
        called = split.methods[detection.detector].predicted[:, mine].mean(axis=0)
        weights = sample.weights[:, mine]
        with np.errstate(invalid="ignore"):
            found = weighted(weights, called) / weights.sum(axis=1)
        reports.append(
            ErrorType(
                name=name,
                description=description,
                n=int(mine.sum()),
                share=float(mine.sum() / split.label.sum()),
                auroc=aurocs[detection.detector],
                baseline_auroc=aurocs[baseline] if baseline else no_figure,
                found=figure(found, sample.confidence),
            )
        )
    return reports


def error_type_agreement(questions: pd.DataFrame) -> ErrorTypeAgreement | None:
    """How far kinds told from accounts are those told from tracks alone; None where no answer has both."""
    pairs = zip(questions["error_type"], questions["error_type_by_tracks"], strict=True)
    both = [pair for pair in pairs if None not in pair]
    if not both:
        return None
    account, tracks = zip(*both, strict=True)
    kinds = sorted({*account, *tracks})
    same = sum(one == other for one, other in both)
    kappa = float(cohen_kappa_score(account, tracks, labels=kinds)) if len(kinds) > 1 else 1.0
    told = [kind for kind in kinds if kind in account]
    counts = {kind: {other: n for other in kinds if (n := both.count((kind, other)))} for kind in told}
    return ErrorTypeAgreement(n=len(both), same=same, kappa=kappa, counts=counts)


def strict_report(
    detection: Detection, sample: Sample, split: ScoredSplit, methods: Sequence[str]
) -> StrictReport | None:
    """The same scores against the strict labels; None if there are none, or of one class only."""
    judged, label = split.questions["strict_label"].to_numpy(), split.label
    rows = np.isfinite(judged)
    if len(np.unique(judged[rows])) < 2:
        return None
    strict = sample.only(rows, judged)
    reports = []
    for name in methods:
        measured = scorecard.measure(strict, split.methods[name].only(rows), detection.cards[name])
        reports.append(scorecard.method_report(strict, detection.cards[name], measured))
    return StrictReport(
        n=int(rows.sum()),
        n_wrong=int(judged[rows].sum()),
        disagree=int((judged != label)[rows].sum()),
        kappa=float(cohen_kappa_score(label[rows], judged[rows])),
        methods=reports,
    )


def read_sae(path: Path) -> tuple[list[SaeLayer], SaeStack]:
    """Quality of each layer's SAE, and of all of them at once. Raises CorruptInputError."""
    quality = SaeQuality.model_validate(QUALITY.read(path))
    matches = {pair.layer: pair.self_match for pair in quality.identity.adjacent}
    found = [
        SaeLayer(
            layer=each.layer, l0=each.l0, fvu=each.fvu, mse=each.mse, dead_fraction=each.dead_fraction,
            ce_recovered=each.splice.ce_recovered["mean"],
            kl_recovered=each.splice.kl_recovered["mean"],
            next_self_match=matches.get(each.layer),
        )
        for each in quality.layers
    ]  # fmt: skip
    whole = quality.all_layers
    stack = SaeStack(
        ce_recovered=whole.ce_recovered["mean"],
        kl_recovered=whole.kl_recovered["mean"],
        fvu_at_the_end=whole.error_by_depth[-1].fvu,
    )
    return found, stack
