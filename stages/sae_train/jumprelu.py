"""One training step of a JumpReLU sparse autoencoder, with the gradients written out.

The step is dense only where it must be, in the encoder's product. Everything after the threshold touches the
few active pairs (token, latent), through gather-and-sum kernels (`embedding_bag`), so that a step costs
2·d·h FLOP a token and a little, in place of the 10·d·h of a dense step.

JumpReLU with straight-through thresholds: Rajamanoharan et al. 2024, "Jumping Ahead". Two things differ.
Sparsity has no penalty: every batch has exactly `target_l0` active latents a token on average, since one
scalar `offset`, common to all thresholds, is set by selection (as in BatchTopK, Bussmann et al. 2024). And
the thresholds' gradient carries the Lagrange multiplier of that constraint in closed form: a latent whose
marginal activations help the reconstruction less than the average latent's is raised, the others are lowered,
and there is no λ to tune. Dead latents feel Anthropic's pre-activation loss (January 2025 update).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

WINDOW = 0.3
"""Width of the rectangle kernel around a threshold. A state has unit variance a coordinate and encoder rows
start near unit norm, so pre-activations have a spread near 1 whatever the width of the model."""
DEAD_WEIGHT = 1e-3
"""Weight of the pre-activation loss of dead latents. Adam rescales what has no other gradient, so that its size
matters little."""


@dataclass
class Parameters:
    """Everything that is learned. Inputs are normalised states; all float32.

    encoder, decoder: [d_hidden, d_model] (a row a latent; decoder rows have unit norm);
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
        return (self.raw_threshold + self.offset).relu()

    def clone(self) -> "Parameters":
        return Parameters(**{name: value.clone() for name, value in vars(self).items()})


@dataclass
class Gradients:
    """Of the loss, the batch mean of ‖x - x̂‖² / d_model; shapes as in Parameters."""

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    raw_threshold: Tensor


@dataclass
class StepResult:
    """loss: scalar tensor; active: scalar tensor, active latents a token; fired: bool [d_hidden]."""

    gradients: Gradients
    loss: Tensor
    active: Tensor
    fired: Tensor


def normalise_rows_(matrix: Tensor) -> None:
    """Scale every row to unit norm, in place; zero rows stay."""
    matrix.div_(torch.linalg.vector_norm(matrix, dim=1, keepdim=True).clamp_(min=1e-12))


def margins_of(parameters: Parameters, batch: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Pre-activation less raw threshold, one number to compare with the offset: [n, d_hidden].

    buffer: [at least n, d_hidden], taken for the result.
    """
    bias = parameters.encoder_bias - parameters.raw_threshold
    out = None if buffer is None else buffer[: len(batch)]
    return torch.addmm(bias, batch, parameters.encoder.T, out=out)


def kth_largest(values: Tensor, count: int) -> Tensor:
    """A scalar above which count of the values [n] lie (ties aside); all of them where count ≥ n. 0 for none."""
    if len(values) == 0:
        return values.new_zeros(())
    if count >= len(values):
        return values.min() - 1e-6
    return values.kthvalue(len(values) - count).values


def training_step(
    parameters: Parameters, batch: Tensor, target_l0: float, *, dead: Tensor | None = None,
    buffer: Tensor | None = None,
) -> StepResult:  # fmt: skip
    """Loss and gradients on one batch; sets `parameters.offset` to the batch's own.

    batch: [n, d_model] float32, normalised states; dead: bool [d_hidden], latents to wake;
    buffer: [at least n, d_hidden] float32 to work in.
    """
    n_tokens, d_model = batch.shape
    d_hidden = len(parameters.raw_threshold)
    half_window = WINDOW / 2
    wanted = max(round(target_l0 * n_tokens), 1)

    margins = margins_of(parameters, batch, buffer).view(-1)
    pairs, pair_margins = _candidates(margins, parameters, wanted)
    parameters.offset.copy_(kth_largest(pair_margins, wanted))
    close = (pair_margins > parameters.offset - half_window).nonzero().view(-1)
    pairs, pair_margins = pairs.index_select(0, close), pair_margins.index_select(0, close)
    rows = torch.div(pairs, d_hidden, rounding_mode="floor")
    columns = pairs - rows * d_hidden

    thresholds = parameters.thresholds().index_select(0, columns)
    preactivations = parameters.raw_threshold.index_select(0, columns).add_(pair_margins)
    active = preactivations > thresholds
    activations = preactivations * active

    row_offsets = _segment_offsets(rows, n_tokens)
    error = weighted_sums(parameters.decoder, columns, row_offsets, activations)
    error.add_(parameters.decoder_bias).sub_(batch)
    loss = error.square().sum() / (n_tokens * d_model)

    gradient_out = error.mul_(2.0 / (n_tokens * d_model))
    gradient_acts = pair_products(gradient_out, parameters.decoder, rows, columns, row_offsets)
    near = ((preactivations - thresholds).abs_() < half_window).float()
    gradient_thresholds = -thresholds * gradient_acts * near
    gradient_pre = gradient_acts * active

    # The same pairs by latent: sums over tokens, in a fixed order.
    sorted_columns, order = torch.sort(columns, stable=True)
    offsets = _segment_offsets(sorted_columns, d_hidden)
    order_rows, gradient_pre = rows.index_select(0, order), gradient_pre.index_select(0, order)
    sums = segment_sums(
        torch.stack([gradient_thresholds, near, active.float()], dim=1).index_select(0, order), offsets
    )
    pull, density, times_fired = sums.unbind(1)
    multiplier = pull.sum() / density.sum().clamp_(min=1.0)
    gradients = Gradients(
        encoder=weighted_sums(batch, order_rows, offsets, gradient_pre),
        encoder_bias=segment_sums(gradient_pre, offsets),
        decoder=weighted_sums(gradient_out, order_rows, offsets, activations.index_select(0, order)),
        decoder_bias=gradient_out.sum(0),
        raw_threshold=(pull - multiplier * density) / WINDOW,
    )
    fired = times_fired > 0
    if dead is not None:
        _wake(gradients, batch, (dead & ~fired).float() * (DEAD_WEIGHT / d_hidden))
    return StepResult(gradients, loss, times_fired.sum() / n_tokens, fired)


def _candidates(margins: Tensor, parameters: Parameters, wanted: int) -> tuple[Tensor, Tensor]:
    """Flat indices and margins of the positive pre-activations among which are the `wanted` largest margins.

    They reach WINDOW below the last batch's offset, or down to zero when that was too high.
    """
    d_hidden = len(parameters.raw_threshold)
    for bound in (parameters.offset - WINDOW, -parameters.raw_threshold.max()):
        pairs = (margins > bound).nonzero().view(-1)
        found = margins.index_select(0, pairs)
        raw = parameters.raw_threshold.index_select(0, pairs % d_hidden)
        positive = (found + raw > 0).nonzero().view(-1)
        if len(positive) > wanted:
            break
    return pairs.index_select(0, positive), found.index_select(0, positive)


def _wake(gradients: Gradients, batch: Tensor, weight: Tensor) -> None:
    """Add the gradient of Σ_j weight_j · mean relu(threshold_j - z_j); these latents are silent in the batch."""
    gradients.encoder_bias.sub_(weight)
    gradients.encoder.addr_(weight, batch.mean(0), alpha=-1.0)


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
