"""Every figure of every method with its interval, and the paired differences between methods."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common import metrics
from stages.evaluate.baselines import Method
from stages.evaluate.bootstrap import centred, figure, group_weights
from stages.evaluate.schema import Comparison, Figure, Figures, MethodReport, RelationReport

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RankedBy = Literal["auroc", "auroc_within_relation"]


class Sample(NamedTuple):
    """The n labelled questions and how they are resampled."""

    labels: Floats  # [n] 1 wrong
    relation: Ints  # [n] relation number
    relations: list[str]  # names by number
    weights: Floats  # [B, n] from `group_weights`
    confidence: float

    @classmethod
    def of(
        cls, labels: Floats, relations: Sequence[str], groups: Sequence[str], resamples: int, confidence: float,
        seed: int,
    ) -> Sample:  # fmt: skip
        names, numbers = np.unique(list(relations), return_inverse=True)
        return cls(labels, numbers, names.tolist(), group_weights(groups, resamples, seed), confidence)


class Values(NamedTuple):
    """Figures of one method: the sample's in row 0, the resamples' after it."""

    by_name: dict[str, Floats]  # figure → [1 + B]
    by_relation: Floats  # [1 + B, n_relations] AUROC, NaN where a class is missing


def measure(sample: Sample, method: Method) -> Values:
    """All figures of a method in the sample and in each resample."""
    y, weights = sample.labels, np.concatenate([metrics.ones(len(sample.labels)), sample.weights])
    ranks = metrics.rank_metrics(y, method.score, weights)
    decisions = metrics.decision_metrics(y, method.predicted, weights)
    ece = metrics.expected_calibration_error(y, method.probability, weights)
    inside = np.zeros(len(y)) if method.constant_in_relation else method.score
    by_relation = metrics.auroc_by_block(y, inside, sample.relation, weights)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # no relation with both classes: NaN, which is the answer
        within = np.nanmean(by_relation, axis=1)
    return Values(
        {
            **ranks._asdict(),
            "auroc_within_relation": within,
            **decisions._asdict(),
            "brier": metrics.brier(y, method.probability, weights),
            "ece": np.append(ece[0], centred(ece[0], ece[1:])),
        },
        by_relation,
    )


def method_report(sample: Sample, method: Method, values: Values) -> MethodReport:
    return MethodReport(
        name=method.name,
        kind="detector" if method.kind == "detector" else "baseline",
        description=method.description,
        figures=Figures(**{name: _figure(column, sample) for name, column in values.by_name.items()}),
    )


def best(candidates: Sequence[str], values: dict[str, Values], metric: RankedBy) -> str:
    """The method with the highest value of a metric; of equal ones the first."""
    return max(candidates, key=lambda name: np.nan_to_num(values[name].by_name[metric][0], nan=-1.0))


def compare(
    sample: Sample, values: dict[str, Values], detector: str, baseline: str, metric: RankedBy
) -> Comparison:
    """Paired difference detector − baseline."""
    difference = _figure(values[detector].by_name[metric] - values[baseline].by_name[metric], sample)
    verdict: Literal["better", "worse", "not told apart"] = "not told apart"
    if difference.low is not None and difference.low > 0:
        verdict = "better"
    elif difference.high is not None and difference.high < 0:
        verdict = "worse"
    return Comparison(
        detector=detector, baseline=baseline, metric=metric, difference=difference, verdict=verdict
    )


def relation_reports(sample: Sample, values: dict[str, Values]) -> list[RelationReport]:
    """A row a relation, the most frequent first."""
    rows = [
        RelationReport(
            relation=name,
            n=int((sample.relation == number).sum()),
            n_wrong=int(sample.labels[sample.relation == number].sum()),
            auroc={method: _figure(v.by_relation[:, number], sample) for method, v in values.items()},
        )
        for number, name in enumerate(sample.relations)
    ]
    return sorted(rows, key=lambda row: (-row.n, row.relation))


def _figure(column: Floats, sample: Sample) -> Figure:
    return figure(float(column[0]), column[1:], sample.confidence)
