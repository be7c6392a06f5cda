"""Which latents of a later layer write in nearly the direction of a latent, found once for all problems.

A table holds the NEIGHBOURS nearest latents of every latent and their decoder cosines, so that candidates for a link
are looked up: a step over k active latents costs O(k) look-ups and no product of d_model numbers.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.maths.arrays import Bools, Ints
from ghosttrack.common.models.products import linear

NEIGHBOURS = 16
CHUNK_ROWS = 2048

Table = TypeVar("Table", bound=tuple[NDArray[Any], ...])
"""A NamedTuple of columns."""


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

    earlier: which of the latents given; after: rank in the later scan; place: column of the table, 0 the nearest.
    """

    earlier: Ints
    after: Ints
    place: Ints


def nearest_latents(before: Tensor, after: Tensor) -> Neighbours:
    """The decoder rows of the next layer that are nearest to each row, by cosine. before, after: decoders [d_hidden,
    d_model] with unit rows; the numbers of latents may differ."""
    n = min(NEIGHBOURS, len(after))
    found = [(linear(rows, after)).topk(n, dim=1) for rows in before.split(CHUNK_ROWS)]
    return Neighbours(
        torch.cat([part.indices for part in found]).to(torch.int32),
        torch.cat([part.values for part in found]),
        len(after),
    )


def active_pairs(
    table: Neighbours, widths: Ints, problem: Ints, latent: Ints, after: Ints, active: Bools
) -> Pairs:
    """The pairs of latents that the table knows, ordered by the earlier latent and place.

    widths: [d_before], how many of a latent's neighbours are let in, nearest first; problem, latent: [n], latents of the
    earlier layer and the problem each is of; after, active: the later scans, [n_problems, k], and which latents count.
    """
    rank_of = np.full((len(after), table.d_after), -1, dtype=np.int16)
    scan, rank = np.nonzero(active)
    rank_of[scan, after[scan, rank]] = rank
    wide = widths[latent]
    ids = table.ids.numpy()[latent, : wide.max(initial=0)]
    found = rank_of.ravel()[problem[:, None] * table.d_after + ids]
    earlier, place = np.nonzero((found >= 0) & (np.arange(ids.shape[1]) < wide[:, None]))
    return Pairs(earlier, found[earlier, place].astype(np.int64), place)


def ragged(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Runs of consecutive numbers, one after another: which run each is of, and the number. starts, counts: [n_runs]."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - (np.cumsum(counts) - counts - starts)[run]


def looked_up(keys: Ints, values: NDArray[Any], wanted: Ints) -> NDArray[Any]:
    """The values of wanted keys, of any shape, 0 where there is none. keys: ascending, [n] as values."""
    if not len(keys):
        return np.zeros(wanted.shape, dtype=values.dtype)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def take(table: Table, rows: NDArray[Any]) -> Table:
    """The rows of a table, by number or by mask."""
    return type(table)(*(column[rows] for column in table))
