"""How good a SAE is at exactly the target L0, on documents that it never saw.

FVU is centred on the mean of the whole evaluated set: Σ‖x - x̂‖² / Σ‖x - x̄‖². Means over batches of per-batch
ratios flatter or punish by batch, and uncentred ones flatter always.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.sae import JumpReLUSAE
from stages.sae_train.jumprelu import Parameters, kth_largest, margins_of
from stages.sae_train.normalise import LayerStates

CHUNK_ROWS = 2048
BOUND_ROWS = 256
MOST_TOKENS = 65_536
"""Held-out tokens that are looked at, evenly spaced; more would change no digit that matters."""
OVER_DENSE = 0.1
"""A latent that fires on more than this fraction of tokens says little by firing."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def thin(rows: Tensor, most: int = MOST_TOKENS) -> Tensor:
    """At most so many of the rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).long()]


def calibrated_offset(parameters: Parameters, layer: LayerStates, rows: Tensor, target_l0: float) -> Tensor:
    """The offset at which target_l0 latents a token are active on these rows, on average: a scalar.

    Where fewer latents than that have a positive pre-activation, the offset at which all of those are active.
    """
    wanted = max(round(target_l0 * len(rows)), 1)
    few = thin(rows, BOUND_ROWS)
    excess = 2.0
    while True:
        # Only margins above a bound that a few rows suggest: all of them would be n_tokens · d_hidden numbers.
        bound = kth_largest(
            margins_of(parameters, layer.normalised(few)).view(-1), round(excess * target_l0 * len(few))
        )
        margins = torch.cat([
            active_margins(parameters, layer.normalised(part), bound) for part in rows.split(CHUNK_ROWS)
        ])  # fmt: skip
        if len(margins) > wanted or excess * target_l0 >= len(parameters.raw_threshold):
            return kth_largest(margins, wanted)
        excess *= 4


def active_margins(parameters: Parameters, batch: Tensor, offset: Tensor) -> Tensor:
    """Margins [n_pairs] of the latents that would be active at this offset: above it, pre-activation above 0."""
    margins = margins_of(parameters, batch).view(-1)
    pairs = (margins > offset).nonzero().view(-1)
    found = margins.index_select(0, pairs)
    raw = parameters.raw_threshold.index_select(0, pairs % len(parameters.raw_threshold))
    return found[found + raw > 0]


class Checked(NamedTuple):
    """Held-out FVU at the target L0: of each layer, and their mean."""

    by_layer: list[float]
    mean: float


def fvu_at_target(
    parameters: Parameters, layers: Sequence[LayerStates], rows: Sequence[Tensor], target_l0: float
) -> Checked:
    """FVU of each layer on its rows, with an offset of its own that gives the target L0 there.

    Leaves parameters.offset at the layers' mean.
    """
    fvus, offsets = [], []
    for layer, some in zip(layers, rows, strict=True):
        parameters.offset.copy_(calibrated_offset(parameters, layer, some, target_l0))
        offsets.append(parameters.offset.clone())
        thresholds = parameters.thresholds()
        moments = Moments(layer.states.shape[1])
        for part in some.split(CHUNK_ROWS):
            batch = layer.normalised(part)
            preactivations = torch.addmm(parameters.encoder_bias, batch, parameters.encoder.T)
            acts = preactivations * (preactivations > thresholds)
            moments.add(batch, torch.addmm(parameters.decoder_bias, acts, parameters.decoder))
        fvus.append(moments.fvu())
    parameters.offset.copy_(torch.stack(offsets).mean())
    return Checked(fvus, sum(fvus) / len(fvus))


class Moments:
    """Running sums for the mean-centred FVU: chunks in float32, added up in float64."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._square = self._error = 0.0

    def add(self, values: Tensor, reconstruction: Tensor) -> None:
        """values, reconstruction: [n, width]."""
        self._count += len(values)
        self._sum += values.sum(0).cpu()
        self._square += float(values.square().sum(1).sum(dtype=torch.float64))
        self._error += float((values - reconstruction).square_().sum(1).sum(dtype=torch.float64))

    def fvu(self) -> float:
        """Σ‖x - x̂‖² / Σ‖x - x̄‖²."""
        return self._error / (self._square - float(self._sum.square().sum()) / self._count)

    def mse(self) -> float:
        """Mean over tokens and coordinates of (x - x̂)²."""
        return self._error / (self._count * len(self._sum))


