"""One score from a table of features or a set of columns: ridge regressions, or logistic ones, whose score is a sum of
contributions, averaged over fixed penalties. A missing value counts as the column's mean.

A penalty chosen by inner AUROC makes unrelated tables look as if they told something; a mean over penalties does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges
from ghosttrack.stages.detect.protocol.folds import by_other_folds

PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""For standardised columns, per training row."""


@dataclass(frozen=True)
class Linear:
    """score = weights · standardised columns + share of wrong answers."""

    mean: Singles
    rate: Singles
    weights: Singles
    centre: float

    def score(self, values: NDArray[np.floating]) -> Floats:
        z = np.nan_to_num(Standardiser(self.mean, self.rate)(values), copy=False)
        return (z @ self.weights).astype(np.float64) + self.centre


def fit_linear(values: NDArray[np.floating], labels: Floats, inner: Ints) -> tuple[Linear, Floats]:
    """The fit on all rows, and each row's score by a fit without its inner fold, [n]."""
    standardiser = Standardiser.fit(values)
    ridges = fit_ridges(np.nan_to_num(standardiser(values), copy=False), labels[:, None], inner, PENALTIES)
    fitted = Linear(
        standardiser.mean, standardiser.rate, ridges.weights[:, :, 0].mean(axis=0), float(ridges.centre[0])
    )
    return fitted, ridges.held_out[:, :, 0].mean(axis=0, dtype=np.float64)


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


def fit_logistic(values: Floats, labels: Floats) -> Additive:
    """Logistic regressions of several strengths, averaged. values: [n, n_columns]; labels: [n], both classes among
    them."""
    standardiser = Standardiser.fit(values)
    x = np.nan_to_num(standardiser(values)).astype(np.float64)
    models = [LogisticRegression(C=c, max_iter=1000, tol=1e-5).fit(x, labels) for c in STRENGTHS]
    weights = np.mean([model.coef_[0] for model in models], axis=0)
    return Additive(*standardiser, weights, float(np.mean([model.intercept_[0] for model in models])))


def fit_additive(values: Floats, labels: Floats, inner: Ints) -> tuple[Additive, Floats]:
    """The model of all rows, and each row's score by a fit without its inner fold, [n]."""
    unseen = by_other_folds(
        inner, lambda rest, own: fit_logistic(values[rest], labels[rest]).score(values[own])
    )
    return fit_logistic(values, labels), unseen
