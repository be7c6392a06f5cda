"""Differences between two models on the questions that both were asked, with paired intervals.

Each model gave its own answers, so it has its own labels and scores; what is shared is the questions, and with them the
resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ghosttrack.common.maths.bootstrap import Interval, group_weights, interval
from ghosttrack.common.maths.metrics import auroc_by_block, mean_of_defined, rank_metrics

RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
FEWEST = 20
"""Shared questions below which nothing is compared."""


class Difference(NamedTuple):
    """second − first."""

    n: int
    """Questions that both have a label and a score for."""
    auroc: Interval
    within_relation: Interval
    accuracy: Interval
    """Of the models themselves: share of right answers."""
    first: dict[str, float]
    """auroc, within_relation and accuracy of the first model on the shared questions."""
    second: dict[str, float]


Records = Sequence[Mapping[str, Any]]


def compare_pair(first: Records, second: Records) -> Difference | None:
    """Records of hallucination_scores.json of two models. None where they share too few questions to compare."""
    others = {record["id"]: record for record in second}
    pairs = [
        (record, others[record["id"]])
        for record in first
        if record["id"] in others and _usable(record) and _usable(others[record["id"]])
        and record["question"] == others[record["id"]]["question"]
    ]  # fmt: skip
    if len(pairs) < FEWEST:
        return None
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    labels = [np.array([record["label"] for record in side], dtype=np.float64) for side in sides]
    if any(len(np.unique(each)) < 2 for each in labels):
        return None
    scores = [np.array([record["score"] for record in side]) for side in sides]
    relation = np.unique([record["relation"] for record in sides[0]], return_inverse=True)[1]
    weights = np.concatenate(
        [np.ones((1, len(pairs))), group_weights([record["group"] for record in sides[0]], RESAMPLES, SEED)]
    )
    found = [
        {
            "auroc": rank_metrics(label, score, weights).auroc,
            "within_relation": mean_of_defined(auroc_by_block(label, score, relation, weights)),
            "accuracy": (weights * (1 - label)).sum(axis=1) / weights.sum(axis=1),
        }
        for label, score in zip(labels, scores, strict=True)
    ]
    auroc, within, accuracy = (
        interval(found[1][key] - found[0][key], CONFIDENCE)
        for key in ("auroc", "within_relation", "accuracy")
    )
    own = [{key: float(values[0]) for key, values in side.items()} for side in found]
    return Difference(len(pairs), auroc, within, accuracy, own[0], own[1])


def _usable(record: Mapping[str, Any]) -> bool:
    return record["label"] is not None and record.get("score") is not None
