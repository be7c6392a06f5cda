"""How good a SAE is at exactly the target L0, on documents that it never saw.

FVU is centred on the mean of the whole evaluated set: Σ‖x - x̂‖² / Σ‖x - x̄‖². Means over batches of per-batch
ratios flatter or punish by batch, and uncentred ones flatter always.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train.jumprelu import Parameters, kth_largest, margins_of
from ghosttrack.stages.sae_train.normalise import LayerStates

CHUNK_ROWS = 2048
BOUND_ROWS = 256
MOST_TOKENS = 65_536
"""Held-out tokens that are looked at, evenly spaced; more would change no digit that matters."""
BLOCK = 8
"""Tokens; so far apart in a document (or further), their numbers of active latents correlate by less than 0.1."""
OVER_DENSE = 0.1
"""A latent that fires on more than this fraction of tokens says little by firing."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
L0_BINS = 40
LEAST_RATE, RATE_STEP = -5.0, 0.25
"""Of the firing-rate histogram, log10; one in MOST_TOKENS is within."""


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
    """Held-out FVU at the target L0: of each layer, and their mean; and the L0 that was reached, on average."""

    by_layer: list[float]
    mean: float
    l0: float


def fvu_at_target(
    parameters: Parameters, layers: Sequence[LayerStates], rows: Sequence[Tensor], target_l0: float
) -> Checked:
    """FVU of each layer on its rows, with an offset of its own that gives the target L0 there.

    Leaves parameters.offset at the layers' mean.
    """
    fvus, offsets, l0s = [], [], []
    for layer, some in zip(layers, rows, strict=True):
        parameters.offset.copy_(calibrated_offset(parameters, layer, some, target_l0))
        offsets.append(parameters.offset.clone())
        thresholds = parameters.thresholds()
        moments, n_active = Moments(layer.states.shape[1]), 0
        for part in some.split(CHUNK_ROWS):
            batch = layer.normalised(part)
            preactivations = torch.addmm(parameters.encoder_bias, batch, parameters.encoder.T)
            active = preactivations > thresholds
            n_active += int(active.sum())
            acts = preactivations * active
            moments.add(batch, torch.addmm(parameters.decoder_bias, acts, parameters.decoder))
        fvus.append(moments.fvu())
        l0s.append(n_active / len(some))
    parameters.offset.copy_(torch.stack(offsets).mean())
    return Checked(fvus, sum(fvus) / len(fvus), sum(l0s) / len(l0s))


