"""Association across layers: layers are scans, active latents are detections.

Between two adjacent layers every latent is linked to at most one other. The links maximise the sum
of (decoder cosine - gate), so a pair at the gate is worth as much as no link at all, and a pair
below it can never displace a better one (the gate acts before the assignment is solved).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

NO_LINK = -1


class Tracks(NamedTuple):
    """Track nodes, a value a node, ordered by problem, layer and rank of activation.

    problem: int32, which (question, position); layer: int16, index into the layers; latent: int32;
    activation: float32 > 0; track: int32, unique within the problem; link: float32, decoder cosine to
    the track's node one layer up, NaN at birth.
    """

    problem: NDArray[np.int32]
    layer: NDArray[np.int16]
    latent: NDArray[np.int32]
    activation: NDArray[np.float32]
    track: NDArray[np.int32]
    link: NDArray[np.float32]


def decoder_cosines(before: Tensor, after: Tensor, latents_before: Tensor, latents_after: Tensor) -> Tensor:
    """Cosines of the decoder vectors of active latents.

    before, after: [d_hidden, d_model], unit rows. latents_*: int [n_problems, k].
    Returns [n_problems, k, k].
    """
    return torch.bmm(before[latents_before], after[latents_after].transpose(1, 2))


def link_layers(cosines: NDArray[np.float32], gate: float) -> NDArray[np.int64]:
    """The best links between two layers of one problem.

    cosines: [n_before, n_after]. Returns for each of the after-latents the index of its predecessor,
    or NO_LINK: [n_after].
    """
    gain = np.where(cosines > gate, cosines - gate, 0.0)
    links = np.full(cosines.shape[1], NO_LINK)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    linked = gain[rows, columns] > 0
    links[columns[linked]] = rows[linked]
    return links


def follow(latents: Tensor, activations: Tensor, decoders: list[Tensor], gate: float) -> Tracks:
    """Tracks of many problems over all layers.

    latents, activations: [n_problems, n_layers, k], activation 0 where fewer than k are active;
    decoders: a layer's [d_hidden, d_model] with unit rows.
    """
    n_problems, n_layers, k = latents.shape
    active = (activations > 0).numpy()
    track = np.full((n_problems, n_layers, k), -1, dtype=np.int32)
    link = np.full((n_problems, n_layers, k), np.nan, dtype=np.float32)
    born = np.zeros(n_problems, dtype=np.int32)
    for layer in range(n_layers):
        if layer:
            cosines = decoder_cosines(
                decoders[layer - 1], decoders[layer], latents[:, layer - 1], latents[:, layer]
            ).numpy()
            for problem in range(n_problems):
                rows, columns = active[problem, layer - 1], active[problem, layer]
                pairs = cosines[problem][np.ix_(rows, columns)]
                links = link_layers(pairs, gate)
                linked = links != NO_LINK
                where = np.flatnonzero(columns)[linked]
                track[problem, layer, where] = track[problem, layer - 1, np.flatnonzero(rows)[links[linked]]]
                link[problem, layer, where] = pairs[links[linked], np.flatnonzero(linked)]
        new = active[:, layer] & (track[:, layer] < 0)
        numbers = born[:, None] + np.cumsum(new, axis=1, dtype=np.int32) - 1
        track[:, layer][new] = numbers[new]
        born += new.sum(axis=1, dtype=np.int32)
    owner, layer_index, _ = np.nonzero(active)
    return Tracks(
        problem=owner.astype(np.int32),
        layer=layer_index.astype(np.int16),
        latent=latents.numpy()[active].astype(np.int32),
        activation=activations.numpy()[active].astype(np.float32),
        track=track[active],
        link=link[active],
    )
