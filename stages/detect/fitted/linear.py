"""One score from a table of features or a set of columns: ridge regressions averaged over fixed penalties.

A penalty chosen by inner AUROC makes unrelated tables look as if they told something; a mean over penalties does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges

PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""For standardised columns, per training row."""


@dataclass(frozen=True)
class Linear:
    """score = weights · standardised columns + share of wrong answers; a missing value counts as the mean."""

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
