"""What is known of an answer without any tracks: the methods that a detector has to beat.

All of them are scored on the detector's own folds: whatever must be fitted (the sign of a score, a relation's
share of wrong answers, the calibration, the threshold) is fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.answers import Answer
from common.calibration import fit_platt
from common.metrics import auroc, best_f1_threshold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Method(NamedTuple):
    """A method's out-of-fold results on the n labelled questions."""

    name: str
    kind: str  # "detector" | "baseline"
    description: str
    score: Floats  # [n] higher = more likely wrong
    probability: Floats  # [n] calibrated probability of being wrong
    predicted: Ints  # [n] 1 where the score reaches its fold's threshold
    constant_in_relation: bool = False  # scores of one relation differ only by what the folds left out


def baselines(answers: Sequence[Answer], labels: Floats, folds: Ints) -> list[Method]:
    """All baselines for n labelled answers; labels: [n] 1 wrong; folds: [n] outer fold."""
    logprobs = [np.asarray(answer.logprobs) for answer in answers]
    relation = np.unique([answer.relation for answer in answers], return_inverse=True)[1]
    signals = {
        "logprob_mean": ("minus mean token log-probability", [-lp.mean() for lp in logprobs]),
        "logprob_min": ("minus log-probability of the least likely token", [-lp.min() for lp in logprobs]),
        "token_entropy": ("mean entropy of the token distributions", [np.mean(a.entropies) for a in answers]),
        "answer_length": ("tokens of the answer, sign learned", [len(a.tokens) for a in answers]),
    }
    methods = []
    for name, (description, values) in signals.items():
        score = np.asarray(values, dtype=np.float64)
        if name == "answer_length":
            score = learn_sign(score, labels, folds)
        methods.append(fitted_on_other_folds(name, description, score, labels, folds))
    methods.append(relation_prior(relation, labels, folds))
    return methods


def learn_sign(score: Floats, labels: Floats, folds: Ints) -> Floats:
    """The score, turned round in the folds whose training side says that higher means right."""
    result = score.copy()
    for fold in np.unique(folds):
        train = folds != fold
        if auroc(labels[train], score[train]) < 0.5:
            result[folds == fold] *= -1
    return result


def fitted_on_other_folds(name: str, description: str, score: Floats, labels: Floats, folds: Ints) -> Method:
    """Calibrates a raw score and chooses its threshold on the other folds of each fold."""
    probability, predicted = np.zeros(len(score)), np.zeros(len(score), dtype=np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        probability[test] = fit_platt(score[train], labels[train])(score[test])
        predicted[test] = score[test] >= best_f1_threshold(labels[train], score[train])
    return Method(name, "baseline", description, score, probability, predicted)


def relation_prior(relation: Ints, labels: Floats, folds: Ints) -> Method:
    """Share of wrong answers of the same relation in the other folds.

    relation: [n] numbers. The threshold is chosen on training rows that are themselves scored by the remaining folds.
    """
    probability, predicted = np.zeros(len(labels)), np.zeros(len(labels), dtype=np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        probability[test] = smoothed_share(relation[train], labels[train], relation[test])
        inner = np.zeros(len(labels))
        for other in np.unique(folds[train]):
            rest, held = train & (folds != other), train & (folds == other)
            rest = rest if rest.any() else train  # two folds leave nothing else to count on
            inner[held] = smoothed_share(relation[rest], labels[rest], relation[held])
        predicted[test] = probability[test] >= best_f1_threshold(labels[train], inner[train])
    description = "share of wrong answers of the same relation in the other folds"
    return Method("relation_identity", "baseline", description, probability, probability, predicted, True)


def smoothed_share(blocks: Ints, labels: Floats, asked: ArrayLike, strength: float = 2.0) -> Floats:
    """(wrong + strength · overall share) / (n + strength) of each asked block; unseen blocks get the overall share."""
    wanted = np.asarray(asked)
    size = int(max(blocks.max(), wanted.max())) + 1
    share = labels.mean()
    wrong, count = np.bincount(blocks, labels, minlength=size), np.bincount(blocks, minlength=size)
    return np.asarray(((wrong + strength * share) / (count + strength))[wanted])
