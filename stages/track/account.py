"""What the logit lens says of the candidates at a layer, taken apart without a rest: by tracks, by what the SAE leaves out,
and by what attention and MLP wrote since the layer before.

The final norm is linear with its scale held at that of the state itself, so that a candidate's logit before a soft cap is
a sum over whatever the state is a sum of (`LinearNorm`). Functions of plain arrays; what is read of a model is in
`common/models/writes.py`, the columns in `common/formats/account.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.formats.account import SOURCES, STATE, STEP
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.linear_norm import LinearNorm
from ghosttrack.common.models.products import linear
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.writes import Writes


@dataclass(frozen=True)
class Head:
    """How a final state becomes logits, on the CPU in float32. rows: [n_vocabulary, d_model], the unembedding; bias:
    [n_vocabulary]; factor: what all logits are multiplied by; cap: of the soft cap, None where there is none."""

    norm: LinearNorm
    rows: Tensor
    bias: Tensor
    factor: float
    cap: float | None

    @classmethod
    @torch.inference_mode()
    def of(cls, model: LanguageModel) -> "Head":
        norm = LinearNorm.of(model.final_norm, model.d_model, model.device, model.unembedding.dtype)
        rows = model.unembedding
        bias = getattr(model.model.get_output_embeddings(), "bias", None)
        bias = torch.zeros(len(rows), device=rows.device) if bias is None else bias
        # Families call their caps by several names, and some multiply their logits: both are found by asking. Logits of states
        # so large that a cap is all that is left of them do not double with the state.
        state = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)).to(rows)
        once, twice = (float(model.logits(large * state[None]).abs().max()) for large in (2**12, 2**13))
        cap = twice if twice < 1.01 * once else None
        linear = (rows @ state + bias).double()
        asked = model.logits(state[None])[0].double()
        raw = asked if cap is None else cap * torch.atanh((asked / cap).clamp(-1 + 1e-9, 1 - 1e-9))
        usable = slice(None) if cap is None else asked.abs() < 0.9 * cap
        factor = float((raw[usable] * linear[usable]).sum() / linear[usable].square().sum())
        return cls(norm.to("cpu"), rows.float().cpu(), bias.float().cpu(), round(factor, 4), cap)

    def gained(self, candidates: Tensor) -> Tensor:
        """What a final state less its mean, over its scale, is multiplied by: [..., d_model] of tokens [...]."""
        gained = self.factor * self.rows[candidates] * self.norm.gain
        return gained - gained.mean(-1, keepdim=True) if self.norm.centred else gained

    def capped(self, raw: Tensor) -> Tensor:
        return raw if self.cap is None else self.cap * torch.tanh(raw / self.cap)


class Account(NamedTuple):
    """Of n positions, n_layers tracked layers and m candidates. logit, raw: [n, n_layers, m]; state: [n, n_layers,
    len(STATE), m]; step: [n, n_layers, len(STEP), m]; constant: [n, m]; rest: [n, n_layers]. See the format's module."""

    logit: Tensor
    raw: Tensor
    state: Tensor
    step: Tensor
    constant: Tensor
    rest: Tensor


class Active(NamedTuple):
    """The latents that are tracked, [n, n_layers, k]: latents int64; activations float32, 0 where there is none."""

    latents: Tensor
    activations: Tensor


def parts_of_state(state: Tensor, latents: Tensor, activations: Tensor, sae: JumpReLUSAE) -> Tensor:
    """A state as the sum of what STATE names: [n, len(STATE), d_model]. state: [n, d_model]; latents, activations: [n, k]."""
    decoder = sae.W_dec / sae.scale
    tracked = torch.nn.functional.embedding_bag(latents, decoder, per_sample_weights=activations, mode="sum")
    acts = sae.encode(state)
    left = torch.ones_like(acts).scatter_reduce(1, latents, (activations <= 0).float(), "amin")
    untracked = linear(acts * left, decoder.T)
    bias = sae.bias(state).expand_as(state)
    return torch.stack([tracked, untracked, bias, state - tracked - untracked - bias], dim=1)


def states_apart(
    writes: Writes, active: Active, saes: Sequence[JumpReLUSAE], layers: Sequence[int]
) -> Tensor:
    """`parts_of_state` of every tracked layer: [n, n_layers, len(STATE), d_model]."""
    of_layers = zip(layers, active.latents.unbind(1), active.activations.unbind(1), saes, strict=True)
    parts = [
        parts_of_state(writes.outputs[layer], latents, activations, sae)
        for layer, latents, activations, sae in of_layers
    ]
    return torch.stack(parts, dim=1)


