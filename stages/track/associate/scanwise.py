"""Tracks by one decision a scan: global nearest neighbour, and the marginals of joint probabilistic data association.

Both weigh the pairs alike and put the same probabilities on them. Nearest neighbour takes the jointly most probable
association and believes it: a track's state is that of the detection it took. With marginals each detection goes to the
track it most probably belongs to (the one-to-one choice with the largest expected number of right decisions), and the
track's state is averaged over all detections that it may have given.
"""

import numpy as np
from numpy.typing import NDArray

from stages.track.associate.filter import Candidates, States, born, candidates
from stages.track.associate.marginals import Marginals, link_probabilities
from stages.track.associate.nearest import best_pairs
from stages.track.associate.record import Tracks, empty_tracks, number_tracks
from stages.track.association import GAPS, Association, Floats, Scans


def track_by_scan(scans: Scans, association: Association, soft: bool) -> Tracks:
    """soft: by marginals; else nearest neighbour."""
    n_problems, n_layers, k = scans.latents.shape
    states, tracks = States.of(scans), empty_tracks(scans)
    for layer in range(n_layers):
        states.variance[:, layer], new_existence = born(association, layer)
        if not layer:
            states.existence[:, 0] = np.where(states.active[:, 0], new_existence, 0)
            continue
        pairs = candidates(scans, states, association, layer)
        row, column = pairs.row(k), pairs.column(k)
        marginals = link_probabilities(
            pairs.problem, row, column, pairs.log_odds, n_problems * len(GAPS) * k, n_problems * k
        )
        gain = marginals.linked - marginals.unlinked[column] if soft else pairs.log_odds
        chosen = best_pairs(row, column, gain)
        unlinked = marginals.unlinked.reshape(n_problems, k)
        states.existence[:, layer] = np.where(states.active[:, layer], 1 - unlinked * (1 - new_existence), 0)
        tracks.existence[:, layer] = states.existence[:, layer]
        tracks.posterior[:, layer] = unlinked
        tracks.entropy[:, layer] = _entropy(pairs, marginals, states.active[:, layer])
        _link(tracks, states, pairs, marginals, chosen, layer, soft)
    tracks.existence[:, 0] = states.existence[:, 0]
    return number_tracks(tracks, states.active)


def _link(
    tracks: Tracks,
    states: States,
    pairs: Candidates,
    marginals: Marginals,
    chosen: NDArray[np.bool_],
    layer: int,
    soft: bool,
) -> None:
    k = tracks.track.shape[2]
    problem, after = pairs.problem[chosen], pairs.after[chosen]
    start, before = layer - pairs.gap[chosen], pairs.before[chosen]
    tracks.previous[problem, layer, after] = start * k + before
    tracks.link[problem, layer, after] = pairs.cosine[chosen]
    tracks.posterior[problem, layer, after] = marginals.linked[chosen]
    states.followed[problem, start, before] = True
    mean, variance = pairs.mean, pairs.variance
    if soft:
        mean, variance = _averaged(pairs, marginals, pairs.row(k))
    states.mean[problem, layer, after] = mean[chosen]
    states.variance[problem, layer, after] = variance[chosen]


def _averaged(pairs: Candidates, marginals: Marginals, row: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Each pair's track's state over all detections it may have given: the moments of the mixture."""
    weight = marginals.linked / np.maximum(1 - marginals.missed[row], 1e-12)
    mean = np.bincount(row, weight * pairs.mean)[row]
    second = np.bincount(row, weight * (pairs.variance + pairs.mean**2))[row]
    return mean, np.maximum(second - mean**2, pairs.variance.min(initial=np.inf))


def _entropy(pairs: Candidates, marginals: Marginals, active: NDArray[np.bool_]) -> Floats:
    """Mean over a scan's detections of the entropy of where each comes from, nats: [n_problems]."""
    n_problems, k = active.shape
    terms = np.bincount(pairs.problem, _surprise(marginals.linked), minlength=n_problems)
    terms += (_surprise(marginals.unlinked).reshape(n_problems, k) * active).sum(1)
    return terms / np.maximum(active.sum(1), 1)


def _surprise(probability: Floats) -> Floats:
    return -probability * np.log(np.maximum(probability, 1e-300))
