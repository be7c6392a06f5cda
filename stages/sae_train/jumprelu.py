"""One training step of a stack of JumpReLU sparse autoencoders, with the gradients written out.

The step is dense only where it must be, in the encoder's product. Everything after the threshold touches the
few active pairs (token, latent), through gather-and-sum kernels (`embedding_bag`), so that a step costs
2·d·h FLOP a token and a little, in place of the 10·d·h of a dense step. The product may be in bfloat16, where the
processor has instructions for it; parameters, gradients and everything after the product are float32.

JumpReLU with straight-through thresholds: Rajamanoharan et al. 2024, "Jumping Ahead". Two things differ.
Sparsity has no penalty: every batch has exactly `target_l0` active latents a token on average, since one
scalar `offset`, common to all thresholds, is set by selection (as in BatchTopK, Bussmann et al. 2024). And
the thresholds' gradient carries the Lagrange multiplier of that constraint in closed form: a latent whose
marginal activations help the reconstruction less than the average latent's is raised, the others are lowered,
and there is no λ to tune. Silent latents feel Anthropic's pre-activation loss (January 2025 update), in
steps of a fixed size: see `wake_`.

The SAEs of a stack share nothing but the calls: each has the numbers that it would have alone, on a CPU bit for bit.
Sums over an SAE's own latents or tokens are therefore taken row by row, never across the stack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WINDOW = 0.3
"""Width of the rectangle kernel around a threshold. A state has unit variance a coordinate and encoder rows
start near unit norm, so pre-activations have a spread near 1 whatever the width of the model."""


@dataclass
class Parameters:
    """Everything that is learned by one SAE, or by a stack of n_saes of them with that dimension in front; float32.

    Inputs are normalised states. encoder, decoder: [d_hidden, d_model] (a row a latent; decoder rows have unit norm);
    encoder_bias, raw_threshold: [d_hidden]; decoder_bias: [d_model];
    offset: scalar; latent j is active where its pre-activation is above relu(raw_threshold[j] + offset).
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    raw_threshold: Tensor
    offset: Tensor

    def thresholds(self) -> Tensor:
        return (self.raw_threshold + self.offset.unsqueeze(-1)).relu()

    def clone(self) -> "Parameters":
        return Parameters(**{name: value.clone() for name, value in vars(self).items()})

    @classmethod
    def stacked(cls, each: Sequence["Parameters"]) -> "Parameters":
        """A stack with copies of these."""
        return cls(**{name: torch.stack([getattr(one, name) for one in each]) for name in vars(each[0])})

    def unstacked(self) -> list["Parameters"]:
        """The SAEs of a stack, as views."""
        columns = [value.unbind(0) for value in vars(self).values()]
        return [Parameters(*values) for values in zip(*columns, strict=True)]


@dataclass
class Gradients:
    """Of each SAE's loss, the batch mean of ‖x - x̂‖² / d_model; shapes as in a stack's Parameters."""

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    raw_threshold: Tensor


@dataclass
class StepResult:
    """loss: [n_saes]; active: [n_saes], active latents a token; fired: bool [n_saes, d_hidden]."""

    gradients: Gradients
    loss: Tensor
    active: Tensor
    fired: Tensor


def normalise_rows_(matrix: Tensor) -> None:
    """Scale every row [..., width] to unit norm, in place; zero rows stay."""
    matrix.div_(torch.linalg.vector_norm(matrix, dim=-1, keepdim=True).clamp_(min=1e-12))


def product_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the encoder's product: "float32", "bfloat16", or "auto" for bfloat16 where it is fast."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def margins_of(parameters: Parameters, batch: Tensor) -> Tensor:
    """Pre-activation of one SAE less its raw threshold, to compare with the offset: [n, d_hidden]; float32 product."""
    return torch.addmm(parameters.encoder_bias - parameters.raw_threshold, batch, parameters.encoder.T)


def kth_largest(values: Tensor, count: int) -> Tensor:
    """A scalar above which count of the values [n] lie (ties aside); all of them where count ≥ n. 0 for none."""
    if len(values) == 0:
        return values.new_zeros(())
    if count >= len(values):
        return values.min() - 1e-6
    return values.kthvalue(len(values) - count).values