def parts_of_step(writes: Writes, layers: Sequence[int], place: int) -> Tensor:
    """A tracked layer's state as the sum of what STEP names: [n, len(STEP), d_model]."""
    before = layers[place - 1] if place else -1
    blocks = slice(before + 1, layers[place] + 1)
    carried = writes.outputs[before] if place else writes.before
    bias, mlp = (each[blocks].sum(0)[:, None] for each in (writes.attention_bias, writes.mlp))
    return torch.cat([carried[:, None], writes.attention[blocks].sum(0), bias, mlp], dim=1)


def take_apart(
    writes: Writes,
    held: Tensor,
    candidates: Tensor,
    layers: Sequence[int],
    head: Head,
    final_norm: torch.nn.Module,
) -> Account:
    """What wrote each candidate's logit, layer by layer. held: from `states_apart`; candidates: int64 [n, m]; layers:
    those that are tracked."""
    assert writes.attention.shape[2] == len(SOURCES)
    rows = head.factor * head.rows[candidates]
    constant = (rows @ head.norm.bias) + head.factor * head.bias[candidates]
    gained = head.gained(candidates)
    found = []
    for place, layer in enumerate(layers):
        normed = _asked(final_norm, writes.outputs[layer])
        divisor = head.norm.divisor(writes.outputs[layer], normed)
        raw = (rows @ normed[:, :, None])[..., 0] + head.factor * head.bias[candidates]
        came = parts_of_step(writes, layers, place)
        of_state, of_step = (part @ gained.mT / divisor[:, None, None] for part in (held[:, place], came))
        found.append((raw, of_state, of_step, _rest(of_state, of_step, raw - constant)))
    raw, states, steps, rest = (torch.stack(each, 1) for each in zip(*found, strict=True))
    return Account(head.capped(raw), raw, states, steps, constant, rest)


def of_heads(
    writes: Writes, candidates: Tensor, layers: Sequence[int], head: Head, final_norm: torch.nn.Module
) -> Tensor:
    """What each attention head wrote to a candidate's logit before a soft cap, read at the first tracked layer behind it.

    writes: of one position, by head; candidates: int64 [m]; layers: those that are tracked. [blocks up to the last of them,
    n_heads, len(SOURCES), m]; over heads and the blocks of a layer they add up to the account's `attention_…`.
    """
    gained, first, found = head.gained(candidates), 0, []
    for layer in layers:
        state = writes.outputs[layer]
        divisor = head.norm.divisor(state, _asked(final_norm, state))
        found.append(writes.attention[first : layer + 1, 0] @ gained.T / divisor)
        first = layer + 1
    return torch.cat(found).unflatten(1, (-1, len(SOURCES)))


def _rest(held: Tensor, came: Tensor, whole: Tensor) -> Tensor:
    """Largest error of either sum relative to the size of its parts; of `held` alone where `came` is untold (NaN)."""
    errors = [(part.sum(1) - whole).abs().amax(1) for part in (held, came)]
    sizes = [part.abs().sum(1).amax(1) for part in (held, came)]
    told = ~errors[1].isnan()
    error, size = (torch.where(told, torch.maximum(*both), both[0]) for both in (errors, sizes))
    return error / size.clamp(min=1e-9)


def columns_of(
    account: Account, owner: NDArray[np.int64], layers: Sequence[int]
) -> dict[str, NDArray[np.generic]]:
    """Rows of account.parquet. owner: [n, 2], question and position."""
    n, n_layers, m = account.raw.shape
    constant = account.constant[:, None].expand(n, n_layers, m)
    lists = {"logit": account.logit, "raw": account.raw, "constant": constant}
    lists |= {name: account.state[:, :, number] for number, name in enumerate(STATE)}
    lists |= {name: account.step[:, :, number] for number, name in enumerate(STEP)}
    return {
        "question": owner[:, 0].repeat(n_layers).astype(np.int32),
        "position": owner[:, 1].repeat(n_layers).astype(np.int16),
        "layer": np.tile(np.array(layers, dtype=np.int16), n),
        "leader": account.raw.argmax(-1).flatten().numpy().astype(np.int16),
        "rest": account.rest.flatten().numpy(),
        **{name: values.reshape(-1, m).float().numpy() for name, values in lists.items()},
    }


def _asked(norm: torch.nn.Module, state: Tensor) -> Tensor:
    """The model's own norm of states, float32 on the CPU."""
    parameter = next(norm.parameters(), state)
    return norm(state.to(parameter.device, parameter.dtype)).float().cpu()
