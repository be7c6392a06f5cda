"""One score from a table of features or a set of columns: ridge regression, its penalty chosen on the inner folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.maths.metrics import auroc
from ghosttrack.stages.detect.fitted.ridge import Ints, Singles, Standardiser, fit_ridges

Floats = NDArray[np.float64]

PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""For standardised columns, per training row."""


@dataclass(frozen=True)
class Linear:
    """score = weights · standardised columns + share of wrong answers; a missing value counts as the mean."""

    mean: Singles
    rate: Singles
    weights: Singles
    centre: float
    penalty: float

    def score(self, values: NDArray[np.floating]) -> Floats:
        z = np.nan_to_num(Standardiser(self.mean, self.rate)(values))
        return (z @ self.weights).astype(np.float64) + self.centre


def fit_linear(
    values: NDArray[np.floating], labels: Floats, inner: Ints, penalties: tuple[float, ...] = PENALTIES
) -> tuple[Linear, Floats]:
    """The fit on all rows, and each row's score by a fit without its inner fold, [n]."""
    standardiser = Standardiser.fit(values)
    ridges = fit_ridges(np.nan_to_num(standardiser(values)), labels[:, None], inner, penalties)
    best = int(np.argmax([auroc(labels, scores[:, 0]) for scores in ridges.held_out]))
    fitted = Linear(
        standardiser.mean,
        standardiser.rate,
        ridges.weights[best, :, 0],
        float(ridges.centre[0]),
        penalties[best],
    )
    return fitted, ridges.held_out[best, :, 0].astype(np.float64)