class Moments:
    """Running sums for the mean-centred FVU: chunks in float32, added up in float64."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._square = self._error = 0.0

    def add(self, values: Tensor, reconstruction: Tensor) -> None:
        """Count a chunk in. values, reconstruction: [n, width]."""
        self._count += len(values)
        self._sum += values.sum(0).cpu()
        self._square += float(values.square().sum(1).sum(dtype=torch.float64))
        self._error += float((values - reconstruction).square_().sum(1).sum(dtype=torch.float64))

    def mean(self) -> Tensor:
        """x̄: [width] float64, on the CPU."""
        return self._sum / self._count

    def spread(self) -> float:
        """Σ‖x - x̄‖²."""
        return self._square - float(self._sum.square().sum()) / self._count

    def fvu(self) -> float:
        """Σ‖x - x̂‖² / Σ‖x - x̄‖²."""
        return self._error / self.spread()

    def mse(self) -> float:
        """Mean over tokens and coordinates of (x - x̂)²."""
        return self._error / (self._count * len(self._sum))


class Tally:
    """What a SAE does on states that come in chunks."""

    def __init__(self, sae: JumpReLUSAE) -> None:
        self.sae = sae
        self.masked, self.unmasked = Moments(sae.d_model), Moments(sae.d_model)
        self._fired = torch.zeros(sae.d_hidden, device=sae.W_enc.device)
        self._counts: list[Tensor] = []

    def add(self, states: Tensor, keep: Tensor) -> None:
        """Count a chunk in. states: [n, d_model], the model's units; keep: bool [n], neither position 0 nor
        outliers."""
        acts = self.sae.encode(states)
        batch, reconstruction = self.sae.normalise(states), self.sae.normalise(self.sae.decode(acts, states))
        active = (acts > 0)[keep]
        self._counts.append(active.sum(1).float())
        self._fired += active.sum(0)
        self.masked.add(batch[keep], reconstruction[keep])
        self.unmasked.add(batch, reconstruction)

    def figures(self, fired_before: Tensor | bool = False) -> dict[str, Any]:
        """All metrics but the loss recovered. fired_before: bool [d_hidden], latents that are not dead although they
        did not fire here; else see `measure`."""
        l0 = torch.cat(self._counts)
        rates = self._fired / len(l0)
        return {
            "l0": float(l0.mean()),
            "l0_quantiles": quantiles(l0),
            "l0_histogram": l0_histogram(l0),
            "fvu": self.masked.fvu(),
            "fvu_unmasked": self.unmasked.fvu(),
            "mse": self.masked.mse(),
            "over_dense_fraction": float((rates > OVER_DENSE).float().mean()),
            "firing_rate_quantiles": quantiles(rates),
            "firing_rate_histogram": firing_rate_histogram(rates),
            "dead_fraction": float(((self._fired == 0) & ~torch.as_tensor(fired_before)).float().mean()),
            "held_out_tokens": len(l0),
        }


def measure(sae: JumpReLUSAE, layer: LayerStates, fired_in_training: Tensor) -> dict[str, Any]:
    """Metrics of a finished SAE on the held-out documents of its layer.

    fired_in_training: bool [d_hidden], whether a latent fired in the last window of training tokens; dead is
    one that fired neither there nor here. mse is in normalised units (1 is the mean variance of a coordinate);
    fvu_unmasked takes in position 0 and outliers; l0_quantiles are over tokens, firing_rate_quantiles over
    latents; see `l0_histogram` and `firing_rate_histogram` for the histograms.
    """
    rows = thin(layer.held_out_all)
    kept = torch.isin(rows, layer.held_out, assume_unique=True)
    device = sae.W_enc.device
    tally = Tally(sae)
    for part, keep in zip(rows.split(CHUNK_ROWS), kept.split(CHUNK_ROWS), strict=True):
        tally.add(layer.states[part].to(device), keep.to(device))
    return tally.figures(fired_in_training)


def l0_histogram(l0: Tensor) -> dict[str, list[int]]:
    """Tokens by active latents, in at most L0_BINS bins of equal whole width: counts[i] is of [edges[i], edges[i + 1])."""
    low, high = int(l0.min()), int(l0.max())
    width = -(-(high - low + 1) // L0_BINS)
    bins = (l0.long() - low) // width
    counts = torch.bincount(bins).tolist()
    return {"edges": [low + width * number for number in range(len(counts) + 1)], "counts": counts}


def firing_rate_histogram(rates: Tensor) -> dict[str, Any]:
    """Latents by log10 of the share of tokens on which they fire, bins the same for all layers; never: those that do not."""
    edges = [LEAST_RATE + RATE_STEP * number for number in range(round(-LEAST_RATE / RATE_STEP) + 1)]
    counts, _ = torch.histogram(rates[rates > 0].log10().cpu(), torch.tensor(edges))
    return {"log10_edges": edges, "counts": counts.long().tolist(), "never": int((rates == 0).sum())}


def quantiles(values: Tensor) -> dict[str, float]:
    """Of [n] values, at QUANTILES."""
    found = values.quantile(values.new_tensor(QUANTILES))
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def unseen_l0(parameters: Parameters, layer: LayerStates, target_l0: float, document: Tensor) -> list[float]:
    """L0 on each half of the held-out tokens with the offset calibrated on the other half alone; see `interleaved`.

    document: [n_tokens] document of each token. What it says: how far L0 strays on tokens that had no say in the offset, of
    documents that had. Other documents stray further, as far as they differ. Of n tokens in a half, with a spread σ of the
    active latents of a token, chance alone makes a difference of σ·sqrt(2/n). Empty where there is one half only.
    """
    rows = thin(layer.held_out)
    second = interleaved(rows, document[rows])
    halves = [rows[~second], rows[second]]
    if not all(map(len, halves)):
        return []
    found = []
    for here, other in (halves, halves[::-1]):
        offset = calibrated_offset(parameters, layer, other, target_l0)
        count = sum(
            len(active_margins(parameters, layer.normalised(part), offset)) for part in here.split(CHUNK_ROWS)
        )
        found.append(count / len(here))
    return found


def interleaved(rows: Tensor, document: Tensor) -> Tensor:
    """Which of these tokens are in the second half, bool [n]: every other block of BLOCK tokens of a document.

    rows: [n], ascending; document: [n], of each. Every other document begins with the second half, so that neither half
    has all the beginnings, nor all the documents that are shorter than a block.
    """
    _, place = document.unique(return_inverse=True)
    first = rows.new_full((len(rows),), int(rows[-1])).scatter_reduce(0, place, rows, "amin")
    return ((rows - first[place]) // BLOCK + place) % 2 == 1
