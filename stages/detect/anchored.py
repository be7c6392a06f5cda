"""Anchored scores: the answer's standing in other contexts and a trained score, added with weights that nothing is fitted for.

s = v · ((1 − k) · (z(A) / 2 + w · z(b)) + k · z(b)) + (1 − v) · z(A): A is the anchor, which no label was asked for, b a trained
log-odds, z in means and spreads of training rows (of b by fits that had not seen them). Learnt weights alone lose on other data what
fixed ones keep, and are better where much was learnt of the very relation. k is m / (m + 30) for m training answers of the question's
relation (`known`), v is n / (n + 50) for n training answers; w is 1 where the answer is like what was fitted and falls with its
distance from that (`Novelty`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.fitted.ridge import Standardiser
from ghosttrack.stages.detect.protocol.folds import by_other_folds

WEIGHT = 0.5
"""Of the anchor in a relation of which nothing is known."""
HALF = 30
"""Training answers of a relation that halve that."""
FEW = 50
"""Training answers of which as much is learnt as is known without them."""
NEIGHBOURS = 10
"""The training answer whose distance counts: the so-many-th nearest one."""
MOST_KEPT = 16_384
"""Training answers that are kept to compare with, evenly drawn."""
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Novelty:
    """How far an answer is from the training answers, in units of how far those are from each other across inner folds."""

    mean: Singles
    rate: Singles
    place: Singles  # [at most MOST_KEPT, d] training rows, standardised
    usual: float

    def weight(self, values: Floats) -> Floats:
        """(usual distance / own distance)², at most 1, [n]. values: [n, d]."""
        z = _standard(self.mean, self.rate, values)
        distance = _nearest(z, self.place)
        return np.asarray(np.minimum(1.0, self.usual / np.maximum(distance, 1e-9)) ** 2)


def fit_novelty(values: Floats, inner: Ints) -> Novelty:
    """How far training answers usually are from each other, to judge new ones by. values: [n, d] columns of the
    training rows, held out as the trained score's are; inner: [n]."""
    standardiser = Standardiser.fit(values)
    kept = evenly(len(values), MOST_KEPT)
    place, inner = _standard(*standardiser, values[kept]), inner[kept]
    distances = np.concatenate(
        [_nearest(place[inner == fold], place[inner != fold]) for fold in np.unique(inner)]
    )
    return Novelty(*standardiser, place, float(np.quantile(distances, USUAL)))


USUAL = 0.9
"""Share of the training answers that count as usual."""


def _standard(mean: Singles, rate: Singles, values: Floats) -> Singles:
    return np.nan_to_num(Standardiser(mean, rate)(values))


def _nearest(z: Singles, place: Singles) -> Floats:
    """Distance to the NEIGHBOURS-th nearest row of `place`, or the farthest of fewer, [n]."""
    at, own = min(NEIGHBOURS, len(place)) - 1, (place**2).sum(axis=1)
    found = np.zeros(len(z))
    for start in range(0, len(z), ROWS_AT_ONCE):
        part = z[start : start + ROWS_AT_ONCE]
        squares = (part**2).sum(axis=1)[:, None] - 2 * part @ place.T + own
        found[start : start + ROWS_AT_ONCE] = np.sqrt(
            np.maximum(np.partition(squares, at, axis=1)[:, at], 0.0)
        )
    return found


def evenly(count: int, most: int) -> slice:
    """So many of the rows at most."""
    return slice(None, None, max(1, -(-count // most)))


def counted(relations: Sequence[str]) -> dict[str, int]:
    """Training answers of each relation that has a name."""
    return dict(Counter(filter(None, relations)))


def known(relations: Sequence[str], counts: Mapping[str, int]) -> Floats:
    """How far each question's relation is known, from 0 to 1, [n]. counts: see `counted`."""
    answers = np.array([counts.get(relation, 0) for relation in relations], dtype=np.float64)
    return answers / (answers + HALF)


def known_inside(relations: Sequence[str], inner: Ints) -> Floats:
    """The same of training rows, each by those of the other inner folds, [n]."""
    names = np.array(relations, dtype=np.str_)
    return by_other_folds(inner, lambda rest, own: known(names[own].tolist(), counted(names[rest].tolist())))


@dataclass(frozen=True)
class Anchored:
    """Means and spreads of the two parts, and how many answers the trained one was fitted to."""

    anchor_mean: float
    anchor_spread: float
    trained_mean: float
    trained_spread: float
    fitted_to: int

    def weights(
        self, known: Floats | float, weight: Floats | float = 1.0
    ) -> tuple[Floats | float, Floats | float]:
        """Of anchor and trained score, both standardised. known: see `known`; weight: see `Novelty.weight`."""
        learnt = self.fitted_to / (self.fitted_to + FEW)
        return 1 - learnt + learnt * (1 - known) * WEIGHT, learnt * ((1 - known) * weight + known)

    def score(
        self, anchor: Floats, trained: Floats, known: Floats | float, weight: Floats | float = 1.0
    ) -> Floats:
        """[n], of the same arguments."""
        of_anchor, of_trained = self.weights(known, weight)
        a = (anchor - self.anchor_mean) / self.anchor_spread
        b = (trained - self.trained_mean) / self.trained_spread
        return np.asarray(of_anchor * a + of_trained * b)


def fit_anchored(anchor: Floats, held_out: Floats) -> Anchored:
    """Means and spreads by which anchor and trained score count alike. anchor: [n] of the training rows; held_out:
    [n] their trained scores by fits that had not seen them."""
    return Anchored(
        float(anchor.mean()),
        float(anchor.std()) or 1.0,
        float(held_out.mean()),
        float(held_out.std()) or 1.0,
        len(anchor),
    )
