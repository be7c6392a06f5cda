"""Joint probabilistic data association: the probability of every pair under all one-to-one associations of one scan.

Belief propagation of Williams and Lau (2014, arXiv:1209.6299) on the list of pairs that passed the gates, all problems at
once. With ψ the odds of a pair, messages go from tracks to detections and back,

    μ_ij = ψ_ij / (1 + Σ_j' ψ_ij' ν_ij')  over j' ≠ j          ν_ij = 1 / (1 + Σ_i' μ_i'j)  over i' ≠ i

until they stand still. Exact where the graph of pairs has no cycle, which after gating is nearly everywhere.
"""

from typing import NamedTuple

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.stages.track.associate.nearest import alone

TOLERANCE = 1e-6
MAX_ITERATIONS = 500
LARGEST_LOG_ODDS = 25.0
"""Clipped here, far beyond what changes a probability: a sum of odds less one of them keeps ten digits."""


class Marginals(NamedTuple):
    """linked: probability of each pair [n]; unlinked: of each detection that no track gave it [n_columns];
    missed: of each track that it gave none [n_rows]."""

    linked: Floats
    unlinked: Floats
    missed: Floats


def link_probabilities(
    problem: Ints, row: Ints, column: Ints, log_odds: Floats, n_rows: int, n_columns: int
) -> Marginals:
    """Marginals of all one-to-one assignments, by belief propagation. problem: int64 [n]; row, column: int64 [n],
    tracks and detections, unique over problems."""
    odds = np.exp(np.minimum(log_odds, LARGEST_LOG_ODDS))
    to_row = np.ones(len(odds))
    to_column = odds.copy()  # final where a pair stands alone
    left = np.flatnonzero(~alone(row, column))
    r, c = (np.unique(numbers[left], return_inverse=True)[1] for numbers in (row, column))
    for _ in range(MAX_ITERATIONS):
        if not len(left):
            break
        weighted = odds[left] * to_row[left]
        message = odds[left] / (1 + np.maximum(np.bincount(r, weighted)[r] - weighted, 0))
        answer = 1 / (1 + np.maximum(np.bincount(c, message)[c] - message, 0))
        moves = np.abs(answer - to_row[left]) > TOLERANCE
        to_column[left], to_row[left] = message, answer
        # A problem stops when it is settled, so that its figures do not depend on the problems beside it.
        moving = np.zeros(problem[left].max() + 1, dtype=bool)
        moving[problem[left][moves]] = True
        goes_on = moving[problem[left]]
        left, r, c = left[goes_on], r[goes_on], c[goes_on]
    weighted = odds * to_row
    missed = 1 / (1 + np.bincount(row, weighted, minlength=n_rows))
    unlinked = 1 / (1 + np.bincount(column, to_column, minlength=n_columns))
    return Marginals(weighted * missed[row], unlinked, missed)