def measure(sae: JumpReLUSAE, layer: LayerStates, fired_in_training: Tensor) -> dict[str, Any]:
    """Metrics of a finished SAE on the held-out documents of its layer.

    fired_in_training: bool [d_hidden], whether a latent fired in the last window of training tokens; dead is
    one that fired neither there nor here. mse is in normalised units (1 is the mean variance of a coordinate);
    fvu_unmasked takes in position 0 and outliers; l0_quantiles are over tokens, firing_rate_quantiles over
    latents.
    """
    rows = thin(layer.held_out_all)
    kept = torch.isin(rows, layer.held_out, assume_unique=True)
    device = sae.W_enc.device
    fired = torch.zeros(sae.d_hidden, device=device)
    counts: list[Tensor] = []
    masked, unmasked = Moments(sae.d_model), Moments(sae.d_model)
    for part, keep in zip(rows.split(CHUNK_ROWS), kept.split(CHUNK_ROWS), strict=True):
        states = layer.states[part].to(device)
        acts = sae.encode(states)
        batch, reconstruction = sae.normalise(states), sae.normalise(sae.decode(acts))
        keep = keep.to(device)
        active = (acts > 0)[keep]
        counts.append(active.sum(1).float())
        fired += active.sum(0)
        masked.add(batch[keep], reconstruction[keep])
        unmasked.add(batch, reconstruction)
    l0 = torch.cat(counts)
    rates = fired / len(l0)
    return {
        "l0": float(l0.mean()),
        "l0_quantiles": _quantiles(l0),
        "fvu": masked.fvu(),
        "fvu_unmasked": unmasked.fvu(),
        "mse": masked.mse(),
        "over_dense_fraction": float((rates > OVER_DENSE).float().mean()),
        "firing_rate_quantiles": _quantiles(rates),
        "dead_fraction": float(((fired == 0) & ~fired_in_training).float().mean()),
        "held_out_tokens": len(l0),
    }


def _quantiles(values: Tensor) -> dict[str, float]:
    found = values.quantile(values.new_tensor(QUANTILES))
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def unseen_l0(parameters: Parameters, layer: LayerStates, target_l0: float, document: Tensor) -> list[float]:
    """L0 on each half of the held-out documents with the offset calibrated on the other half alone.

    document: [n_tokens] document of each token. How far L0 strays on text that had no say in the offset; empty
    where there is one held-out document only.
    """
    rows = thin(layer.held_out)
    documents, place = document[rows].unique(return_inverse=True)
    if len(documents) < 2:
        return []
    halves = [rows[place % 2 == 0], rows[place % 2 == 1]]
    found = []
    for here, other in (halves, halves[::-1]):
        offset = calibrated_offset(parameters, layer, other, target_l0)
        count = sum(
            len(active_margins(parameters, layer.normalised(part), offset)) for part in here.split(CHUNK_ROWS)
        )
        found.append(count / len(here))
    return found


def identity(decoder: Tensor, base: Tensor) -> dict[str, float]:
    """How much latent j is still the base's latent j. decoder, base: [d_hidden, d_model], unit rows.

    base_cosine: mean cosine of each latent to its own base latent; base_self_match: fraction of latents whose
    nearest base latent is their own.
    """
    own = (decoder * base).sum(1)
    nearest = torch.cat([(rows @ base.T).argmax(1) for rows in decoder.split(CHUNK_ROWS)])
    match = nearest == torch.arange(len(decoder), device=decoder.device)
    return {"base_cosine": float(own.mean()), "base_self_match": float(match.float().mean())}
