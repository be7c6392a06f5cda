"""The two kinds of model that put a detector's columns together.

`Additive` is a logistic regression: its score is an intercept and one contribution a column, exactly. `Boosted` is
gradient boosting of small trees (scikit-learn's), kept as plain arrays so that it can be stored and read anywhere.
`Both` adds up the two. A missing value counts as the column's mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from ghosttrack.stages.detect.fitted.ridge import Singles, Standardiser

# scikit-learn warns that its settings do not reach the threads that bin columns; none are set here.
warnings.filterwarnings("ignore", message=".*sklearn.utils.parallel.delayed.*", category=UserWarning)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Additive:
    """Log-odds = intercept + Σ weight · standardised column."""

    mean: Singles
    rate: Singles
    weights: Floats
    intercept: float

    def contributions(self, values: Floats) -> Floats:
        """[n, n_columns], in log-odds; with the intercept they add up to the score."""
        return _standard(self, values) * self.weights

    def score(self, values: Floats) -> Floats:
        return np.asarray(self.contributions(values).sum(axis=1) + self.intercept)


@dataclass(frozen=True)
class Boosted:
    """Trees as arrays over nodes, all trees one after another; a leaf is its own child."""

    mean: Singles
    rate: Singles
    baseline: float
    roots: Ints  # [n_trees] first node of each tree
    feature: Ints  # [n_nodes] column compared
    threshold: Floats  # [n_nodes] left where value ≤ threshold
    left: Ints  # [n_nodes]
    right: Ints  # [n_nodes]
    value: Floats  # [n_nodes] what a leaf adds
    depth: int  # longest path

    def score(self, values: Floats) -> Floats:
        x = _standard(self, values)
        rows = np.arange(len(x))
        total = np.full(len(x), self.baseline)
        for root in self.roots:
            node = np.full(len(x), root)
            for _ in range(self.depth):
                goes_left = x[rows, self.feature[node]] <= self.threshold[node]
                node = np.where(goes_left, self.left[node], self.right[node])
            total += self.value[node]
        return total


@dataclass(frozen=True)
class Both:
    """Mean of the log-odds of the two."""

    additive: Additive
    boosted: Boosted

    def score(self, values: Floats) -> Floats:
        return (self.additive.score(values) + self.boosted.score(values)) / 2


Model = Additive | Boosted | Both


class Candidate(NamedTuple):
    """A kind of model with its settings: `fit(values [n, n_columns], labels [n], seed)`."""

    name: str
    fit: Callable[[Floats, Floats, int], Model]


def _standard(model: Additive | Boosted, values: Floats) -> Floats:
    return np.nan_to_num(Standardiser(model.mean, model.rate)(values)).astype(np.float64)


def additive(c: float) -> Candidate:
    """Logistic regression with an L2 penalty of strength 1 / c."""

    def fit(values: Floats, labels: Floats, seed: int) -> Additive:
        standardiser = Standardiser.fit(values)
        x = np.nan_to_num(standardiser(values)).astype(np.float64)
        model = LogisticRegression(C=c, max_iter=1000, tol=1e-5).fit(x, labels)
        return Additive(*standardiser, model.coef_[0].astype(np.float64), float(model.intercept_[0]))

    return Candidate(f"additive, C={c:g}", fit)


def mean_of(models: Sequence[Additive]) -> Additive:
    """The model whose log-odds are the mean of theirs; all standardise alike."""
    first = models[0]
    return Additive(
        first.mean,
        first.rate,
        np.mean([model.weights for model in models], axis=0),
        float(np.mean([model.intercept for model in models])),
    )


def boosted(rounds: int, leaves: int, rate: float = 0.07, share: float = 0.3) -> Candidate:
    """Histogram gradient boosting of `rounds` small trees; `share` of the columns are tried at each split."""

    def fit(values: Floats, labels: Floats, seed: int) -> Boosted:
        standardiser = Standardiser.fit(values)
        x = np.nan_to_num(standardiser(values)).astype(np.float64)
        trees = HistGradientBoostingClassifier(
            max_iter=rounds, max_leaf_nodes=leaves, learning_rate=rate, min_samples_leaf=20, l2_regularization=5.0,
            max_bins=63, max_features=share, early_stopping=False, random_state=seed,
        ).fit(x, labels)  # fmt: skip
        return _boosted(standardiser, trees)

    return Candidate(f"boosted trees, {rounds} × {leaves} leaves", fit)


def _boosted(standardiser: Standardiser, trees: HistGradientBoostingClassifier) -> Boosted:
    """The trees as arrays; a test compares their scores with the trees' own."""
    nodes = [predictor.nodes for (predictor,) in trees._predictors]
    sizes = np.array([len(tree) for tree in nodes], dtype=np.int64)
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    every = np.concatenate(nodes)
    start, own = np.repeat(roots, sizes), np.arange(len(every))
    leaf = every["is_leaf"].astype(bool)
    return Boosted(
        *standardiser,
        baseline=float(trees._baseline_prediction.item()),
        roots=roots,
        feature=np.where(leaf, 0, every["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, every["num_threshold"]).astype(np.float64),
        left=np.where(leaf, own, start + every["left"]).astype(np.int64),
        right=np.where(leaf, own, start + every["right"]).astype(np.int64),
        value=np.where(leaf, every["value"], 0.0).astype(np.float64),
        depth=int(every["depth"].max()),
    )


ADDITIVE = (additive(0.001), additive(0.01), additive(0.1))
"""Fixed penalties, over which a detector's log-odds are averaged."""
BOOSTED = boosted(100, 6)
