"""The rows of tracks.parquet as arrays again: the tracked latents of some questions by position and layer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.formats.cells import cell_of
from ghosttrack.common.maths.arrays import Ints
from ghosttrack.stages.track.account import Active

COLUMNS = ("question", "position", "layer", "latent", "activation", "track")


class Nodes(NamedTuple):
    """active: [n, n_layers, k]; previous, track: int64 [n, n_layers, k], layer · k + rank of the node that each continues
    (negative at a birth), and the track of each (negative where there is none). where: problem, layer and rank of every row
    of the file, in its order."""

    active: Active
    previous: Tensor
    track: Tensor
    where: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, rows: dict[str, NDArray[np.generic]], owner: Ints, layers: Sequence[int], k: int) -> "Nodes":
        """The published tracks of some positions. rows: columns (COLUMNS) of tracks.parquet, sorted as the file is, of these
        positions and perhaps others; owner: [n, 2], question and position of each problem, sorted, without a gap."""
        code = cell_of(rows["question"], rows["position"])
        inside = slice(*np.searchsorted(code, cell_of(*owner[[0, -1]].T) + np.array([0, 1])))
        code, rows = code[inside], {name: column[inside] for name, column in rows.items()}
        problem = np.searchsorted(cell_of(owner[:, 0], owner[:, 1]), code)
        place = np.searchsorted(np.array(layers), rows["layer"])
        scan = problem * len(layers) + place
        rank = np.arange(len(scan)) - np.searchsorted(scan, scan, side="left")
        where = problem, place, rank
        shape = (len(owner), len(layers), k)
        latents, activations = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        previous, track = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        latents[where], activations[where], track[where] = rows["latent"], rows["activation"], rows["track"]
        order = np.lexsort((place, rows["track"], problem))
        same = (np.diff(problem[order]) == 0) & (np.diff(rows["track"][order]) == 0)
        earlier, later = order[:-1][same], order[1:][same]
        previous[problem[later], place[later], rank[later]] = place[earlier] * k + rank[earlier]
        return cls(
            Active(torch.from_numpy(latents), torch.from_numpy(activations)),
            torch.from_numpy(previous), torch.from_numpy(track),
            (torch.from_numpy(problem), torch.from_numpy(place), torch.from_numpy(rank)),
        )  # fmt: skip
