"""Latents set to another activation in the middle of a forward pass, and what the model says then.

An edit gives a latent of one layer at one token another activation: the state changes by the difference times the decoder
row, so that everything else in it, the SAE's error too, stays. The latent's activation is read off the state as it then is,
so that what earlier edits have already taken away is not taken twice. The pass starts from the layer of the first edit
and the token of the first edit; what comes before is cached. Interventions on one text go in batches.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.reading import Prefix, ReadBatch, fork, reform
from ghosttrack.common.models.sae import JumpReLUSAE

ROWS_AT_A_TIME = 32
TOKENS_AT_A_TIME = 16_384
"""Of all rows, whose keys and values are held beside each other: 0.75 GB of SmolLM2-135M."""


class Edit(NamedTuple):
    """layer: of the model; place: token of the text; latent: of the layer's SAE; value: the activation that it gets."""

    layer: int
    place: int
    latent: int
    value: float


Intervention = Sequence[Edit]


class Bench:
    """A text that has been read once, to be read again with interventions."""

    @torch.inference_mode()
    def __init__(
        self,
        model: LanguageModel,
        saes: Mapping[int, JumpReLUSAE],
        tokens: Sequence[int],
        first: int,
        prefix: Prefix | None = None,
    ) -> None:
        """saes: by layer of the model, on its device; first: no edit is before this token; prefix: what of the text was
        read before, at most the tokens before `first`."""
        self.model, self.saes, self.tokens = model, saes, list(tokens)
        self.first = first if model.caches else 0
        before = len(prefix.tokens) if prefix is not None and prefix.cache is not None else 0
        self._cache = None
        if model.caches:
            one = torch.zeros(1, dtype=torch.long)
            self._cache = fork(prefix.cache, one) if prefix and prefix.cache else DynamicCache()
        found: dict[int, Tensor] = {}
        ids = torch.tensor([self.tokens[before:]], device=model.device)
        with model.reading(range(len(model.blocks)), found.__setitem__):
            final = model.run(ids, cache=self._cache, before=before)
        self._states = {layer: states[:, self.first - before :].clone() for layer, states in found.items()}
        self.logits = model.logits(final[:, -1]).float()[0].cpu()
        """[n_vocabulary], as the model is."""

    def states(self, layer: int, place: int) -> Tensor:
        """The model's own block output: [d_model]."""
        return self._states[layer][0, place - self.first]

    @torch.inference_mode()
    def run(self, interventions: Sequence[Intervention]) -> Tensor:
        """Logits after the last token with each of the interventions: [n, n_vocabulary] float32, on the CPU."""
        found = self.logits.repeat(len(interventions), 1)
        for numbers in self._batches(interventions):
            final, _ = self._forward([interventions[number] for number in numbers])
            found[numbers] = self.model.logits(final).float().cpu()
        return found

    @torch.inference_mode()
    def rows(self, intervention: Intervention) -> tuple[ReadBatch, Tensor]:
        """One text with an intervention, and its logits [1, n_vocabulary], to go on from (`GoingOn`)."""
        final, cache = self._forward([intervention])
        rows = ReadBatch([self.tokens], cache, final[:, None], final.new_zeros((1, 1, 0, final.shape[-1])))
        return rows, self.model.logits(final).float()

    def _batches(self, interventions: Sequence[Intervention]) -> list[list[int]]:
        """Numbers of those that go together: alike in where they begin. Empty ones change nothing and are left out."""
        order = sorted(
            (number for number, edits in enumerate(interventions) if edits),
            key=lambda number: _beginning(interventions[number]),
        )
        most = max(min(ROWS_AT_A_TIME, TOKENS_AT_A_TIME // len(self.tokens)), 1)
        batches: list[list[int]] = []
        for number in order:
            place = _beginning(interventions[number])[0]
            last = batches[-1] if batches else []
            if last and len(last) < most and _beginning(interventions[last[0]])[0] == place:
                last.append(number)
            else:
                batches.append([number])
        return batches

    def _forward(self, interventions: Sequence[Intervention]) -> tuple[Tensor, DynamicCache | None]:
        """Final states after the last token [n, d_model], and the cache of whole rows."""
        place, layer = map(min, zip(*map(_beginning, interventions), strict=True))
        place = place if self._cache is not None else 0
        count = len(interventions)
        cache = _cropped(self._cache, place, count) if self._cache is not None else None
        edits = self._by_layer(interventions, place)

        def replacement(number: int, output: Tensor) -> Tensor:
            return self._edited(output, self.saes[number], *edits[number])

        states = self._states[layer][:, place - self.first :].expand(count, -1, -1)
        ids = torch.tensor(self.tokens[place:], device=self.model.device).expand(count, -1)
        with self.model.going_on_after(layer, states), self.model.replacing(sorted(edits), replacement):
            final = self.model.run(ids, cache=cache, before=place)[:, -1]
        if cache is None or self._cache is None:
            return final, None
        whole = _cropped(self._cache, len(self.tokens), count)
        whole.layers[layer + 1 :] = cache.layers[layer + 1 :]
        return final, whole

    def _by_layer(self, interventions: Sequence[Intervention], place: int) -> dict[int, list[Tensor]]:
        """Layer → row, column, latent and value of its edits."""
        found: dict[int, list[tuple[int, int, int, float]]] = {}
        for row, edits in enumerate(interventions):
            for edit in edits:
                found.setdefault(edit.layer, []).append((row, edit.place - place, edit.latent, edit.value))
        device = self.model.device
        return {
            layer: [torch.tensor(numbers, device=device) for numbers in zip(*rows, strict=True)]
            for layer, rows in found.items()
        }

    @staticmethod
    def _edited(
        output: Tensor, sae: JumpReLUSAE, row: Tensor, column: Tensor, latent: Tensor, value: Tensor
    ) -> Tensor:
        state = output[row, column].float()
        own = sae.own_unit(state)
        own = own[:, 0] if isinstance(own, Tensor) else own
        seen = (sae.normalise(state) * sae.W_enc.T[latent]).sum(-1) + own * sae.b_enc[latent]
        now = seen * (seen > own * sae.threshold[latent])
        change = (value - now)[:, None] * sae.W_dec[latent] / sae.scale
        return output.index_put((row, column), change.to(output.dtype), accumulate=True)


def _beginning(intervention: Intervention) -> tuple[int, int]:
    """The first token and the first layer that are edited."""
    return min(edit.place for edit in intervention), min(edit.layer for edit in intervention)


def _cropped(cache: DynamicCache, length: int, count: int) -> DynamicCache:
    """Keys and values of the first tokens of one row, for many, in the same memory."""
    return reform(cache, lambda some: some[:, :, :length].expand(count, -1, -1, -1))


def gradients(
    model: LanguageModel,
    layers: Sequence[int],
    tokens: Sequence[int],
    first: int,
    more: int,
    less: int,
    prefix: Prefix | None = None,
) -> Tensor:
    """How the logit of token `more` less that of `less`, after the last token, changes with the block outputs from token
    `first` on: [n_layers, n_tokens - first, d_model] float32, on the CPU. To first order, the effect of an intervention is
    the change that it makes times this (attribution patching, Nanda 2023).
    """
    before = len(prefix.tokens) if prefix is not None and prefix.cache is not None else 0
    cache = None
    if model.caches:
        cache = reform(prefix.cache, torch.clone) if prefix and prefix.cache else DynamicCache()
    found: list[Tensor] = []

    def follow(layer: int, output: Tensor) -> Tensor:
        output = output if found else output.detach().requires_grad_()
        found.append(output)
        output.retain_grad()
        return output

    with torch.enable_grad(), model.replacing(sorted(layers), follow):
        ids = torch.tensor([list(tokens[before:])], device=model.device)
        final = model.backbone(
            input_ids=ids, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state[0, -1]
        logits = _head(model, final[None])[0]
        (logits[more] - logits[less]).float().backward()
    grads = [states.grad[0, first - before :].float().cpu() for states in found]  # type: ignore[index]
    return torch.stack(grads)


def _head(model: LanguageModel, final: Tensor) -> Tensor:
    """`LanguageModel.logits` with gradients."""
    return type(model).logits.__wrapped__(model, final)  # type: ignore[attr-defined]
