"""The state of tracks and what a scan's detections are worth to them; the same for every associator.

A track's state belongs to the detection it was last seen at: an activation (Kalman filter on its logarithm, a random walk
with drift), a direction (the latent's decoder row, through the neighbour tables), and r, the probability that there is a
lasting feature at all. A track lives on while it was seen at the last layer, or at the one before with r above a floor.
"""

from typing import NamedTuple

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.track.association import GAPS, Association, Scans
from ghosttrack.stages.track.neighbours import active_pairs, take

LEAST_ODDS = 0.01
"""Gate: a pair whose odds, were it alone, are below one in a hundred is no candidate."""
LEAST_EXISTENCE = 0.01
"""A track that was missed and all but surely never was is given up. No bolder than the gate: who gives up a track rules out
its links, and the next detection is then certain to be new."""


class Living(NamedTuple):
    """Tracks that go on to the scan of a layer, a value a track. Each is known by the detection it was last seen at.

    problem; start: its layer; rank: in that scan. mean, variance: of log-activation, just after it; existence: the
    probability, then, that there is a lasting feature.
    """

    problem: Ints
    start: Ints
    rank: Ints
    mean: Floats
    variance: Floats
    existence: Floats


def no_tracks() -> Living:
    numbers, values = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Living(numbers, numbers, numbers, values, values, values)


class Candidates(NamedTuple):
    """Tracks and detections of one scan that may belong together, a value a pair, ordered by track.

    track: which of the living; after: rank of the detection. log_odds: log-likelihood ratio of "the track gave this
    detection" to "the track was missed, and the detection is a birth or clutter"; mean, variance: the state if it did;
    cosine of the decoder rows.
    """

    track: Ints
    after: Ints
    log_odds: Floats
    mean: Floats
    variance: Floats
    cosine: Singles


def born(association: Association, layer: int) -> tuple[float, float]:
    """A new track's variance of log-activation, and its existence probability."""
    births, clutter = float(association.births[layer]), float(association.clutter[layer])
    return float(association.noise_variance), births / (births + clutter)


def weigh(scans: Scans, living: Living, association: Association, layer: int) -> tuple[Candidates, Floats]:
    """Every pair of a living track and a detection of `layer` that passes the gates, and for each living track the
    logarithm of the probability that it is not detected at this layer."""
    log_missed = np.zeros(len(living.problem))
    parts = []
    for gap in GAPS:
        mine = np.flatnonzero(living.start == layer - gap)
        if len(mine):
            found, log_missed[mine] = _weigh(scans, take(living, mine), association, layer, gap)
            parts.append(found._replace(track=mine[found.track]))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        nothing = np.zeros(0)
        none = Candidates(empty, empty, nothing, nothing, nothing, nothing.astype(np.float32))
        return none, log_missed
    together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    order = np.argsort(together[0], kind="stable")
    return take(Candidates(*together), order), log_missed


def after_a_miss(living: Living, association: Association, layer: int) -> Floats:
    """Existence probabilities of tracks last seen at `layer - 1` and not at `layer`: [n_living]."""
    seen = association.seen(layer - 1, living.mean)
    survival = float(association.survival[layer - 1])
    return living.existence * (survival - seen) / (1 - living.existence * seen)


def _weigh(
    scans: Scans, living: Living, association: Association, layer: int, gap: int
) -> tuple[Candidates, Floats]:
    """`weigh` of tracks that were all last seen at layer - gap."""
    start = layer - gap
    if gap > 1:  # missed on the way
        living = living._replace(
            existence=after_a_miss(living, association, start + 1),
            mean=living.mean + float(association.drift[start]),
            variance=living.variance + float(association.change_variance[start]),
        )
    detected = living.existence * association.seen(layer - 1, living.mean)
    mean = living.mean + float(association.drift[layer - 1])
    variance = living.variance + float(association.change_variance[layer - 1])
    table, latent = association.neighbours[gap][start], scans.latents[living.problem, start, living.rank]
    track, after, place = active_pairs(
        table, association.widths[gap][start], living.problem, latent, scans.latents[:, layer], scans.active[:, layer]
    )  # fmt: skip
    seen_at = scans.level[living.problem, start, living.rank]
    measured = scans.level[living.problem[track], layer, after]
    noise = float(association.noise_variance)
    innovation, spread = measured - mean[track], variance[track] + noise
    log_odds = (
        np.log(detected / (1 - detected))[track]
        + association.likelihood_ratio(gap, start, latent[track], place, measured - seen_at[track])
        + _log_normal(innovation, spread)
        - _log_normal(
            measured - float(association.level_mean[layer]), float(association.level_variance[layer])
        )
        - np.log(float(association.births[layer] + association.clutter[layer]))
    )
    gain = variance[track] / spread
    found = Candidates(
        track, after, log_odds, mean[track] + gain * innovation, gain * noise,
        table.cosines.numpy()[latent[track], place],
    )  # fmt: skip
    return take(found, log_odds > np.log(LEAST_ODDS)), np.log(1 - detected)


def _log_normal(distance: Floats, variance: Floats | float) -> Floats:
    return -0.5 * (np.log(2 * np.pi * variance) + distance**2 / variance)
