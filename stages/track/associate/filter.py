"""The state of tracks and what a scan's detections are worth to them; the same for every associator.

A track's state belongs to the detection it was last seen at: an activation (Kalman filter on its logarithm, a random walk
with drift), a direction (the latent's decoder row, through the neighbour tables), and r, the probability that there is a
lasting feature at all. A track lives on while it was seen at the last layer, or at the one before with r above a floor.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.track.association import GAPS, Association, Floats, Scans
from stages.track.neighbours import active_pairs

LEAST_ODDS = 0.01
"""Gate: a pair whose odds, were it alone, are below one in a hundred is no candidate."""
LEAST_EXISTENCE = 0.05
"""A track that was missed and probably never was is given up."""


class Candidates(NamedTuple):
    """Tracks and detections of one scan that may belong together, a value a pair, ordered by problem and track.

    problem; gap: 1 or 2 layers since the track was seen; before, after: ranks of the track's last detection and of the
    new one. log_odds: log-likelihood ratio of "the track gave this detection" to "the track was missed, and the detection
    is a birth or clutter"; mean, variance: the state if it did; cosine of the decoder rows.
    """

    problem: NDArray[np.int64]
    gap: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    log_odds: Floats
    mean: Floats
    variance: Floats
    cosine: NDArray[np.float32]

    def row(self, k: int) -> NDArray[np.int64]:
        """A number for each track: int64 [n_candidates] in [0, n_problems · 2k)."""
        return (self.problem * len(GAPS) + self.gap - 1) * k + self.before

    def column(self, k: int) -> NDArray[np.int64]:
        """A number for each detection: int64 [n_candidates] in [0, n_problems · k)."""
        return self.problem * k + self.after


@dataclass
class States:
    """Of the track that each detection belongs to, just after it: [n_problems, n_layers, k]."""

    active: NDArray[np.bool_]
    level: Floats
    """The measured log-activation, 0 where inactive."""
    mean: Floats
    variance: Floats
    existence: Floats
    followed: NDArray[np.bool_]
    """Whether the track has been seen again."""

    @classmethod
    def of(cls, scans: Scans) -> "States":
        active = scans.activations > 0
        level = np.log(scans.activations, where=active, out=np.zeros(active.shape))
        empty = np.zeros(active.shape)
        return cls(active, level, level.copy(), empty, empty.copy(), np.zeros_like(active))


def born(association: Association, layer: int) -> tuple[float, float]:
    """A new track's variance of log-activation, and its existence probability."""
    births, clutter = float(association.births[layer]), float(association.clutter[layer])
    return float(association.noise_variance), births / (births + clutter)


def candidates(scans: Scans, states: States, association: Association, layer: int) -> Candidates:
    """Every pair of a living track and a detection of `layer` that passes the gates."""
    parts = [_candidates(scans, states, association, layer, gap) for gap in GAPS if layer >= gap]
    together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    order = np.lexsort((together[2], together[1], together[0]))
    return Candidates(*(column[order] for column in together))


def _candidates(scans: Scans, states: States, association: Association, layer: int, gap: int) -> Candidates:
    start = layer - gap
    living = states.active[:, start]
    if gap > 1:
        living = living & ~states.followed[:, start]
    mean, variance, exists = (a[:, start] for a in (states.mean, states.variance, states.existence))
    for pair in range(start, layer - 1):  # missed on the way
        exists = _missed(association, pair, mean, exists)
        living = living & (exists > LEAST_EXISTENCE)
        mean, variance = _predict(association, pair, mean, variance)
    expected = exists * association.seen(layer - 1, mean)
    mean, variance = _predict(association, layer - 1, mean, variance)
    table = association.neighbours[gap][start]
    pairs = active_pairs(
        table, association.widths[gap][start], scans.latents[:, start], living, scans.latents[:, layer],
        states.active[:, layer],
    )  # fmt: skip
    track = pairs.problem, pairs.before
    latent = scans.latents[pairs.problem, start, pairs.before]
    measured = states.level[pairs.problem, layer, pairs.after]
    noise = float(association.noise_variance)
    innovation, spread = measured - mean[track], variance[track] + noise
    log_odds = (
        np.log(expected[track] / (1 - expected[track]))
        + association.scores[gap][start][latent, pairs.place]
        + _log_normal(innovation, spread)
        - _log_normal(
            measured - float(association.level_mean[layer]),
            np.array(float(association.level_variance[layer])),
        )
        - np.log(float(association.births[layer] + association.clutter[layer]))
    )
    gain = variance[track] / spread
    found = Candidates(
        pairs.problem, np.full(len(latent), gap), pairs.before, pairs.after, log_odds,
        mean[track] + gain * innovation, gain * noise, table.cosines.numpy()[latent, pairs.place],
    )  # fmt: skip
    kept = log_odds > np.log(LEAST_ODDS)
    return Candidates(*(column[kept] for column in found))


def _predict(association: Association, pair: int, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    return mean + float(association.drift[pair]), variance + float(association.change_variance[pair])


def _missed(association: Association, pair: int, mean: Floats, exists: Floats) -> Floats:
    """Existence probability after no detection at the next layer."""
    seen = association.seen(pair, mean)
    return exists * (float(association.survival[pair]) - seen) / (1 - exists * seen)


def _log_normal(distance: Floats, variance: Floats) -> Floats:
    return -0.5 * (np.log(2 * np.pi * variance) + distance**2 / variance)
