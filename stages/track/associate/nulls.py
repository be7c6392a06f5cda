"""Associations that know nothing of directions: what the others must be better than.

`feature_id`: the latent with the same number. `random`: the tracks of another associator with their detections dealt out anew.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ghosttrack.stages.track.associate.record import Tracks, empty_tracks, number_tracks
from ghosttrack.stages.track.association import GAPS, Scans

ROWS = 512
"""Pairs of directions that are multiplied at a time: they stay in the processor's cache."""


def same_number(scans: Scans, decoders: Sequence[Tensor]) -> Tracks:
    """A detection continues that of the same latent at the layer before, or two before if the latent was not active."""
    tracks, active = empty_tracks(scans), scans.active
    k = active.shape[2]
    for layer in range(1, active.shape[1]):
        for gap in reversed(GAPS):  # the nearer layer overwrites
            if layer < gap:
                continue
            same = scans.latents[:, layer - gap, :, None] == scans.latents[:, layer, None, :]
            same &= active[:, layer - gap, :, None] & active[:, layer, None, :]
            problem, before, after = np.nonzero(same)
            tracks.previous[problem, layer, after] = (layer - gap) * k + before
    return with_cosines(scans, number_tracks(tracks, scans), decoders)


def dealt_anew(scans: Scans, given: Tracks, decoders: Sequence[Tensor], seed: int) -> Tracks:
    """The given tracks with the same births, lengths, deaths and skipped layers, but other detections.

    At every layer the detections that continue a track are dealt to the tracks that go on there at random; detections that
    begin a track stay. So a layer has as many links, births and deaths as before, each track as many detections at the
    same layers, and only who is whom has changed.
    """
    random = np.random.default_rng(seed)
    tracks = empty_tracks(scans)
    n_problems, n_layers, k = scans.latents.shape
    # Who now holds a detection's place.
    stands = np.arange(n_layers * k, dtype=np.int32)[None].repeat(n_problems, 0)
    for layer in range(1, n_layers):
        goes_on = given.previous[:, layer] >= 0
        problem, rank = np.nonzero(goes_on)
        order = np.lexsort((random.random(len(problem)), problem))
        dealt = rank[order]
        stands[problem, layer * k + rank] = layer * k + dealt
        before = stands[problem, given.previous[problem, layer, rank]]
        tracks.previous[problem, layer, dealt] = before
    return with_cosines(scans, number_tracks(tracks, scans), decoders)


def with_cosines(scans: Scans, tracks: Tracks, decoders: Sequence[Tensor]) -> Tracks:
    """The decoder cosine of every link, wherever it leads."""
    k = tracks.track.shape[2]
    for layer in range(1, tracks.track.shape[1]):
        problem, rank = np.nonzero(tracks.previous[:, layer] >= 0)
        start, before = np.divmod(tracks.previous[problem, layer, rank], k)
        latent, earlier = scans.latents[problem, layer, rank], scans.latents[problem, start, before]
        for gap in GAPS:
            mine = start == layer - gap
            if mine.any():
                pairs = zip(
                    *(torch.from_numpy(of[mine]).split(ROWS) for of in (earlier, latent)), strict=True
                )
                cosines = [(decoders[layer - gap][a] * decoders[layer][b]).sum(1) for a, b in pairs]
                tracks.link[problem[mine], layer, rank[mine]] = torch.cat(cosines).numpy()
    return tracks
