"""Every figure of every method on a split with its interval, and the paired differences between methods.

All methods, and all repeats of a cross-validation, see the same resamples, and the figure of a resample is the mean over
its repeats, so that repeats make a figure steadier without making a question count more than once.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ghosttrack.common.formats.final_report import (
    About,
    Comparison,
    Figure,
    Figures,
    Kind,
    MethodCard,
    MethodReport,
    Metric,
    Verdict,
)
from ghosttrack.common.maths import metrics
from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.common.maths.bootstrap import centred, group_weights, interval
from ghosttrack.stages.evaluate.scores import ScoredSplit, Scores

METRICS: tuple[Metric, ...] = ("auroc", "auroc_within_relation")
RELATION_ONLY = {"relation"}
"""A method that sees nothing else gives all questions of a relation the same score, up to what its fold left out."""


class Sample(NamedTuple):
    """The n labelled questions of a split and how they are resampled."""

    labels: Floats  # [n] 1 wrong
    relation: Ints  # [n] relation number
    relations: list[str]  # names by number
    weights: metrics.Weights  # [1 + B, n], of `group_weights`
    confidence: float

    @classmethod
    def of(
        cls, labels: Floats, relations: Sequence[str], groups: Sequence[str], resamples: int, confidence: float,
        seed: int,
    ) -> "Sample":  # fmt: skip
        names, numbers = np.unique(list(relations), return_inverse=True)
        weights = group_weights(groups, resamples, seed)
        return cls(labels, numbers, names.tolist(), weights, confidence)

    def only(self, rows: Bools, labels: Floats | None = None) -> "Sample":
        """The same resamples of some of the rows, or with other labels."""
        names, numbers = np.unique(self.relation[rows], return_inverse=True)
        return Sample(
            (self.labels if labels is None else labels)[rows], numbers, [self.relations[name] for name in names],
            self.weights[:, rows], self.confidence,
        )  # fmt: skip


class Values(NamedTuple):
    """Figures of one method, mean over its repeats: the sample's in row 0, the resamples' after it."""

    by_name: dict[str, Floats]  # figure → [1 + B]
    by_relation: Floats  # [1 + B, n_relations] AUROC, NaN where a class is missing


def measure(sample: Sample, scores: Scores, card: MethodCard) -> Values:
    """All figures of a method in the sample and in each resample."""
    repeats = [
        _one_repeat(sample, *columns)
        for columns in zip(scores.probability, scores.raw_probability, scores.predicted, strict=True)
    ]
    within, by_relation = _within(sample, scores, card)
    by_name = {name: np.mean([each[name] for each in repeats], axis=0) for name in repeats[0]} | within
    for name in ("ece", "ece_before"):
        by_name[name] = centred(by_name[name])
    return Values(by_name, by_relation)


def _one_repeat(
    sample: Sample, probability: Floats, raw_probability: Floats, predicted: Ints
) -> dict[str, Floats]:
    y, weights = sample.labels, sample.weights
    return {
        **metrics.rank_metrics(y, probability, weights)._asdict(),
        **metrics.decision_metrics(y, predicted, weights)._asdict(),
        "brier": metrics.brier(y, probability, weights),
        "brier_skill": metrics.brier_skill(y, probability, weights),
        "ece": metrics.expected_calibration_error(y, probability, weights),
        "ece_by_chance": metrics.calibration_error_by_chance(probability, weights),
        "ece_before": metrics.expected_calibration_error(y, raw_probability, weights),
    }


def measure_ranking(sample: Sample, scores: Scores, card: MethodCard) -> Values:
    """AUROC alone, pooled and within relations."""
    one_block = np.zeros(len(sample.labels), dtype=np.int64)
    pooled = [
        metrics.auroc_by_block(sample.labels, score, one_block, sample.weights)[:, 0]
        for score in scores.probability
    ]
    within, by_relation = _within(sample, scores, card)
    return Values({"auroc": np.mean(pooled, axis=0), **within}, by_relation)


def _within(sample: Sample, scores: Scores, card: MethodCard) -> tuple[dict[str, Floats], Floats]:
    """`auroc_within_relation`, and the AUROC of each relation."""
    alike = set(card.signals) == RELATION_ONLY
    said = np.zeros_like(scores.probability) if alike else scores.probability
    found = [metrics.auroc_by_block(sample.labels, each, sample.relation, sample.weights) for each in said]
    mean = np.mean([metrics.mean_of_defined(each) for each in found], axis=0)
    return {"auroc_within_relation": mean}, np.mean(found, axis=0)


def measure_all(
    sample: Sample, split: ScoredSplit, cards: Mapping[str, MethodCard], on_method: Callable[[], None]
) -> dict[str, Values]:
    """Every method of a split, side by side on all cores; early methods by their ranking alone.

    One thread a method, so that the result does not depend on how many there are.
    """

    def one(name: str) -> Values:
        card = cards[name]
        return (measure_ranking if card.kind == "early" else measure)(sample, split.methods[name], card)

    values = {}
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, found in zip(split.methods, pool.map(one, split.methods), strict=True):
            values[name] = found
            on_method()
    return values


def figure(values: Floats, confidence: float) -> Figure:
    """A value and its interval. values: [1 + B], the sample's own first."""
    return Figure(**interval(values, confidence)._asdict())


