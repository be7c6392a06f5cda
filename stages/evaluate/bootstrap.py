"""Intervals by resampling groups of questions.

Questions on one subject succeed or fail together, so whole groups are drawn with replacement (cluster bootstrap;
Field and Welsh 2007) and every figure is recomputed in each resample. All methods see the same resamples: the
interval of a difference is that of the paired differences. Intervals are percentile intervals.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.evaluate.schema import Figure

Floats = NDArray[np.float64]


def group_weights(groups: ArrayLike, resamples: int, seed: int) -> Floats:
    """How often each row is drawn in each resample, [resamples, n_rows]; rows of a group are drawn together."""
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)
    return drawn[:, codes].astype(np.float64)


def figure(value: float, resampled: Floats, confidence: float) -> Figure:
    """A value with its percentile interval; resamples in which the figure is not defined are left out."""
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # all resamples undefined: the interval is undefined too
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Figure(value=_finite(value), low=_finite(low), high=_finite(high))


def centred(value: float, resampled: Floats) -> Floats:
    """The resamples of a figure that cannot be negative and grows with noise (ECE), moved so that their mean is `value`.

    Resampling adds to such a figure about as much again as sampling did; without this the interval lies above the
    value.
    """
    return np.maximum(resampled - (np.nanmean(resampled) - value), 0.0)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
