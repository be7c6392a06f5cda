"""Greedy answers with token logprobs, and the residual stream at the positions that are tracked.

Questions of one relation share their few-shot prefix, so its key-value cache is computed once and each question costs
only its own tokens. A row leaves the batch when its answer ends.

Positions: SUBJECT (-1) is the subject's last token in the query, 0 the last prompt token, 1… the answer's tokens.
Position p ≥ 0 predicts answer token p + 1; the subject's token is read against the first answer token.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.common.models.language_model import LanguageModel

SUBJECT = -1


class Query(NamedTuple):
    """A question's own tokens, after the prefix, and which of them is the subject's last; None: there is none."""

    tokens: list[int]
    subject: int | None


class Answer(NamedTuple):
    """A greedy answer of n tokens.

    token_ids, tokens, logprobs, entropies: a value an answer token (natural logarithms).
    positions: those with states, ascending. states: [n_positions, n_layers, d_model] float32, block outputs.
    candidates, candidate_logprobs: [n + 1, m], the model's likeliest next tokens at positions 0 to n, likeliest first;
    the first is the token that it emits: the next of the answer, or at its end a token that is not of it.
    """

    text: str
    token_ids: list[int]
    tokens: list[str]
    logprobs: list[float]
    entropies: list[float]
    positions: list[int]
    states: Tensor
    candidates: Tensor
    candidate_logprobs: Tensor


@dataclass(frozen=True)
class Prompts:
    """A batch of queries after their common prefix, read by the model up to the first answer token.

    cache: one row a query. mask: [n, n_positions]. position: [n, 1], of the last token. logits: [n, n_vocabulary],
    float32. states: [n, 2, n_layers, d_model], at the subject (or the last token, where there is no subject) and at
    the last token.
    """

    cache: DynamicCache
    mask: Tensor
    position: Tensor
    logits: Tensor
    states: Tensor


def ending_tokens(tokenizer: Any, n_vocabulary: int) -> Tensor:
    """Bool [n_vocabulary]: tokens that end an answer, which are those with a newline and the end of text."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    ends = torch.zeros(n_vocabulary, dtype=torch.bool)
    ends[: len(texts)] = torch.tensor(["\n" in text for text in texts])
    if tokenizer.eos_token_id is not None:
        ends[tokenizer.eos_token_id] = True
    return ends


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of a text, without special tokens, as the corpus has them."""
    return model.tokenizer(text, add_special_tokens=False).input_ids if text else []


def encode_query(model: LanguageModel, query: str, subject: str) -> Query:
    """A query's tokens, and the one that ends the last mention of the subject in it."""
    if not query:
        return Query([], None)
    encoded = model.tokenizer(query, add_special_tokens=False, return_offsets_mapping=True)
    end = end_of_subject(query, subject)
    found = [n for n, (start, stop) in enumerate(encoded.offset_mapping) if end and start < end <= stop]
    return Query(encoded.input_ids, found[-1] if found else None)


def end_of_subject(query: str, subject: str) -> int | None:
    """Where the last mention of a subject ends: as whole words if there is one, in any case of letters."""
    name = re.escape(subject.strip())
    for pattern in (rf"(?<!\w){name}(?!\w)", name) if name else ():
        if mentions := list(re.finditer(pattern, query, re.IGNORECASE)):
            return mentions[-1].end()
    return None


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


@torch.inference_mode()
def read_prompts(
    model: LanguageModel,
    prefix: DynamicCache,
    prefix_length: int,
    queries: Sequence[Query],
    layers: Sequence[int],
) -> Prompts:
    """queries: none without tokens. prefix: its cache, of one row, from `prefix_cache`; it is copied."""
    count, longest = len(queries), max(len(query.tokens) for query in queries)
    device = model.device
    ids = torch.full((count, longest), model.tokenizer.pad_token_id or 0, device=device)
    mask = torch.zeros((count, prefix_length + longest), dtype=torch.long, device=device)
    mask[:, :prefix_length] = 1
    subject = torch.full((count,), longest - 1, device=device)
    for row, query in enumerate(queries):  # padded on the left, so that every last token is in one column
        first = longest - len(query.tokens)
        ids[row, first:] = torch.tensor(query.tokens, device=device)
        mask[row, prefix_length + first :] = 1
        if query.subject is not None:
            subject[row] = first + query.subject
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix_length:]
    cache = copy.deepcopy(prefix)
    if prefix_length:
        cache.batch_repeat_interleave(count)
    found: list[Tensor] = []
    columns = torch.stack([subject, torch.full_like(subject, longest - 1)], dim=1)
    rows = torch.arange(count, device=device)[:, None]
    with model.reading(layers, lambda _, output: found.append(output[rows, columns].float())):
        logits = model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1].float()  # fmt: skip
    return Prompts(cache, mask, positions[:, -1:], logits, torch.stack(found, dim=2))


