"""The model that puts a detector's columns together: a logistic regression, whose score is a sum of contributions.

It is averaged over fixed penalties, none chosen by how well it does. A missing value counts as the column's mean.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.fitted.ridge import Standardiser
from ghosttrack.stages.detect.protocol.folds import by_other_folds

STRENGTHS = (0.001, 0.01, 0.1)
"""Reciprocals of the L2 penalties over which the log-odds are averaged."""


@dataclass(frozen=True)
class Additive:
    """Log-odds = intercept + Σ weight · standardised column."""

    mean: Singles
    rate: Singles
    weights: Floats
    intercept: float

    def contributions(self, values: Floats) -> Floats:
        """[n, n_columns], in log-odds; with the intercept they add up to the score."""
        standard = Standardiser(self.mean, self.rate)(values)
        return np.nan_to_num(standard).astype(np.float64) * self.weights

    def score(self, values: Floats) -> Floats:
        return np.asarray(self.contributions(values).sum(axis=1) + self.intercept)


def fit(values: Floats, labels: Floats) -> Additive:
    """Logistic regressions of several strengths, averaged. values: [n, n_columns]; labels: [n], both classes among
    them."""
    standardiser = Standardiser.fit(values)
    x = np.nan_to_num(standardiser(values)).astype(np.float64)
    models = [LogisticRegression(C=c, max_iter=1000, tol=1e-5).fit(x, labels) for c in STRENGTHS]
    weights = np.mean([model.coef_[0] for model in models], axis=0)
    return Additive(*standardiser, weights, float(np.mean([model.intercept_[0] for model in models])))


def fit_additive(values: Floats, labels: Floats, inner: Ints) -> tuple[Additive, Floats]:
    """The model of all rows, and each row's score by a fit without its inner fold, [n]."""
    unseen = by_other_folds(inner, lambda rest, own: fit(values[rest], labels[rest]).score(values[own]))
    return fit(values, labels), unseen
