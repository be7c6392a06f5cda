"""A sparse probe of SAE latents: the latents that tell most by themselves, weighed together by a ridge regression.

Gurnee et al. 2023 choose a probe's features by how well each does alone; so is it done here, on the training rows of each
fit, inner folds included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.metrics import auroc
from stages.detect.fitted.ridge import Ints, Singles, Standardiser, fit_ridges

Floats = NDArray[np.float64]

KEPT = 512
PENALTIES = (0.1, 1.0)


class Latents(NamedTuple):
    """values: [n, n_layers · d_hidden] log(1 + activation) at the last answer token, layer after layer."""

    values: csr_matrix
    d_hidden: int


@dataclass(frozen=True)
class LatentProbe:
    columns: Ints  # [kept] column numbers, ascending
    mean: Singles
    rate: Singles
    weights: Singles
    penalty: float

    def score(self, values: csr_matrix) -> Floats:
        z = Standardiser(self.mean, self.rate)(values[:, self.columns].toarray())
        return (z @ self.weights).astype(np.float64)


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
    """The probe fitted on all rows, and [n] scores of each row by a probe that had not seen its inner fold."""
    held_out = np.zeros((len(PENALTIES), len(labels)))
    for fold in np.unique(inner):
        train, own = np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)
        for number, probe in enumerate(_fit(values[train], labels[train])):
            held_out[number, own] = probe.score(values[own])
    best = int(np.argmax([auroc(labels, scores) for scores in held_out]))
    return _fit(values, labels)[best], held_out[best]


def _fit(values: csr_matrix, labels: Floats) -> list[LatentProbe]:
    """A probe a penalty."""
    columns = telling_columns(values, labels)
    dense = values[:, columns].toarray()
    standardiser = Standardiser.fit(dense)
    weights = fit_ridges(standardiser(dense), labels[:, None], np.zeros(0, dtype=np.int64), PENALTIES).weights
    return [
        LatentProbe(columns, *standardiser, weights[number, :, 0], penalty)
        for number, penalty in enumerate(PENALTIES)
    ]
