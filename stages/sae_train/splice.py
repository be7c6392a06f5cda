"""What a language model loses when SAEs' reconstructions take the place of its block outputs.

The model reads held-out text and predicts next tokens four times: as it is, with a block's output replaced by the
SAE's reconstruction, by zero, and by the mean state; each layer alone, and all layers in one forward pass, where every
SAE sees what the ones before it have left. Loss is cross-entropy and KL(as it is ‖ replaced), nats a predicted token.
Recovered is the share of the ablation's damage that the SAE does not do: 1 is a perfect SAE, 0 one that is no better
than the ablation. Zero is far from any state, so that recovery against it flatters; against the mean it does not.

Replaced are the states that SAEs are trained on. Position 0 of a segment and norm outliers (`JumpReLUSAE.is_outlier`,
judged on the model's own state) stay as they are in all three cases, so that an attention sink that no SAE has to
carry does not decide the figure. Predictions made at position 0 cannot change and are left out.

A layer alone costs a forward pass of what comes after it: what comes before is not computed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE

HELD_NUMBERS = 1 << 26
"""Most log-probabilities of the model that are kept at a time (4 bytes each)."""
HEAD_TOKENS, COMPARED = 256, 16
"""Predictions whose logits are made, and whose losses are, at a time: what was made of a few is in the cache while it is read."""
KINDS = ("sae", "zero", "mean")
"""What takes a state's place."""

Losses = dict[str, dict[str, float]]
"""Kind → `ce` and `kl` → sum over predictions, nats."""


def rows_at_a_time(length: int, vocabulary: int, most: int) -> int:
    """Rows whose log-probabilities may be kept together; at least 1, at most `most`."""
    return max(1, min(most, HELD_NUMBERS // (length * vocabulary)))


@dataclass(frozen=True)
class Clean:
    """What the model does by itself with a batch of text, on its device.

    states: layer → block output [batch, position, d_model]; log_probabilities: [n_predictions, n_vocabulary]
    float32; target: [n_predictions], the tokens that follow; ce: sum over predictions, nats.
    """

    text: HeldOutText
    states: Mapping[int, Tensor]
    log_probabilities: Tensor
    target: Tensor
    ce: float


@torch.inference_mode()
def read_clean(model: LanguageModel, text: HeldOutText, layers: Sequence[int]) -> Clean:
    """One forward pass of the model as it is."""
    text = text.to(model.device)
    states: dict[int, Tensor] = {}
    with model.reading(layers, states.__setitem__):
        final = model.final_states(text.token, text.position)
    target = text.token.roll(-1, dims=1)[text.predicts]
    logits = (model.logits(part).float() for part in final[text.predicts].split(HEAD_TOKENS))
    known = torch.cat([torch.log_softmax(part, dim=-1) for part in logits])
    ce = functional.nll_loss(known, target, reduction="sum")
    return Clean(text, states, known, target, float(ce))


def kept_mask(sae: JumpReLUSAE, text: HeldOutText, states: Tensor) -> Tensor:
    """Bool [batch, position]: states that SAEs are trained on, which are those that are replaced."""
    return (text.position > 0) & ~sae.is_outlier(states)


@torch.inference_mode()
def layer_alone(model: LanguageModel, clean: Clean, sae: JumpReLUSAE, mean: Tensor, layer: int) -> Losses:
    """Losses where one block's output is replaced. sae, mean ([d_model]): of this layer, on the model's device."""
    states, text = clean.states[layer], clean.text
    kept = kept_mask(sae, text, states)
    of_kinds = torch.cat([replaced(kind, states, kept, sae, mean) for kind in KINDS])
    with model.going_on_after(layer, of_kinds):
        final = model.final_states(*(each.repeat(len(KINDS), 1) for each in (text.token, text.position)))
    own = zip(KINDS, final.chunk(len(KINDS)), strict=True)
    return {kind: _compare(model, part, clean) for kind, part in own}


@torch.inference_mode()
def all_layers(
    model: LanguageModel, clean: Clean, saes: Mapping[int, JumpReLUSAE], means: Mapping[int, Tensor]
) -> tuple[Losses, dict[int, float]]:
    """Losses where all these layers are replaced in one forward pass, and by layer the SAEs' squared error.

    The error is Σ‖state - the model's own‖² over kept tokens, after the layer's SAE, in the model's units: what the
    SAEs up to this layer have added up to.
    """
    layers = sorted(saes)
    kept = {layer: kept_mask(saes[layer], clean.text, clean.states[layer]) for layer in layers}
    errors: dict[int, float] = {}
    losses: Losses = {}

    def replacement(kind: str, layer: int, output: Tensor) -> Tensor:
        found = replaced(kind, output, kept[layer], saes[layer], means[layer])
        if kind == "sae":
            difference = (found.float() - clean.states[layer].float())[kept[layer]]
            errors[layer] = float(difference.square().sum(dtype=torch.float64))
        return found

    for kind in KINDS:
        with model.replacing(layers, partial(replacement, kind)):
            final = model.final_states(clean.text.token, clean.text.position)
        losses[kind] = _compare(model, final, clean)
    return losses, errors


def replaced(kind: str, states: Tensor, kept: Tensor, sae: JumpReLUSAE, mean: Tensor) -> Tensor:
    """states [..., d_model] with what takes the place of the kept ones: reconstruction, zero or mean."""
    if kind == "sae":
        new = sae.decode(sae.encode(states), states).to(states.dtype)
    elif kind == "mean":
        new = mean.to(states.dtype).expand_as(states)
    else:
        new = torch.zeros_like(states)
    return torch.where(kept[..., None], new, states)


def _compare(model: LanguageModel, final: Tensor, clean: Clean) -> dict[str, float]:
    """Sums over predictions of cross-entropy and of KL(clean ‖ these). final: [batch, position, d_model]."""
    ce = kl = 0.0
    parts = zip(
        final[clean.text.predicts].split(HEAD_TOKENS),
        clean.log_probabilities.split(HEAD_TOKENS),
        clean.target.split(HEAD_TOKENS),
        strict=True,
    )
    for states, *own in parts:
        rows = (each.split(COMPARED) for each in (model.logits(states).float(), *own))
        for logits, known, target in zip(*rows, strict=True):
            found = torch.log_softmax(logits, dim=-1)
            ce += float(functional.nll_loss(found, target, reduction="sum"))
            kl += float(functional.kl_div(found, known, reduction="sum", log_target=True))
    return {"ce": ce, "kl": kl}


def add_up(parts: Sequence[Losses]) -> Losses:
    """Sums over batches."""
    return {kind: {name: sum(part[kind][name] for part in parts) for name in ("ce", "kl")} for kind in KINDS}


def recovery(losses: Losses, clean_ce: float, n_predictions: int) -> dict[str, dict[str, float | None]]:
    """Means a prediction, and what the SAE recovers of the damage of each ablation.

    losses, clean_ce: sums. ce_recovered = (ablated - sae) / (ablated - clean), kl_recovered = 1 - sae / ablated;
    null where the ablation did no damage.
    """
    ce, kl = ({kind: losses[kind][name] for kind in KINDS} for name in ("ce", "kl"))
    return {
        "ce": {kind: ce[kind] / n_predictions for kind in KINDS},
        "kl": {kind: kl[kind] / n_predictions for kind in KINDS},
        "ce_recovered": {
            kind: _share(ce[kind] - ce["sae"], ce[kind] - clean_ce) for kind in ("zero", "mean")
        },
        "kl_recovered": {kind: _share(kl[kind] - kl["sae"], kl[kind]) for kind in ("zero", "mean")},
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
