"""The classifiers among which the inner folds choose.

A linear one whose score is a sum of feature contributions, over a range of regularisation, and boosted trees in two
sizes. Each is fitted on training rows only, the cleaning of columns included: columns that are constant there are
dropped, the others standardised and clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]

_CLIP = 6.0  # standard deviations; one wild value must not decide an answer


class Model(Protocol):
    def score(self, values: Floats) -> Floats:
        """Log-odds of being wrong, [n]; values: [n, n_features] raw features."""
        ...


class Candidate(NamedTuple):
    """A classifier and its settings: `fit(values [n, n_features], labels [n], seed)`."""

    name: str
    fit: Callable[[Floats, Floats, int], Model]


class Scaler(NamedTuple):
    """Columns that vary in the training rows, their means and standard deviations."""

    kept: NDArray[np.int64]
    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, values: Floats) -> Scaler:
        spread = np.ptp(values, axis=0)
        kept = np.flatnonzero(spread > 1e-9 * np.maximum(1.0, np.abs(values).max(axis=0)))
        return cls(kept, values[:, kept].mean(axis=0), values[:, kept].std(axis=0))

    def __call__(self, values: Floats) -> Floats:
        return np.clip((values[:, self.kept] - self.mean) / self.scale, -_CLIP, _CLIP)


class Linear(NamedTuple):
    """Log-odds = intercept + Σ weight · standardised feature."""

    scaler: Scaler
    weights: Floats
    intercept: float

    def score(self, values: Floats) -> Floats:
        return np.asarray(self.scaler(values) @ self.weights + self.intercept)


class Boosted(NamedTuple):
    scaler: Scaler
    trees: HistGradientBoostingClassifier

    def score(self, values: Floats) -> Floats:
        return np.asarray(self.trees.decision_function(self.scaler(values)))


def linear(c: float) -> Candidate:
    """Logistic regression with an L2 penalty of strength 1 / c."""

    def fit(values: Floats, labels: Floats, seed: int) -> Linear:
        scaler = Scaler.fit(values)
        x = scaler(values)
        if x.shape[1] == 0:
            return Linear(scaler, np.zeros(0), float(np.log(labels.mean() / (1 - labels.mean()))))
        model = LogisticRegression(C=c, max_iter=1000, tol=1e-5).fit(x, labels)
        return Linear(scaler, model.coef_[0].astype(np.float64), float(model.intercept_[0]))

    return Candidate(f"linear, C={c:g}", fit)


def boosted(rounds: int, leaves: int) -> Candidate:
    """Histogram gradient boosting of `rounds` small trees."""

    def fit(values: Floats, labels: Floats, seed: int) -> Model:
        scaler = Scaler.fit(values)
        x = scaler(values)
        if x.shape[1] == 0:
            return linear(1.0).fit(values, labels, seed)
        trees = HistGradientBoostingClassifier(
            max_iter=rounds, max_leaf_nodes=leaves, learning_rate=0.08, min_samples_leaf=20, l2_regularization=1.0,
            max_bins=63, max_features=0.3, early_stopping=False, random_state=seed,
        )  # fmt: skip
        return Boosted(scaler, trees.fit(x, labels))

    return Candidate(f"boosted trees, {rounds} × {leaves} leaves", fit)


CANDIDATES = (linear(0.001), linear(0.01), linear(0.1), linear(1.0), boosted(60, 4), boosted(60, 10))
"""Simplest first: of equally good ones, the first is taken."""
