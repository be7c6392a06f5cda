"""Tracks by one decision a scan: global nearest neighbour, and the marginals of joint probabilistic data association.

Both weigh the pairs alike and put the same probabilities on them. Nearest neighbour takes the jointly most probable
association and believes it: a track's state is that of the detection it took. With marginals each detection goes to the
track it most probably belongs to (the one-to-one choice with the largest expected number of right decisions), and the
track's state is averaged over all detections that it may have given.
"""

import numpy as np

from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.stages.track.associate.filter import (
    LEAST_EXISTENCE,
    Candidates,
    Living,
    after_a_miss,
    born,
    no_tracks,
    weigh,
)
from ghosttrack.stages.track.associate.marginals import Marginals, link_probabilities
from ghosttrack.stages.track.associate.nearest import best_pairs
from ghosttrack.stages.track.associate.record import Tracks, empty_tracks, number_tracks
from ghosttrack.stages.track.association import Association, Scans
from ghosttrack.stages.track.neighbours import take


def track_by_scan(scans: Scans, association: Association, soft: bool) -> Tracks:
    """Tracks that are made layer by layer. soft: by marginals; else nearest neighbour."""
    n_problems, n_layers, k = scans.latents.shape
    tracks, active, mean = empty_tracks(scans), scans.active, scans.level.copy()
    variance, existence = np.zeros((2, *scans.latents.shape))
    missed = no_tracks()
    for layer in range(n_layers):
        variance[:, layer], new_existence = born(association, layer)
        existence[:, layer] = np.where(active[:, layer], new_existence, 0)
        if not layer:
            continue
        problem, rank = np.nonzero(active[:, layer - 1])
        state = (array[problem, layer - 1, rank] for array in (mean, variance, existence))
        fresh = Living(problem, np.full(len(problem), layer - 1), rank, *state)
        living = Living(*(np.concatenate(columns) for columns in zip(missed, fresh, strict=True)))
        pairs, _ = weigh(scans, living, association, layer)
        problem = living.problem[pairs.track]
        column = problem * k + pairs.after
        marginals = link_probabilities(
            problem, pairs.track, column, pairs.log_odds, len(living.problem), n_problems * k
        )
        gain = marginals.linked - marginals.unlinked[column] if soft else pairs.log_odds
        chosen = best_pairs(pairs.track, column, gain)
        unlinked = marginals.unlinked.reshape(n_problems, k)
        existence[:, layer] = np.where(active[:, layer], 1 - unlinked * (1 - new_existence), 0)
        tracks.posterior[:, layer] = unlinked
        tracks.entropy[:, layer] = _entropy(problem, marginals, active[:, layer])
        track = pairs.track[chosen]
        where = living.problem[track], layer, pairs.after[chosen]
        tracks.previous[where] = living.start[track] * k + living.rank[track]
        tracks.link[where] = pairs.cosine[chosen]
        tracks.posterior[where] = marginals.linked[chosen]
        states = _averaged(pairs, marginals) if soft else (pairs.mean, pairs.variance)
        mean[where], variance[where] = (values[chosen] for values in states)
        missed = _missed(fresh, track - len(missed.problem), association, layer)
    tracks.existence[:] = existence
    return number_tracks(tracks, scans)


def _missed(fresh: Living, seen: Ints, association: Association, layer: int) -> Living:
    """Those of the tracks seen at the last layer that go on unseen. seen: which were seen again (negative: no matter)."""
    kept = after_a_miss(fresh, association, layer) > LEAST_EXISTENCE
    kept[seen[seen >= 0]] = False
    return take(fresh, kept)


def _averaged(pairs: Candidates, marginals: Marginals) -> tuple[Floats, Floats]:
    """Each pair's track's state over all detections it may have given: the moments of the mixture."""
    weight = marginals.linked / np.maximum(1 - marginals.missed[pairs.track], 1e-12)
    mean = np.bincount(pairs.track, weight * pairs.mean).astype(np.float64)[pairs.track]
    spread = weight * (pairs.variance + (pairs.mean - mean) ** 2)
    return mean, np.bincount(pairs.track, spread).astype(np.float64)[pairs.track]


def _entropy(problem: Ints, marginals: Marginals, active: Bools) -> Floats:
    """Mean over a scan's detections of the entropy of where each comes from, nats: [n_problems]."""
    n_problems, k = active.shape
    terms = np.bincount(problem, _surprise(marginals.linked), minlength=n_problems)
    terms = terms + (_surprise(marginals.unlinked).reshape(n_problems, k) * active).sum(1)
    return terms / np.maximum(active.sum(1), 1)


def _surprise(probability: Floats) -> Floats:
    return -probability * np.log(np.maximum(probability, 1e-300))
