"""Where a latent's activation came from: its pre-activation is linear in the state, and the state is the one before plus
what attention and MLP wrote, so that it splits exactly into what the latents before carried on, what attention moved here
from each source, what the MLP wrote, and the SAE's error and biases.

Latent i of activation a_i at layer l gives a_i g_ij to latent j of the next tracked layer through the residual stream,
g_ij = (d_i / s_l) · (s_l' w_j); what is left of a_j after all that is carried is its innovation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.formats.origins import BIRTHS, SHARES
from ghosttrack.common.maths.arrays import Bools, Singles
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.writes import Writes
from ghosttrack.stages.track.account import Active, parts_of_step

_MOVED = [number for number, name in enumerate(SHARES) if name.startswith("moved_")]


def contributions(
    writes: Writes,
    held: Tensor,
    active: Active,
    previous: Tensor,
    saes: Sequence[JumpReLUSAE],
    layers: Sequence[int],
) -> Tensor:
    """What gave each tracked latent its pre-activation, in the order of SHARES: [n, n_layers, k, len(SHARES)].

    held: from `states_apart`; previous: int64 [n, n_layers, k], layer · k + rank of the latent that each continues,
    negative at a birth.
    """
    given = torch.zeros(*active.latents.shape, len(SHARES))
    for place, sae in enumerate(saes):
        latents = active.latents[:, place]
        # Gathered along the rows, in which latents lie side by side: a row stays in the processor's cache. Then turned, so that
        # each latent's numbers lie side by side for the products.
        encoder = sae.W_enc.index_select(1, latents.reshape(-1)).T.contiguous().unflatten(0, latents.shape)
        carried, *attention, attention_bias, mlp = parts_of_step(writes, layers, place).unbind(1)
        constant, error = attention_bias - sae.mean, torch.zeros_like(carried)
        if place:
            tracked, untracked, sae_bias, error = held[:, place - 1].unbind(1)
            carried, constant = tracked + untracked, constant + sae_bias
        parts = torch.stack([carried, error, constant, *attention, mlp], dim=1)
        found = encoder @ (sae.scale * parts).mT  # [n, k, len(SHARES) - 1]
        found[..., 2] += sae.own_unit(writes.outputs[layers[place]]) * sae.b_enc[latents]
        own = own_part(active, previous, place, encoder, saes)
        found[..., 0] -= own
        given[:, place] = torch.cat([own[..., None], found], dim=-1)
    return given


def shares(given: Tensor, activations: Tensor) -> Tensor:
    """Contributions [..., len(SHARES)] as shares of their sum, cut to ± 100 times it; of the activation [...] where some are
    untold (NaN), which stay so."""
    whole = given.sum(-1, keepdim=True)
    whole = torch.where(whole.isnan(), activations[..., None], whole)
    return (given / torch.where(whole.abs() > 1e-9, whole, 1.0)).clamp(-100, 100)


def own_part(
    active: Active, previous: Tensor, place: int, encoder: Tensor, saes: Sequence[JumpReLUSAE]
) -> Tensor:
    """a_i g_ij from the latent that each continues, at whatever earlier layer it is: [n, k]. encoder: [n, k, d_model]."""
    k = active.latents.shape[2]
    own = torch.zeros(encoder.shape[:2])
    start, rank = previous[:, place].div(k, rounding_mode="floor"), previous[:, place].clamp(min=0) % k
    for earlier in range(max(place - 2, 0), place):
        row, node = (start == earlier).nonzero(as_tuple=True)
        if len(row):
            latent = active.latents[row, earlier, rank[row, node]]
            gain = torch.linalg.vecdot(saes[earlier].W_dec[latent], encoder[row, node])
            gain *= saes[place].scale / saes[earlier].scale
            own[row, node] = active.activations[row, earlier, rank[row, node]] * gain
    return own


def births(of_activation: Singles, begins: Bools) -> NDArray[np.int8]:
    """Which of BIRTHS gave most of each node that begins a track, -1 elsewhere and where that is untold. of_activation:
    [n_nodes, len(SHARES)]."""
    kinds = np.stack(
        [
            of_activation[:, _MOVED].sum(1),
            of_activation[:, SHARES.index("written")],
            of_activation[:, SHARES.index("carried")],
            of_activation[:, SHARES.index("error")],
        ],
        axis=1,
    )
    assert kinds.shape[1] == len(BIRTHS)
    return np.where(begins & np.isfinite(kinds).all(1), kinds.argmax(1), -1).astype(np.int8)
