"""The K best associations of one scan, best first (Murty 1968).

The best is an assignment problem. All others are cut into disjoint sets, by the first track at which they differ from it,
each again an assignment problem with a pair forbidden and those before it forced; the best of these is the next, and its
set is cut in the same way.
"""

import heapq
from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from ghosttrack.common.maths.arrays import Floats, Ints

FEW_PAIRS = 4
"""Up to here all associations are simply listed."""


def k_best(row: Ints, column: Ints, gain: Floats, k: int) -> list[tuple[float, list[int]]]:
    """The k best sets of pairs in which no row and no column is twice, or as many as there are.

    row, column: int64 [n_pairs]; gain: [n_pairs], of any sign. Returns total gains, falling, and the pairs chosen; the empty
    set has gain 0.
    """
    if len(gain) <= FEW_PAIRS:
        every = _every(row.tolist(), column.tolist(), gain.tolist())
        return sorted(every, key=lambda found: (-found[0], found[1]))[:k]
    rows, r = np.unique(row, return_inverse=True)
    columns, c = np.unique(column, return_inverse=True)
    n = len(rows)
    cost = np.full((n, len(columns) + n), np.inf)
    cost[np.arange(n), len(columns) + np.arange(n)] = 0.0  # that the track was missed
    cost[r, c] = -gain
    pair = np.full(cost.shape, -1)
    pair[r, c] = np.arange(len(gain))
    found = []
    for total, choice in _ranked(cost, k):
        pairs = pair[np.arange(n), choice]
        found.append((-total, sorted(pairs[pairs >= 0].tolist())))
    return found


def _every(row: list[int], column: list[int], gain: list[float]) -> Iterator[tuple[float, list[int]]]:
    chosen: list[list[int]] = [[]]
    for pair in range(len(gain)):
        chosen += [
            [*others, pair]
            for others in chosen
            if all(row[other] != row[pair] and column[other] != column[pair] for other in others)
        ]
    return ((sum(gain[pair] for pair in pairs), pairs) for pairs in chosen)


def _ranked(cost: Floats, k: int) -> Iterator[tuple[float, Ints]]:
    """Assignments of every row by rising cost. cost: [n, m], m >= n, inf where forbidden."""
    first = _solve(cost)
    waiting = [] if first is None else [(first[0], 0, first[1], cost, 0)]
    count = 0
    while waiting and k:
        total, _, choice, cost, forced = heapq.heappop(waiting)
        yield total, choice
        k -= 1
        for row in range(forced, len(choice)):
            rest = cost.copy()
            rest[row, choice[row]] = np.inf
            for earlier in range(forced, row):
                kept = rest[earlier, choice[earlier]]
                rest[earlier] = rest[:, choice[earlier]] = np.inf
                rest[earlier, choice[earlier]] = kept
            solved = _solve(rest)
            if solved is not None:
                count += 1
                heapq.heappush(waiting, (solved[0], count, solved[1], rest, row))


def _solve(cost: Floats) -> tuple[float, Ints] | None:
    try:
        rows, choice = linear_sum_assignment(cost)
    except ValueError:  # scipy's word for "infeasible"
        return None
    return float(cost[rows, choice].sum()), choice
