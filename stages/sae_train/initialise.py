"""A first dictionary from the data: directions that the directions before them leave unexplained.

Random directions waste the first passes, and plain data samples overlap so much that the first reconstructions
are many times too long. Here every round adds the residuals, after a few steps of matching pursuit with what is
there already, of states drawn anew: near-duplicates cannot arise, and rare directions get in early. Measured
(SmolLM2, 10 layers pooled, one pass at lr 1e-3): FVU 0.231, against 0.257 for plain samples and 0.298 for random
directions.
"""

import torch
from torch import Tensor

from ghosttrack.stages.sae_train.jumprelu import Parameters, kth_largest, margins_of, normalise_rows_

ROUNDS = 8
PURSUIT_STEPS = 8
SAMPLES_PER_LATENT = 4
"""States that are worth drawing for each latent to start."""


def initial_parameters(sample: Tensor, d_hidden: int, target_l0: float, seed: int) -> Parameters:
    """What training starts from: directions drawn from states. sample: [n, d_model] normalised states, n ≥ 1, in any
    order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sample), generator=generator)
    decoder = sample.new_empty(d_hidden, sample.shape[1])
    filled = used = 0
    for number in range(ROUNDS):
        count = d_hidden * (number + 1) // ROUNDS - filled
        rows = torch.arange(used, used + count) % len(sample)
        directions = _residuals(sample[order[rows].to(sample.device)], decoder[:filled])
        # With fewer samples than latents a residual can vanish; a little noise keeps rows apart and non-zero.
        noise = torch.randn(directions.shape, generator=generator).to(sample.device)
        directions += noise * (1e-3 * torch.linalg.vector_norm(directions, dim=1, keepdim=True) + 1e-6)
        normalise_rows_(directions)
        decoder[filled : filled + count] = directions
        filled, used = filled + count, used + count
    parameters = Parameters(
        encoder=decoder.clone(), encoder_bias=sample.new_zeros(d_hidden), decoder=decoder,
        decoder_bias=sample.new_zeros(sample.shape[1]), raw_threshold=sample.new_zeros(d_hidden),
        offset=sample.new_zeros(()),
    )  # fmt: skip
    parameters.encoder.mul_(_gain(parameters, sample[order[:1024].to(sample.device)], target_l0))
    return parameters


def _residuals(states: Tensor, dictionary: Tensor) -> Tensor:
    """What PURSUIT_STEPS of matching pursuit with unit rows [n_rows, d_model] leave of states [n, d_model]."""
    residual = states.clone()
    if len(dictionary):
        for _ in range(PURSUIT_STEPS):
            product = residual @ dictionary.T
            best = product.abs().argmax(1, keepdim=True)
            residual -= product.gather(1, best) * dictionary[best.squeeze(1)]
    return residual


def _gain(parameters: Parameters, sample: Tensor, target_l0: float) -> Tensor:
    """The factor on activations that brings the first reconstructions of sample [n, d_model] nearest to it."""
    products = margins_of(parameters, sample)
    offset = kth_largest(products.view(-1), max(round(target_l0 * len(sample)), 1)).clamp_(min=0.0)
    reconstruction = torch.where(products > offset, products, 0.0) @ parameters.decoder
    return (reconstruction * sample).sum() / reconstruction.square().sum().clamp_(min=1e-12)