@torch.inference_mode()
def greedy_answers(
    model: LanguageModel,
    prompts: Prompts,
    queries: Sequence[Query],
    layers: Sequence[int],
    ends: Tensor,
    max_new_tokens: int,
    n_candidates: int,
) -> list[Answer]:
    """The likeliest token each time, to the end of each answer. ends: from `ending_tokens`."""
    steps = _Rows(model, prompts, ends)
    chosen: list[list[Tensor]] = [[] for _ in queries]
    logprobs: list[list[Tensor]] = [[] for _ in queries]
    entropies: list[list[Tensor]] = [[] for _ in queries]
    states = [
        [both[0], both[1]] if query.subject is not None else [both[1]]
        for query, both in zip(queries, prompts.states.cpu(), strict=True)
    ]
    for step in range(max_new_tokens + 1):
        distribution = steps.logits.log_softmax(-1)
        likeliest = distribution.topk(min(n_candidates, distribution.shape[1]), dim=-1)
        spread = -(distribution.exp() * distribution).sum(-1)
        for number, *values in zip(
            steps.number.tolist(), likeliest.indices.cpu(), likeliest.values.cpu(), spread.cpu(), strict=True
        ):
            for kept, value in zip((chosen, logprobs, entropies), values, strict=True):
                kept[number].append(value)
        if step == max_new_tokens or not steps.keep(likeliest.indices[:, 0]):
            break
        reached = _last_states(model, layers, steps)
        for number, state in zip(steps.number.tolist(), reached, strict=True):
            states[number].append(state)
    answers = []
    for number, query in enumerate(queries):
        token_ids = [int(likeliest[0]) for likeliest in chosen[number]][:-1]
        length = len(token_ids)
        answers.append(
            Answer(
                text=model.tokenizer.decode(token_ids).strip(),
                token_ids=token_ids,
                tokens=[model.tokenizer.decode([token]) for token in token_ids],
                logprobs=[float(values[0]) for values in logprobs[number][:length]],
                entropies=[float(value) for value in entropies[number][:length]],
                positions=[SUBJECT] * (query.subject is not None) + list(range(length + 1)),
                states=torch.stack(states[number]),
                candidates=torch.stack(chosen[number]),
                candidate_logprobs=torch.stack(logprobs[number]),
            )
        )
    return answers


@torch.inference_mode()
def sampled_answers(
    model: LanguageModel,
    prompts: Prompts,
    ends: Tensor,
    max_new_tokens: int,
    temperature: float,
    draws: NDArray[np.float64],
) -> list[list[str]]:
    """Texts of answers drawn at a temperature, for each query as many as it has draws.

    draws: [n_queries, n_samples, max_new_tokens], uniform in [0, 1); each chooses one token by inversion of the
    cumulative distribution, so that a question's samples depend on its own draws only.
    """
    count, n_samples, _ = draws.shape
    uniform = torch.from_numpy(draws.reshape(count * n_samples, max_new_tokens)).to(model.device)
    steps = _Rows(model, prompts, ends, copies=n_samples)
    texts: list[list[int]] = [[] for _ in range(count * n_samples)]
    for step in range(max_new_tokens):
        total = (steps.logits / temperature).softmax(-1).double().cumsum(-1)
        wanted = uniform[steps.number, step, None] * total[:, -1:]
        token = torch.searchsorted(total, wanted, right=True).clamp(max=total.shape[1] - 1)[:, 0]
        for number, one in zip(steps.number.tolist(), token.tolist(), strict=True):
            if not bool(steps.ends[one]):
                texts[number].append(one)
        if step == max_new_tokens - 1 or not steps.keep(token):
            break
        steps.go_on()
    decoded = [model.tokenizer.decode(text).strip() for text in texts]
    return [decoded[start : start + n_samples] for start in range(0, len(decoded), n_samples)]


def _last_states(model: LanguageModel, layers: Sequence[int], steps: "_Rows") -> Tensor:
    """Lets the rows go on by a token; the block outputs at it: [n, n_layers, d_model], on the CPU."""
    found: list[Tensor] = []
    with model.reading(layers, lambda _, output: found.append(output[:, -1].float())):
        steps.go_on()
    return torch.stack(found, dim=1).cpu()


class _Rows:
    """Rows of a batch that grow by a token a step and leave it at their end.

    number: int64 [n], which row of the batch at the start each of the rows that are left is. logits: [n, n_vocabulary].
    """

    def __init__(self, model: LanguageModel, prompts: Prompts, ends: Tensor, copies: int = 1) -> None:
        self._model = model
        self.ends = ends.to(model.device)
        self._cache = copy.deepcopy(prompts.cache)
        if copies > 1:
            self._cache.batch_repeat_interleave(copies)
        self._mask, self._position, self.logits = (
            values.repeat_interleave(copies, dim=0)
            for values in (prompts.mask, prompts.position, prompts.logits)
        )
        self.number = torch.arange(len(self.logits), device=model.device)

    def keep(self, token: Tensor) -> bool:
        """Let each row go on with its token [n]; those that end with it leave. Returns whether any is left."""
        left = (~self.ends[token]).nonzero()[:, 0]
        self._token = token[left]
        if len(left) < len(token):
            self._mask, self._position, self.number = (
                values[left] for values in (self._mask, self._position, self.number)
            )
            if len(left):
                self._cache.batch_select_indices(left)
        return bool(len(left))

    def go_on(self) -> None:
        """One forward pass of the tokens that were kept."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        self._position = self._position + 1
        self.logits = self._model.model(
            input_ids=self._token[:, None], attention_mask=self._mask, position_ids=self._position,
            past_key_values=self._cache, use_cache=True, logits_to_keep=1,
        ).logits[:, -1].float()  # fmt: skip
