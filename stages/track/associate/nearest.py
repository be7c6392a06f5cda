"""Global nearest neighbour: the most probable one-to-one association of one scan, exactly.

Almost all of the assignment is decided without a solver. A pair that is worth at least as much as the best other pair
of its track and the best other pair of its detection together is in an optimal assignment (any two pairs that it displaces
are worth no more); such pairs are taken, what they rule out is dropped, and so on. What is left, components in which
several tracks really contest several detections, goes to an assignment solver, one component at a time.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ghosttrack.common.maths.arrays import Bools, Floats, Ints


def best_pairs(row: Ints, column: Ints, gain: Floats) -> Bools:
    """Which pairs make up the one-to-one choice of largest total gain; a pair without gain is never chosen.

    row, column: int64 [n], numbers of tracks and detections, unique over problems; gain: [n].
    """
    single = alone(row, column)
    chosen = single & (gain > 0)
    left = np.flatnonzero(~single & (gain > 0))
    while len(left):
        take = left[gain[left] >= _best_other(row[left], gain[left]) + _best_other(column[left], gain[left])]
        # Of equal pairs that exclude each other, the first.
        take = take[_first(row[take])]
        take = take[_first(column[take])]
        if not len(take):
            break
        chosen[take] = True
        left = left[~(np.isin(row[left], row[take]) | np.isin(column[left], column[take]))]
    for part in components(row[left], column[left]):
        pairs = left[part]
        rows, r = np.unique(row[pairs], return_inverse=True)
        columns, c = np.unique(column[pairs], return_inverse=True)
        gains, which = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), -1)
        gains[r, c], which[r, c] = gain[pairs], pairs
        solved = which[linear_sum_assignment(gains, maximize=True)]
        chosen[solved[solved >= 0]] = True
    return chosen


def alone(row: Ints, column: Ints) -> Bools:
    """Which pairs share neither track nor detection with another pair."""
    return (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)


def components(row: Ints, column: Ints) -> list[Ints]:
    """The pairs of each connected component, in order of their first pair."""
    if not len(row):
        return []
    r, c = (np.unique(numbers, return_inverse=True)[1] for numbers in (row, column))
    n_rows = r.max() + 1
    size = n_rows + c.max() + 1
    labels = connected_components(coo_array((np.ones(len(r)), (r, n_rows + c)), shape=(size, size)))[1][r]
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _best_other(key: Ints, gain: Floats) -> Floats:
    """For each pair, the largest gain of another pair with the same key, or 0."""
    order = np.lexsort((-gain, key))
    first = np.r_[True, np.diff(key[order]) != 0]
    group = np.cumsum(first) - 1
    starts = np.flatnonzero(first)
    second = np.minimum(starts + 1, len(order) - 1)
    runner_up = np.where(group[second] == np.arange(len(starts)), gain[order[second]], 0.0)
    runner_up[second == starts] = 0.0
    other = np.empty(len(gain))
    other[order] = np.where(first, runner_up[group], gain[order[starts]][group])
    return other


def _first(key: Ints) -> Ints:
    """Places of the first appearance of each key, in order."""
    return np.sort(np.unique(key, return_index=True)[1])
