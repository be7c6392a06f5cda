"""Where in held-out text every latent is active, the strongest places and places at all strengths, with its activation on every
token around them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ghosttrack.common.maths.arrays import Bools, Ints, Singles
from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.stages.track.corpus_scans import CorpusScans
from ghosttrack.stages.track.neighbours import looked_up
from ghosttrack.stages.track.outputs import in_half

TOKENS_BEFORE = 12
TOKENS_AFTER = 6


class Windows:
    """The text around every scan. scan: int64 [n_scans, window], the scan of each token, −1 where there is none."""

    def __init__(self, found: CorpusScans, text: HeldOutText, pieces: Sequence[str]) -> None:
        """pieces: the text of every token of the vocabulary."""
        token, position = text.token.numpy(), text.position.numpy()
        offsets = np.arange(-TOKENS_BEFORE, TOKENS_AFTER + 1)
        row, columns = found.row[:, None], found.column[:, None] + offsets
        inside = (columns >= 0) & (columns < token.shape[1])
        columns = columns.clip(0, token.shape[1] - 1)
        # of the same segment: as far from the token in the segment as in the row
        inside &= position[row, columns] - position[found.row, found.column][:, None] == offsets
        inside &= text.real.numpy()[row, columns]
        scan_at = np.full(token.shape, -1, dtype=np.int64)
        scan_at[found.row, found.column] = np.arange(len(found.row))
        self.scan = np.where(inside, scan_at[row, columns], -1)
        self.inside = inside
        texts = [
            ["".join(part) for part in (words[:here], words[here : here + 1], words[here + 1 :])]
            for words, here in (
                ([pieces[number] for number in token[r, c[kept]].tolist()], int(kept[:TOKENS_BEFORE].sum()))
                for r, c, kept in zip(found.row, columns, inside, strict=True)
            )
        ]
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int16)
        self.lengths = lengths[token[row, columns]]
        self.before, self.token, self.after = (pa.array([each[i] for each in texts]) for i in range(3))


def excerpts(
    found: CorpusScans, windows: Windows, place: int, layer: int, count: int, width: int
) -> pa.Table:
    """`count` places of each latent of a layer: half of them the strongest, half spread evenly over the others by strength.

    place: of the layer among the scans'; width: latents. Sorted by latent and falling activation.
    """
    latents, activations = found.scans.latents[:, place], found.scans.activations[:, place]
    scan, _ = active = np.nonzero(activations > 0)
    latent, activation = latents[active], activations[active]
    order = np.lexsort((scan, -activation, latent))
    scan, latent, activation = scan[order], latent[order], activation[order]
    rank = _places(latent)
    whole = np.searchsorted(latent, latent, side="right") - np.searchsorted(latent, latent)
    rows = np.flatnonzero(spread(rank, whole, count))
    inside = windows.inside[scan[rows]]
    heat = activation_at(scan, latent, activation, windows.scan[scan[rows]], latent[rows], width)
    offsets = pa.array(np.append(0, np.cumsum(inside.sum(1))).astype(np.int32))
    at = pa.array(scan[rows])
    return pa.table(
        {
            "layer": pa.array(np.full(len(rows), layer), pa.int16()),
            "latent": pa.array(latent[rows], pa.int32()),
            "rank": pa.array(_places(latent[rows]), pa.int16()),
            "quantile": pa.array(1 - rank[rows] / whole[rows], pa.float32()),
            "activation": pa.array(activation[rows], pa.float32()),
            "before": windows.before.take(at), "token": windows.token.take(at), "after": windows.after.take(at),
            "lengths": pa.ListArray.from_arrays(offsets, pa.array(windows.lengths[scan[rows]][inside])),
            "heat": pa.ListArray.from_arrays(offsets, pa.array(in_half(heat[inside]))),
        }
    )  # fmt: skip


def spread(rank: Ints, whole: Ints, count: int) -> Bools:
    """Which places are kept: of each latent the first half of `count`, and as many evenly spaced among the rest.

    rank: of each place among those of its latent; whole: how many those are.
    """
    top = count // 2
    rest, left = rank - top, np.maximum(whole - top, 1)
    bins = np.minimum(count - top, left)
    step = (rest * bins) // left != ((rest - 1) * bins) // left
    return (rank < top) | ((rest >= 0) & step)


def activation_at(
    scan: Ints, latent: Ints, activation: Singles, wanted: Ints, of: Ints, width: int
) -> Singles:
    """Activations of latents `of` [n] at scans `wanted` [n, m], 0 where not active or no scan.

    scan, latent, activation: of every active latent at every scan, in any order.
    """
    key = scan * width + latent
    order = np.argsort(key)
    sought = np.where(wanted >= 0, wanted * width + of[:, None], -1)
    return looked_up(key[order], activation[order], sought).astype(np.float32)


def _places(latent: Ints) -> Ints:
    """Of each row, ordered by latent, among those of its latent."""
    return np.arange(len(latent)) - np.searchsorted(latent, latent)
