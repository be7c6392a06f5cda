"""A sparse probe of SAE latents: the latents that tell most by themselves, weighed together by a logistic regression.

Gurnee et al. 2023 choose a probe's features by how well each does alone; so is it done here, on the training rows of each
fit, inner folds included.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.fitted.ridge import Standardiser
from ghosttrack.stages.detect.protocol.folds import by_other_folds

KEPT = 512
PENALTIES = (0.01, 0.1)
"""For standardised columns, per training row: half of it times the squared weights is added to the mean log loss."""


@dataclass(frozen=True)
class LatentProbe:
    columns: Ints  # [kept] column numbers, ascending
    mean: Singles
    rate: Singles
    weights: Floats
    centre: float

    def score(self, values: csr_matrix) -> Floats:
        """Log-odds of a wrong answer, [n]."""
        z = Standardiser(self.mean, self.rate)(values[:, self.columns].toarray())
        return z.astype(np.float64) @ self.weights + self.centre


def telling_columns(values: csr_matrix, labels: Floats, kept: int = KEPT) -> Ints:
    """The columns that correlate most with the labels, ascending; of those active in five rows or more."""
    n = len(labels)
    centred = labels - labels.mean()
    total = np.asarray(values.sum(axis=0)).ravel()
    square = np.asarray(values.multiply(values).sum(axis=0)).ravel()
    spread = np.sqrt(np.maximum(square / n - (total / n) ** 2, 0.0))
    frequent = np.bincount(values.indices, minlength=values.shape[1]) >= 5
    merit = np.where(
        frequent & (spread > 0), np.abs(values.T @ centred) / np.where(spread > 0, spread, 1.0), -1.0
    )
    best = np.argsort(-merit, kind="stable")[:kept]
    return np.sort(best[merit[best] >= 0]).astype(np.int64)


def fit_latents(values: csr_matrix, labels: Floats, inner: Ints) -> tuple[LatentProbe, Floats]:
    """The probe fitted on all rows, and [n] scores of each row by a probe that had not seen its inner fold.

    values: [n, n_layers · d_hidden] log(1 + activation) at the last answer token, layer after layer.
    """
    unseen = by_other_folds(inner, lambda rest, own: _fit(values[rest], labels[rest]).score(values[own]))
    return _fit(values, labels), unseen


def _fit(values: csr_matrix, labels: Floats) -> LatentProbe:
    """The mean of a probe a penalty."""
    columns = telling_columns(values, labels)
    dense = values[:, columns].toarray()
    standardiser = Standardiser.fit(dense)
    z = standardiser(dense).astype(np.float64)
    if not len(columns):  # so few rows that no latent is active in five
        share = labels.mean()
        return LatentProbe(columns, *standardiser, np.zeros(0), float(np.log(share / (1 - share))))
    fits = [
        LogisticRegression(C=1 / (penalty * len(labels)), max_iter=200).fit(z, labels)
        for penalty in PENALTIES
    ]
    weights = np.mean([fitted.coef_[0] for fitted in fits], axis=0)
    return LatentProbe(
        columns, *standardiser, weights, float(np.mean([fitted.intercept_[0] for fitted in fits]))
    )
