"""Ridge regression of labels on columns, with scores of the training rows by models that had not seen their fold.

The closed form makes a probe cheap: every inner fold and every penalty costs one Cholesky factorisation, of the columns'
Gram matrix less the fold's, or of the rows' where there are fewer rows than columns. Several label columns (permutations)
share it. For 0/1 labels this is Fisher's discriminant up to scale (Hastie, Tibshirani and Friedman 2009, 4.2; the two forms:
18.3.5).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ghosttrack.common.maths.arrays import Floats, Ints, Singles

_VALUES_AT_ONCE = 1 << 24  # of a table whose means are taken in float64
_CLIP = 6.0  # standard deviations; a few coordinates of residual streams are wild


class Standardiser(NamedTuple):
    """Means and reciprocal standard deviations of columns, missing values left out; 0 for columns that do not vary."""

    mean: Singles  # [d]
    rate: Singles  # [d]

    @classmethod
    def fit(cls, values: NDArray[np.floating]) -> "Standardiser":
        values = values.astype(np.float32, copy=False)
        if values.size > _VALUES_AT_ONCE and values.shape[1] > 2:
            width = max(2, _VALUES_AT_ONCE // len(values))
            parts = [cls.fit(values[:, start : start + width]) for start in range(0, values.shape[1], width)]
            return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        there = ~np.isnan(values)
        if there.all():
            mean, spread = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        else:
            count = np.maximum(there.sum(axis=0), 1)
            mean = np.where(there, values, 0.0).sum(axis=0, dtype=np.float64) / count
            spread = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(axis=0, dtype=np.float64) / count)
        varies = spread > 1e-6 * np.maximum(1.0, np.abs(mean))
        rate = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
        return cls(mean.astype(np.float32), rate.astype(np.float32))

    def __call__(self, values: NDArray[np.floating]) -> Singles:
        z = values.astype(np.float32, copy=False) - self.mean
        z *= self.rate
        return np.clip(z, -_CLIP, _CLIP, out=z)


class Ridges(NamedTuple):
    """Ridge regressions on one set of columns, one a penalty. k: label columns."""

    held_out: Singles  # [n_penalties, n, k] scores of training rows by fits without their inner fold
    weights: Singles  # [n_penalties, d, k] of the fit on all rows, for standardised columns
    centre: Floats  # [k] mean label


def fit_ridges(z: Singles, labels: Floats, inner: Ints, penalties: Sequence[float]) -> Ridges:
    """Ridge regressions of all labels and penalties at once. z: [n, d] standardised; labels: [n, k]; inner: [n] fold
    (empty: nothing is held out); penalties: per training row, so that n does not matter.

    Labels are centred by the fit's own rows, columns are not again: they are standardised already.
    """
    n, d = z.shape
    y = labels.astype(np.float32)
    parts = [np.flatnonzero(inner == fold) for fold in np.unique(inner)]
    held_out = np.zeros((len(penalties), n, y.shape[1]), dtype=np.float32)
    weights = np.zeros((len(penalties), d, y.shape[1]), dtype=np.float32)
    if n < d:
        products = z @ z.T
        for part in [*parts, None]:
            rest = np.arange(n) if part is None else np.setdiff1d(np.arange(n), part)
            mean, across = y[rest].mean(axis=0), products.take(rest, axis=1)
            system = across.take(rest, axis=0)
            for number, penalty in enumerate(penalties):
                dual = _solve(system.copy(), y[rest] - mean, penalty * len(rest))
                if part is None:
                    weights[number] = z.T @ dual
                else:
                    held_out[number, part] = across[part] @ dual + mean
        return Ridges(held_out, weights, labels.mean(axis=0))
    whole = _Moments.of(z, y)
    for part in [*parts, None]:
        kept = whole if part is None else whole.without(_Moments.of(z[part], y[part]))
        for number, penalty in enumerate(penalties):
            solved = kept.solve(penalty)
            if part is None:
                weights[number] = solved
            else:
                held_out[number, part] = z[part] @ solved + kept.label_sum / kept.n_rows
    return Ridges(held_out, weights, labels.mean(axis=0))


def _solve(system: Singles, target: Singles, penalty: float) -> Singles:
    """The solution [m, k] of (system + penalty · 1) x = target. system: [m, m], its own copy, written over."""
    system.flat[:: len(system) + 1] += penalty
    # By columns, as LAPACK wants it: the matrix is its own transpose.
    factor = cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, target, check_finite=False), dtype=np.float32)


class _Moments(NamedTuple):
    gram: Singles  # [d, d]
    product: Singles  # [d, k] columns with labels
    column_sum: Singles  # [d]
    label_sum: Singles  # [k]
    n_rows: int

    @classmethod
    def of(cls, z: Singles, y: Singles) -> "_Moments":
        return cls(z.T @ z, z.T @ y, z.sum(axis=0), y.sum(axis=0), len(z))

    def without(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.gram - other.gram,
            self.product - other.product,
            self.column_sum - other.column_sum,
            self.label_sum - other.label_sum,
            self.n_rows - other.n_rows,
        )

    def solve(self, penalty: float) -> Singles:
        """Weights [d, k] of the regression of centred labels."""
        target = self.product - np.outer(self.column_sum, self.label_sum / self.n_rows)
        return _solve(self.gram.copy(), target, penalty * self.n_rows)
