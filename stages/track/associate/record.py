"""What an associator says: for every active latent, the track it belongs to and the detection it continues."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.maths.arrays import Singles
from ghosttrack.stages.track.association import Scans


class Tracks(NamedTuple):
    """Per detection [n_problems, n_layers, k], and per scan [n_problems, n_layers].

    track: int32, number within the problem in order of birth, -1 where the latent is inactive.
    previous: int32, the detection that this one continues, as layer · k + rank; -1 at birth. One layer may be skipped.
    link: float32, decoder cosine to it, NaN at birth. posterior: float32, probability of that link, or of the birth.
    existence: float32, probability that the detection belongs to a lasting feature.
    entropy: float32, mean over a scan's detections of the entropy of where each comes from, nats.
    discarded: float32, bound on the probability of the hypotheses that were dropped at the scan (0 where none were); see
    `hypotheses`.
    """

    track: NDArray[np.int32]
    previous: NDArray[np.int32]
    link: Singles
    posterior: Singles
    existence: Singles
    entropy: Singles
    discarded: Singles


def empty_tracks(scans: Scans) -> Tracks:
    """Every active latent a track of its own, for certain."""
    shape, active = scans.latents.shape, scans.active
    return Tracks(
        track=np.full(shape, -1, dtype=np.int32),
        previous=np.full(shape, -1, dtype=np.int32),
        link=np.full(shape, np.nan, dtype=np.float32),
        posterior=active.astype(np.float32),
        existence=active.astype(np.float32),
        entropy=np.zeros(shape[:2], dtype=np.float32),
        discarded=np.zeros(shape[:2], dtype=np.float32),
    )


def number_tracks(tracks: Tracks, scans: Scans) -> Tracks:
    """Numbers from the links; inactive places are emptied."""
    tracks.posterior[~scans.active] = 0
    n_problems, n_layers, k = scans.active.shape
    flat = tracks.track.reshape(n_problems, n_layers * k)
    born = np.zeros(n_problems, dtype=np.int32)
    for layer in range(n_layers):
        previous, number = tracks.previous[:, layer], tracks.track[:, layer]
        problem, rank = np.nonzero(previous >= 0)
        number[problem, rank] = flat[problem, previous[problem, rank]]
        new = scans.active[:, layer] & (previous < 0)
        number[new] = (born[:, None] + np.cumsum(new, axis=1, dtype=np.int32) - 1)[new]
        born += new.sum(axis=1, dtype=np.int32)
    return tracks
