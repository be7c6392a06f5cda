"""Intervals by resampling groups of questions.

Questions on one subject succeed or fail together, so whole groups are drawn with replacement (cluster bootstrap;
Field and Welsh 2007) and every figure is recomputed in each resample. All that is compared sees the same resamples: the
interval of a difference is that of the paired differences. Intervals are percentile intervals. They say how far the
figure would move with other questions, not with another training set.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ghosttrack.common.maths.arrays import Floats


class Interval(NamedTuple):
    """A figure with its interval; None where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def group_weights(groups: ArrayLike, resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each row is drawn in each resample, [1 + resamples, n_rows], the sample itself first; rows of a group are drawn
    together. In bytes: thousands of resamples of 100,000 rows are to be held. (A group that is drawn 256 times counts as 255.)"""
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    random, chances = np.random.default_rng(seed), np.full(n_groups, 1 / n_groups)
    weights = np.ones((1 + resamples, len(codes)), dtype=np.uint8)
    for row in weights[1:]:
        row[:] = np.minimum(random.multinomial(n_groups, chances), 255)[codes]
    return weights


def interval(values: Floats, confidence: float) -> Interval:
    """The percentile interval of a figure. values: [1 + B], the sample's own first; resamples in which the figure is
    not defined are left out.

    Undefined as a whole where the sample's is, or where more than half of the resamples are.
    """
    value, resampled = float(values[0]), values[1:]
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or 2 * len(defined) < len(resampled):
        return Interval(value if np.isfinite(value) else None, None, None)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def centred(values: Floats) -> Floats:
    """[1 + B] of a figure that cannot be negative and grows with noise (ECE), resamples moved to have the mean `values[0]`.

    Resampling adds to such a figure about as much again as sampling did; without this the interval lies above the
    value.
    """
    resampled = values[1:]
    return np.append(values[0], np.maximum(resampled - (resampled.mean() - values[0]), 0.0))
