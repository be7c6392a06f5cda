"""Folds that keep a group of questions (one subject, its paraphrases) together and the classes balanced.

Built on scikit-learn's StratifiedGroupKFold; what it lets pass (a fold without rows, a training side with one class)
is refused here with the counts that explain it.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold

from ghosttrack.common.errors import DataError, LabelError
from ghosttrack.common.maths.arrays import Floats, Ints

MEND = (
    "ask more questions (data.max_questions), other relations (data.relations), or use fewer detection.folds"
)


def grouped_folds(labels: ArrayLike, groups: ArrayLike, n_folds: int, seed: int) -> Ints:
    """Fold of each row, [n] in 0…n_folds−1; rows of a group share a fold.

    labels: [n] 0 right, 1 wrong; groups: [n] anything comparable. Another seed gives another repetition.
    Raises LabelError or DataError when the rows cannot be divided so that every training side has both classes.
    """
    y, codes = np.asarray(labels), np.unique(np.asarray(groups), return_inverse=True)[1]
    check_classes(y, n_folds)
    n_groups = int(codes.max()) + 1
    if n_groups < n_folds:
        raise DataError(
            f"{len(y)} labelled questions fall into {n_groups} group(s), fewer than {n_folds} folds; {MEND}"
        )
    folds = deal(y, codes, n_folds, seed)
    for fold in range(n_folds):
        inside = folds == fold
        if not inside.any() or len(np.unique(y[~inside])) < 2:
            raise LabelError(
                f"{len(y)} labelled questions ({int(y.sum())} wrong) in {n_groups} groups cannot be divided into "
                f"{n_folds} folds that all leave both classes to train on: one group holds too much; {MEND}"
            )
    assert_groups_whole(folds, codes)
    return folds


def check_classes(labels: ArrayLike, n_folds: int) -> None:
    """Raises LabelError unless there are right and wrong answers, at least one of each a fold."""
    y = np.asarray(labels)
    wrong = int((y == 1).sum())
    right = len(y) - wrong
    for name, count in (("correct", right), ("wrong", wrong)):
        if count == 0:
            raise LabelError(
                f"no {name} answers among {len(y)} labelled questions, so there is nothing to tell apart; "
                f"ask {'easier' if name == 'correct' else 'harder'} questions or other relations (data.relations)"
            )
        if count < n_folds:
            raise LabelError(
                f"only {count} {name} answers among {len(y)} labelled, fewer than {n_folds} folds; {MEND}"
            )


def assert_groups_whole(folds: ArrayLike, groups: ArrayLike) -> None:
    """Raises AssertionError if a group has rows in two folds: its answers would be known in training."""
    pairs = np.unique(np.stack([np.asarray(groups), np.asarray(folds)], axis=1), axis=0)
    if len(np.unique(pairs[:, 0])) != len(pairs):
        raise AssertionError("a group of questions is spread over several folds")


def by_other_folds(inner: Ints, score: Callable[[Ints, Ints], Floats]) -> Floats:
    """What `score(rest, own)` says of the rows of each inner fold by those of the others, in the order of all rows."""
    folds = [(np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)) for fold in np.unique(inner)]
    order = np.argsort(np.concatenate([own for _, own in folds]))
    return np.concatenate([score(rest, own) for rest, own in folds])[order]


def deal(labels: ArrayLike, keys: ArrayLike, n_folds: int, seed: int) -> Ints:
    """Folds that keep equal keys together and the classes as balanced as that allows, [n]; nothing is refused."""
    y, codes = np.asarray(labels), np.unique(np.asarray(keys), return_inverse=True)[1]
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(y), -1, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes thinner than folds are judged by the caller
        for fold, (_, test) in enumerate(splitter.split(np.zeros(len(y)), y, codes)):
            folds[test] = fold
    return folds


def drawn(keys: ArrayLike, n_folds: int, seed: int) -> Ints:
    """Folds of as many different keys each, which are drawn whatever rows and classes they have, [n]. `deal` deals large keys
    nearly alike with every seed."""
    names, codes = np.unique(np.asarray(keys), return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[codes] % n_folds
