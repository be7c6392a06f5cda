"""Which latents of a later layer write in nearly the direction of a latent, found once for all problems.

A table holds the NEIGHBOURS nearest latents of every latent and their decoder cosines, so that candidates for a link
are looked up: a step over k active latents costs O(k) look-ups and no product of d_model numbers.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import ModelMismatchError

NEIGHBOURS = 16
CHUNK_ROWS = 2048


class Neighbours(NamedTuple):
    """Of every latent of one layer, the nearest latents of a later one, nearest first.

    ids: int32 [d_before, n]; cosines: float32 [d_before, n], falling; d_after: number of latents of the later layer.
    n is NEIGHBOURS, or d_after where that is less.
    """

    ids: Tensor
    cosines: Tensor
    d_after: int


class Pairs(NamedTuple):
    """Active latents of two layers of one problem that are neighbours; a value a pair, [n_pairs].

    problem: row of the problem; before, after: ranks in the two scans; place: column of the table, 0 the nearest.
    """

    problem: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    place: NDArray[np.int64]


def nearest_latents(before: Tensor, after: Tensor) -> Neighbours:
    """before, after: decoders [d_hidden, d_model] with unit rows; the numbers of latents may differ.

    Raises ModelMismatchError where the widths d_model differ.
    """
    if before.shape[1] != after.shape[1]:
        raise ModelMismatchError(
            f"decoders of width {before.shape[1]} and {after.shape[1]} cannot be compared; they are of two models"
        )
    n = min(NEIGHBOURS, len(after))
    found = [(rows @ after.T).topk(n, dim=1) for rows in before.split(CHUNK_ROWS)]
    return Neighbours(
        torch.cat([part.indices for part in found]).to(torch.int32),
        torch.cat([part.values for part in found]),
        len(after),
    )


def active_pairs(
    table: Neighbours,
    widths: NDArray[np.int64],
    before: NDArray[np.int64],
    live: NDArray[np.bool_],
    after: NDArray[np.int64],
    active: NDArray[np.bool_],
) -> Pairs:
    """The pairs of active latents that the table knows, ordered by problem, rank before and place.

    widths: [d_before], how many of a latent's neighbours are let in, nearest first; before, after: latents of the two
    scans, [n_problems, k]; live, active: which of them count, [n_problems, k].
    """
    rank_of = np.full((len(after), table.d_after), -1, dtype=np.int16)
    problem, rank = np.nonzero(active)
    rank_of[problem, after[problem, rank]] = rank
    problem, rank = np.nonzero(live)
    latent = before[problem, rank]
    counts = widths[latent]
    ends = np.cumsum(counts)
    row = np.repeat(np.arange(len(latent)), counts)
    place = np.arange(len(row)) - np.repeat(ends - counts, counts)
    found = rank_of[problem[row], table.ids.numpy()[latent[row], place]]
    kept = found >= 0
    row = row[kept]
    return Pairs(problem[row], rank[row], found[kept].astype(np.int64), place[kept])
