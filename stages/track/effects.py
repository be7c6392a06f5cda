"""What active latents do to the logits of the candidate answers, and how the candidates compete over the layers.

Direct effects (`readout`): activation · decoder · unembedding over the scale of the final state. The latents that are
active at a layer make up that state, so that their effects add up to what the layer says about the candidates.
"""

import torch
from torch import Tensor

from ghosttrack.common.models.products import linear


def node_effects(
    latents: Tensor, activations: Tensor, decoder: Tensor, difference: Tensor, scale: Tensor
) -> Tensor:
    """Direct effect of each active latent of one layer on the logit of one token less that of another: [n, k].

    latents, activations: [n, k]; decoder: [d_hidden, d_model], in the model's units; difference: [n, d_model], of the
    two tokens' rows of the read-out; scale: [n], of the final state.
    """
    every = linear(difference, decoder)
    return activations * every.gather(1, latents) / scale[:, None]


def candidate_effects(
    latents: Tensor, activations: Tensor, decoder: Tensor, rows: Tensor, scale: Tensor
) -> Tensor:
    """Summed direct effects of a layer's active latents on each candidate: [n, m]. rows: [n, m, d_model], of the read-out."""
    written = torch.nn.functional.embedding_bag(latents, decoder, per_sample_weights=activations, mode="sum")
    return torch.bmm(rows, written[:, :, None])[:, :, 0] / scale[:, None]


def compete(effects: Tensor) -> dict[str, Tensor]:
    """How the candidates stand against each other at each position and layer, columns of layers.parquet, [n_problems, n_layers]
    each: margin, float32, effect on the emitted token less that on the best other candidate; competition_entropy, float32,
    nats, of the softmax of the effects over the candidates; leader, int16, rank of the candidate with the largest effect (0: the
    emitted token). effects: [n_problems, n_layers, m ≥ 2], the emitted token first."""
    share = effects.log_softmax(-1)
    return {
        "margin": effects[..., 0] - effects[..., 1:].amax(-1),
        "competition_entropy": -(share.exp() * share).sum(-1),
        "leader": effects.argmax(-1).to(torch.int16),
    }


def course(leader: list[int], layers: list[int]) -> tuple[int | None, int, bool]:
    """How the lead of one position went over the layers: the layer from which on the emitted token leads, None where it does not
    lead at the end; how often the leader changes; and whether the emitted token takes the lead for good in the last quarter of the
    layers, from another. leader: rank of the leading candidate at each layer."""
    changes = [place for place in range(1, len(leader)) if leader[place] != leader[place - 1]]
    if not leader or leader[-1] != 0:
        return None, len(changes), False
    start = changes[-1] if changes else 0
    return layers[start], len(changes), start > 0 and 4 * start >= 3 * len(layers)
