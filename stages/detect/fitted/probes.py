"""Linear probes of hidden states: one ridge regression for every place and layer, and what they say together.

SAPLMA (Azaria and Mitchell 2023) and P(IK) (Kadavath et al. 2022) are such probes at one place and layer. Here the best
cell is chosen on the inner folds, and the mean over the layers of a place is a steadier score than any one of them.
"""

from dataclasses import dataclass

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.common.maths.metrics import ones, rank_metrics
from ghosttrack.stages.detect.evidence import PLACES, PlacedStates
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges

PENALTIES = (0.1, 1.0)
"""For standardised states, per training row; a probe is the mean over them."""


@dataclass(frozen=True)
class Probes:
    """A probe a cell (place, layer), cells in the order of places, then layers."""

    mean: Singles  # [n_cells, d_model]
    rate: Singles  # [n_cells, d_model]
    weights: Singles  # [n_cells, d_model]
    spread: Singles  # [n_cells] of the held-out scores: its reciprocal weighs a cell in a mean
    auroc: Floats  # [n_cells] of the held-out scores

    @property
    def best(self) -> int:
        return int(np.argmax(self.auroc))

    def cell_name(self, cell: int, layers: list[int]) -> str:
        return f"{PLACES[cell // len(layers)]}, layer {layers[cell % len(layers)]}"

    def score(self, states: PlacedStates) -> Singles:
        """What each probe says, [n, n_cells], each cell in units of its spread; 0 where absent."""
        n, places, depth, _ = states.shape
        scores = np.zeros((n, places * depth), dtype=np.float32)
        for cell in range(places * depth):
            z = Standardiser(self.mean[cell], self.rate[cell])(states.at(cell // depth, cell % depth))
            scores[:, cell] = np.nan_to_num(z, copy=False) @ self.weights[cell] / self.spread[cell]
        return scores


def fit_probes(states: PlacedStates, labels: Floats, inner: Ints) -> tuple[Probes, Singles]:
    """The probes fitted on n questions, and [n, n_cells] held-out scores in units of their spread."""
    n, places, depth, width = states.shape
    n_cells = places * depth
    parts = [np.zeros((n_cells, width), dtype=np.float32) for _ in range(3)]
    held_out = np.zeros((n, n_cells), dtype=np.float32)
    spread, area = np.ones(n_cells, dtype=np.float32), np.zeros(n_cells)
    once = ones(n)
    for cell in range(n_cells):
        values = states.at(cell // depth, cell % depth)
        standardiser = Standardiser.fit(values)
        ridges = fit_ridges(
            np.nan_to_num(standardiser(values), copy=False), labels[:, None], inner, PENALTIES
        )
        for part, found in zip(parts, (*standardiser, ridges.weights[:, :, 0].mean(axis=0)), strict=True):
            part[cell] = found
        held_out[:, cell] = ridges.held_out[:, :, 0].mean(axis=0) - ridges.centre[0]
        spread[cell] = held_out[:, cell].std() or 1.0
        area[cell] = float(rank_metrics(labels, held_out[:, cell], once).auroc[0])
    mean, rate, weights = parts
    return Probes(mean, rate, weights, spread, area), (held_out / spread).astype(np.float32)


def place_means(scores: Singles, depth: int) -> Floats:
    """Mean over the layers of each place: [n, n_cells] → [n, 4]."""
    return scores.reshape(len(scores), -1, depth).mean(axis=2).astype(np.float64)