def method_report(sample: Sample, card: MethodCard, values: Values) -> MethodReport:
    figures = {name: figure(values.by_name[name], sample.confidence) for name in Figures.model_fields}
    return MethodReport(name=card.name, kind=card.kind, figures=Figures(**figures))


def best(candidates: Sequence[str], values: Mapping[str, Values], metric: Metric) -> str:
    """The method with the highest value of a metric; of equal ones the first."""
    return max(candidates, key=lambda name: np.nan_to_num(values[name].by_name[metric][0], nan=-1.0))


def verdict(difference: Figure) -> Verdict:
    """Whether the interval of a difference excludes zero."""
    if difference.low is None or difference.high is None:
        return "undefined"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "no clear difference"


def compare(
    sample: Sample, values: Mapping[str, Values], about: About, method: str, against: str, metric: Metric
) -> Comparison:
    """Paired difference method − against."""
    of = figure(values[method].by_name[metric] - values[against].by_name[metric], sample.confidence)
    pair = {"about": about, "method": method, "against": against, "metric": metric}
    return Comparison(**pair, difference=of, verdict=verdict(of))


def comparisons(
    sample: Sample,
    values: Mapping[str, Values],
    cards: Mapping[str, MethodCard],
    best_baseline: Mapping[Metric, str],
) -> list[Comparison]:
    """Detectors against the best baseline, rungs against no and random association, signals with and without tracks.

    Of detectors that see the same signals only the first is compared with and without tracks: another kind of model on them
    would differ by more than the tracks.
    """
    pairs: list[tuple[About, str, Mapping[Metric, str]]] = []
    kinds: dict[Kind, list[str]] = {
        kind: [name for name in cards if name in values and cards[name].kind == kind]
        for kind in ("detector", "baseline", "rung")
    }
    if best_baseline:
        pairs += [("detector", name, best_baseline) for name in kinds["detector"]]
    nulls = [name for null in ("random", "none") for name in kinds["rung"] if cards[name].rung == null]
    pairs += [
        ("association", name, dict.fromkeys(METRICS, null))
        for name in kinds["rung"] if name not in nulls
        for null in nulls
    ]  # fmt: skip
    first_with = {frozenset(cards[name].signals): name for name in reversed(kinds["detector"])}
    pairs += [
        ("increment", name, dict.fromkeys(METRICS, without))
        for name in kinds["detector"]
        if name == first_with[frozenset(cards[name].signals)]
        and (without := without_tracks(name, [*kinds["detector"], *kinds["baseline"]], cards))
    ]
    pairs += [("contexts", *pair) for pair in _of_contexts(values, cards)]
    return [
        compare(sample, values, about, method, against[metric], metric)
        for about, method, against in pairs
        for metric in METRICS
    ]


def _of_contexts(
    values: Mapping[str, Values], cards: Mapping[str, MethodCard]
) -> list[tuple[str, Mapping[Metric, str]]]:
    """The anchored detector against everything of one prompt, its controls, and the answer's own log-probability."""
    controls = [name for name, card in cards.items() if card.kind == "control"]
    wanted = [
        *(("anchored", other) for other in ("full", *controls, "anchor", "logprob_sum")),
        ("anchor", "logprob_sum"),
        ("full", "logprob_sum"),
        ("full_contexts", "full"),
    ]
    return [
        (method, dict.fromkeys(METRICS, against))
        for method, against in wanted
        if "anchored" in cards and method in values and against in values
    ]


def without_tracks(name: str, candidates: Sequence[str], cards: Mapping[str, MethodCard]) -> str | None:
    """The method that sees what this one sees except tracks."""
    signals = set(cards[name].signals)
    if "tracks" not in signals or signals == {"tracks"}:
        return None
    return next((other for other in candidates if set(cards[other].signals) == signals - {"tracks"}), None)