def training_step(stack: Parameters, batch: Tensor, target_l0: float, products: Tensor) -> StepResult:
    """Losses and gradients on a batch for each SAE of a stack; sets `stack.offset` to the batches' own.

    batch: [n_saes, n_tokens, d_model] float32, normalised states; products: [n_saes, n_tokens, d_hidden] to work in,
    of the type in which the encoder's product is taken.
    """
    n_saes, n_tokens, d_model = batch.shape
    d_hidden = stack.raw_threshold.shape[1]
    half_window = WINDOW / 2
    wanted = max(round(target_l0 * n_tokens), 1)
    encoder_bias, raw_thresholds = stack.encoder_bias.view(-1), stack.raw_threshold.view(-1)
    decoders, inputs = stack.decoder.view(-1, d_model), batch.view(-1, d_model)

    # A pair is a token and a latent: rows count through the tokens of all SAEs, columns through their latents.
    dtype = products.dtype
    torch.bmm(batch.to(dtype), stack.encoder.to(dtype).transpose(1, 2), out=products)
    pairs, rows, columns, of_sae = _candidates(products, stack, wanted)
    preactivations = products.view(-1).index_select(0, pairs).float()
    preactivations += encoder_bias.index_select(0, columns)
    margins = preactivations - raw_thresholds.index_select(0, columns)
    of_each = margins.split(torch.bincount(of_sae, minlength=n_saes).tolist())
    stack.offset.copy_(torch.stack([kth_largest(some, wanted) for some in of_each]))
    close = (margins > (stack.offset - half_window).index_select(0, of_sae)).nonzero().view(-1)
    rows, columns = rows.index_select(0, close), columns.index_select(0, close)
    preactivations = preactivations.index_select(0, close)

    thresholds = stack.thresholds().view(-1).index_select(0, columns)
    active = preactivations > thresholds
    activations = preactivations * active

    row_offsets = _segment_offsets(rows, n_saes * n_tokens)
    error = weighted_sums(decoders, columns, row_offsets, activations).view_as(batch)
    error.add_(stack.decoder_bias.unsqueeze(1)).sub_(batch)
    loss = error.square().sum(2).sum(1) / (n_tokens * d_model)

    gradient_out = error.mul_(2.0 / (n_tokens * d_model)).view(-1, d_model)
    gradient_acts = pair_products(gradient_out, decoders, rows, columns, row_offsets)
    near = ((preactivations - thresholds).abs_() < half_window).float()
    gradient_thresholds = -thresholds * gradient_acts * near
    gradient_pre = gradient_acts * active

    # The same pairs by latent: sums over tokens, in a fixed order.
    sorted_columns, order = torch.sort(columns, stable=True)
    offsets = _segment_offsets(sorted_columns, n_saes * d_hidden)
    order_rows, gradient_pre = rows.index_select(0, order), gradient_pre.index_select(0, order)
    sums = segment_sums(
        torch.stack([gradient_thresholds, near, active.float()], dim=1).index_select(0, order), offsets
    )
    pull, density, times_fired = sums.view(n_saes, d_hidden, 3).unbind(2)
    multiplier = pull.sum(1, keepdim=True) / density.sum(1, keepdim=True).clamp_(min=1.0)
    gradients = Gradients(
        encoder=weighted_sums(inputs, order_rows, offsets, gradient_pre).view_as(stack.encoder),
        encoder_bias=segment_sums(gradient_pre, offsets).view(n_saes, d_hidden),
        decoder=weighted_sums(gradient_out, order_rows, offsets, activations.index_select(0, order)).view_as(
            stack.decoder
        ),
        decoder_bias=gradient_out.view_as(batch).sum(1),
        raw_threshold=(pull - multiplier * density) / WINDOW,
    )
    return StepResult(gradients, loss, times_fired.sum(1) / n_tokens, times_fired > 0)


def _candidates(products: Tensor, stack: Parameters, wanted: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs with a positive pre-activation among which are the `wanted` largest margins of each SAE.

    They reach WINDOW below the last batch's offset, or down to zero when that was too high. Returns for each pair its
    index in `products`, its row, its column and its SAE; int64 [n_pairs], ascending.
    """
    n_saes, n_tokens, d_hidden = products.shape
    for lowest in (stack.raw_threshold + (stack.offset - WINDOW).unsqueeze(1), 0.0 * stack.raw_threshold):
        bound = (lowest.clamp_(min=0.0) - stack.encoder_bias).to(products.dtype)
        pairs = (products > bound.unsqueeze(1)).view(-1).nonzero().view(-1)
        rows = torch.div(pairs, d_hidden, rounding_mode="floor")
        of_sae = torch.div(rows, n_tokens, rounding_mode="floor")
        if int(torch.bincount(of_sae, minlength=n_saes).min()) > wanted:
            break
    return pairs, rows, pairs - (rows - of_sae) * d_hidden, of_sae


def wake_(stack: Parameters, silent: Tensor, size: Tensor) -> None:
    """A step down the gradient of Σ_j mean relu(threshold_j - z_j) over silent latents, in place.

    silent: bool [n_saes, d_hidden]; size: [n_saes]. The gradient is 1 for a threshold and -1 for a bias, and for an
    encoder's row the mean of the inputs, which are centred: that one is left out. It does not go through Adam, which
    remembers gradients of when the latent fired, a million times as large, and would hardly move it.
    """
    moved = silent * size.unsqueeze(-1)
    stack.encoder_bias.add_(moved)
    stack.raw_threshold.sub_(moved)


def _segment_offsets(sorted_keys: Tensor, n_segments: int) -> Tensor:
    """Where each key 0 … n_segments - 1 starts, and the end: [n_segments + 1] int64."""
    counts = torch.bincount(sorted_keys, minlength=n_segments)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def weighted_sums(table: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Σ weights · table[indices] over each segment: [n_segments, width].

    table: [n, width]; indices, weights: [n_pairs]; offsets: [n_segments + 1], the end included.
    """
    return torch.nn.functional.embedding_bag(
        indices, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def pair_products(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor, row_offsets: Tensor) -> Tensor:
    """left[rows] · right[columns] for each pair: [n_pairs]; pairs are sorted by row."""
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        left, right, columns, row_offsets, rows, 0
    )


def segment_sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sum of values [n_pairs, …] over each segment: [n_segments, …]."""
    return torch.segment_reduce(values, "sum", offsets=offsets, initial=0.0)
