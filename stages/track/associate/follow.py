"""One interface to all associators."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ghosttrack.common.formats.ladder import Associator
from ghosttrack.stages.track.associate.hypotheses import track_by_hypotheses
from ghosttrack.stages.track.associate.nulls import dealt_anew, same_number, with_cosines
from ghosttrack.stages.track.associate.record import Tracks, empty_tracks, number_tracks
from ghosttrack.stages.track.associate.scanwise import track_by_scan
from ghosttrack.stages.track.association import Association, Scans

BLOCK = 512
"""Problems at a time: their look-up tables stay in the processor's cache."""


def follow(
    scans: Scans,
    association: Association,
    associator: Associator,
    decoders: Sequence[Tensor],
    *,
    seed: int,
    given: Tracks | None = None,
) -> Tracks:
    """Tracks of many problems over all layers; the same bits in every run, however problems are grouped.

    decoders: a layer's [d_hidden, d_model] with unit rows, those that the association was fitted to. seed and given are
    for `random` alone: the tracks whose births, lengths and deaths it keeps, those of `nearest` unless given.
    """
    if associator == "random":
        if given is None:
            given = follow(scans, association, "nearest", decoders, seed=seed)
        return dealt_anew(scans, given, decoders, seed)
    way: Callable[[Scans], Tracks] = {
        "none": lambda scans: number_tracks(empty_tracks(scans), scans),
        "feature_id": lambda scans: same_number(scans, decoders),
        "nearest": lambda scans: track_by_scan(scans, association, soft=False),
        "hypotheses": lambda scans: track_by_hypotheses(scans, association),
        "marginals": lambda scans: track_by_scan(scans, association, soft=True),
    }[associator]
    starts = range(0, max(len(scans.latents), 1), BLOCK)
    blocks = [way(scans.of(slice(start, start + BLOCK))) for start in starts]
    tracks = Tracks(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))
    return tracks if association.kind == "cosine" else with_cosines(scans, tracks, decoders)
