"""Is a question like those that a detector was fitted on? A distance with a calibrated rate of false alarms.

The distance is that to the k-th nearest training question, between states at the last prompt token of the middle layer,
standardised and of unit length (deep nearest neighbours, Sun et al. 2022). What counts as far is learnt from the training
questions themselves, each against those of other groups: a conformal p-value (Bates et al. 2023).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.maths.arrays import Bools, Floats, Ints, Singles
from ghosttrack.common.maths.seeds import generator
from ghosttrack.stages.detect.evidence import PLACES, PlacedStates

PROMPT = PLACES.index("prompt")
NEIGHBOUR = 5
MOST_KEPT = 4096
"""Training questions that are kept to compare with."""
FALSE_ALARMS = 0.05
"""Share of questions like the training ones that are called unfamiliar."""


@dataclass(frozen=True)
class Familiarity:
    """Arrays of the training questions that are kept. place: of the layer in the detector's layers."""

    place: int
    mean: Singles  # [d_model]
    spread: Singles  # [d_model]
    known: NDArray[np.float16]  # [m, d_model] standardised, of unit length
    distances: Floats  # [m] ascending: of each to its k-th nearest of another group

    def p_value(self, states: PlacedStates) -> Floats:
        """How unusual questions are, [n]: the share of training questions at least as far from the others."""
        here, known = (
            _standard(states.at(PROMPT, self.place), self.mean, self.spread),
            self.known.T.astype(np.float32),
        )
        parts = range(0, max(len(here), 1), MOST_KEPT)
        far = np.concatenate([_nearest(1 - here[start : start + MOST_KEPT] @ known) for start in parts])
        at_least = len(self.distances) - np.searchsorted(self.distances, far - 1e-6)
        return (1 + at_least) / (1 + len(self.distances))

    def unfamiliar(self, states: PlacedStates) -> Bools:
        return self.p_value(states) <= FALSE_ALARMS


def fit_familiarity(states: PlacedStates, groups: Ints, seed: int) -> Familiarity:
    """Distances between training questions of different groups, by the prompt's state halfway up. states: of the training
    questions; groups: [n], questions on one thing."""
    n, _, depth, _ = states.shape
    place = depth // 2
    rows = np.sort(generator(seed, "familiarity").permutation(n)[:MOST_KEPT])
    here = states.of(rows).at(PROMPT, place)
    mean, spread = here.mean(axis=0), here.std(axis=0) + np.float32(1e-6)
    known = _standard(here, mean, spread).astype(np.float16)
    distance = 1 - known.astype(np.float32) @ known.T.astype(np.float32)
    distance[groups[rows][:, None] == groups[rows][None, :]] = np.inf
    return Familiarity(place, mean, spread, known, np.sort(_nearest(distance)).astype(np.float64))


def _standard(states: Singles, mean: Singles, spread: Singles) -> Singles:
    scaled = (states - mean) / spread
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)


def _nearest(distance: Singles) -> Singles:
    """The k-th smallest of each row, [n]; the largest finite one where there are fewer."""
    k = min(NEIGHBOUR, distance.shape[1]) - 1
    found = np.partition(distance, k, axis=1)[:, k]
    return np.where(np.isfinite(found), found, np.float32(2))
