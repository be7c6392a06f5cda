"""Greedy answers with token logprobs, and the residual stream where the tracks live.

Questions of one relation share their few-shot prefix, so its key-value cache is computed once and
each question costs only its own tokens.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from common.language_model import LanguageModel


class Answer(NamedTuple):
    """A greedy answer.

    token_ids, logprobs, entropies: a value an answer token (natural logarithms).
    states: [1 + n_answer_tokens, n_layers, d_model] float32, block outputs at the last prompt token
    and at every answer token.
    """

    text: str
    token_ids: list[int]
    tokens: list[str]
    logprobs: list[float]
    entropies: list[float]
    states: Tensor


def ending_tokens(tokenizer: Any, n_vocabulary: int) -> Tensor:
    """Bool [n_vocabulary]: tokens that end an answer, which are those with a newline and the end of text."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    ends = torch.zeros(n_vocabulary, dtype=torch.bool)
    ends[: len(texts)] = torch.tensor(["\n" in text for text in texts])
    if tokenizer.eos_token_id is not None:
        ends[tokenizer.eos_token_id] = True
    return ends


def prefix_cache(model: LanguageModel, prefix: str) -> tuple[DynamicCache, int]:
    """The key-value cache of a prefix for one row, and its length in tokens."""
    cache = DynamicCache(config=model.model.config)
    ids = encode(model, prefix)
    if ids:
        with torch.inference_mode():
            model.backbone(
                input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True
            )
    return cache, len(ids)


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of a text, without special tokens, as the corpus has them."""
    return model.tokenizer(text, add_special_tokens=False).input_ids if text else []


@torch.inference_mode()
def answer_batch(
    model: LanguageModel,
    cache: DynamicCache,
    prefix_length: int,
    queries: Sequence[Sequence[int]],
    layers: Sequence[int],
    ends: Tensor,
    max_new_tokens: int,
) -> list[Answer]:
    """Greedy answers to queries (token ids, none empty) that follow the same prefix.

    cache: of the prefix, one row; it is copied. ends: from `ending_tokens`.
    """
    count, longest = len(queries), max(len(query) for query in queries)
    device = model.device
    pad = model.tokenizer.pad_token_id or 0
    ids = torch.full((count, longest), pad, device=device)
    mask = torch.zeros((count, prefix_length + longest), dtype=torch.long, device=device)
    mask[:, :prefix_length] = 1
    for row, query in enumerate(queries):  # padded on the left, so that every last token is in one column
        ids[row, longest - len(query) :] = torch.tensor(query, device=device)
        mask[row, prefix_length + longest - len(query) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix_length:]
    rows = copy.deepcopy(cache)
    if prefix_length:
        rows.batch_repeat_interleave(count)

    found: dict[int, Tensor] = {}
    chosen, logprobs, entropies, states = [], [], [], []
    alive = torch.ones(count, dtype=torch.bool, device=device)
    ends = ends.to(device)
    with model.reading(layers, lambda layer, output: found.__setitem__(layer, output[:, -1].float())):
        for _ in range(max_new_tokens + 1):
            logits = model.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=rows,
                use_cache=True, logits_to_keep=1,
            ).logits[:, -1].float()  # fmt: skip
            states.append(torch.stack([found[layer] for layer in layers], dim=1))
            distribution = logits.log_softmax(-1)
            best = distribution.argmax(-1)
            chosen.append(best)
            logprobs.append(distribution.gather(1, best[:, None])[:, 0])
            entropies.append(-(distribution.exp() * distribution).sum(-1))
            alive &= ~ends[best]
            if not bool(alive.any()):
                break
            ids = best[:, None]
            mask = torch.cat([mask, mask.new_ones(count, 1)], dim=1)
            positions = positions[:, -1:] + 1
    columns = (torch.stack(values, dim=1).cpu() for values in (chosen, logprobs, entropies, states))
    return [
        _cut(model.tokenizer, row_ids, row_logprobs, row_entropies, row_states, ends.cpu(), max_new_tokens)
        for row_ids, row_logprobs, row_entropies, row_states in zip(*columns, strict=True)
    ]


def _cut(
    tokenizer: Any, ids: Tensor, logprobs: Tensor, entropies: Tensor, states: Tensor, ends: Tensor, limit: int
) -> Answer:
    """Cut one row of a batch at its end. ids, logprobs, entropies: [n_steps]; states: [n_steps, n_layers, d_model]."""
    stops = ends[ids].nonzero()[:, 0]
    length = min(int(stops[0]) if len(stops) else len(ids), limit)
    kept = ids[:length].tolist()
    return Answer(
        text=tokenizer.decode(kept).strip(),
        token_ids=kept,
        tokens=[tokenizer.decode([token]) for token in kept],
        logprobs=logprobs[:length].tolist(),
        entropies=entropies[:length].tolist(),
        states=states[: length + 1].clone(),
    )
