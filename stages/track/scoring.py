"""How well tracks agree with the truth: GOSPA with switches, MOTA, IDF1.

Truth and tracks are given layer by layer, as objects with a number and a state; a pair is a match where the Euclidean
distance of the states is below a cutoff c.

GOSPA (Rahmathullah and others 2017, α = 2, order 2) of a layer: the least Σ d² over one-to-one matches, plus c²/2 for every
object that is missed and every track that is false. A track that takes over an object from another adds c²/2 more.
MOTA (Bernardin and Stiefelhagen 2008): 1 - (missed + false + switches) / objects, old matches being kept while they hold.
IDF1 (Ristani and others 2016): matches of the one best track of each object, 2 · IDTP / (objects + track states).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ghosttrack.common.maths.arrays import Floats, Ints


class Snapshot(NamedTuple):
    """What is there at one layer: numbers int64 [n], and states float64 [n, d]."""

    numbers: Ints
    states: Floats


class Score(NamedTuple):
    """gospa: root mean square over layers, in units of the state, lower is better; mota: at most 1; idf1: 0 to 1."""

    gospa: float
    mota: float
    idf1: float


def gospa(truth: Floats, tracks: Floats, cutoff: float) -> tuple[float, Ints, Ints]:
    """The GOSPA metric (Rahmathullah et al. 2017) of one layer, with α = 2 and p = 2, squared; and which pairs were matched, as
    places in both. truth: [n, d]; tracks: [m, d]."""
    squared = cdist(truth, tracks, "sqeuclidean")
    # Matching a pair saves c² of penalties and costs d²: never more than what is saved.
    rows, columns = linear_sum_assignment(np.minimum(squared, cutoff**2))
    near = squared[rows, columns] < cutoff**2
    rows, columns = rows[near], columns[near]
    missed, false = (cutoff**2 / 2 * (len(each) - len(rows)) for each in (truth, tracks))
    return float(squared[rows, columns].sum()) + missed + false, rows, columns


def score(truth: Sequence[Snapshot], tracks: Sequence[Snapshot], cutoff: float) -> Score:
    """All measures of one problem, a snapshot a layer."""
    return Score(
        _gospa_over_layers(truth, tracks, cutoff), mota(truth, tracks, cutoff), idf1(truth, tracks, cutoff)
    )


def _gospa_over_layers(truth: Sequence[Snapshot], tracks: Sequence[Snapshot], cutoff: float) -> float:
    total = 0.0
    owner: dict[int, int] = {}
    for there, found in zip(truth, tracks, strict=True):
        squared, rows, columns = gospa(there.states, found.states, cutoff)
        matched = dict(zip(there.numbers[rows].tolist(), found.numbers[columns].tolist(), strict=True))
        switches = sum(owner.get(number, track) != track for number, track in matched.items())
        owner |= matched
        total += squared + switches * cutoff**2 / 2
    return float(np.sqrt(total / max(len(truth), 1)))


def mota(truth: Sequence[Snapshot], tracks: Sequence[Snapshot], cutoff: float) -> float:
    """1 where there is nothing to find and nothing is found; 1 less the number of errors where nothing is to be found."""
    errors = objects = 0
    owner: dict[int, int] = {}
    for there, found in zip(truth, tracks, strict=True):
        distance = cdist(there.states, found.states)
        distance[distance >= cutoff] = np.inf
        names, numbers = there.numbers.tolist(), found.numbers.tolist()
        place = {number: column for column, number in enumerate(numbers)}
        matched: dict[int, int] = {}
        for row, name in enumerate(names):
            column = place.get(owner.get(name, -1), -1)
            if column >= 0 and np.isfinite(distance[row, column]) and column not in matched.values():
                matched[row] = column
        rows = [row for row in range(len(names)) if row not in matched]
        columns = [column for column in range(len(numbers)) if column not in matched.values()]
        matched |= _most_matches(distance, rows, columns)
        errors += len(names) + len(numbers) - 2 * len(matched)
        for row, column in matched.items():
            errors += owner.get(names[row], numbers[column]) != numbers[column]
            owner[names[row]] = numbers[column]
        objects += len(names)
    return 1 - errors / max(objects, 1)


def idf1(truth: Sequence[Snapshot], tracks: Sequence[Snapshot], cutoff: float) -> float:
    """1 where there is nothing to find and nothing is found."""
    names = np.unique(np.concatenate([there.numbers for there in truth]))
    numbers = np.unique(np.concatenate([found.numbers for found in tracks]))
    together = np.zeros((len(names), len(numbers)))
    for there, found in zip(truth, tracks, strict=True):
        row, column = np.searchsorted(names, there.numbers), np.searchsorted(numbers, found.numbers)
        together[np.ix_(row, column)] += cdist(there.states, found.states) < cutoff
    matches = together[linear_sum_assignment(together, maximize=True)].sum()
    states = sum(len(there.numbers) for there in [*truth, *tracks])
    return float(2 * matches / states) if states else 1.0


def _most_matches(distance: Floats, rows: list[int], columns: list[int]) -> dict[int, int]:
    """Matches of these rows and columns: as many as there can be, then of least total distance."""
    part = distance[np.ix_(rows, columns)]
    near = np.isfinite(part)
    most = part[near].sum() + 1  # no match is worth more than all distances together
    chosen = zip(*linear_sum_assignment(np.where(near, part, most * (part.size + 1))), strict=True)
    return {rows[row]: columns[column] for row, column in chosen if near[row, column]}
