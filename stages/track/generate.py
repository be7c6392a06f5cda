"""Greedy answers with token logprobs, and the residual stream at the positions that are tracked.

What the prompts of a batch begin with in common is read once (`ghosttrack.common.models.reading`), so that each question
costs only its own tokens. A row leaves the batch when its answer ends.

Positions: SUBJECT (-1) is the subject's last token in the query, 0 the last prompt token, 1… the answer's tokens.
Position p ≥ 0 predicts answer token p + 1; the subject's token is read against the first answer token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt
from ghosttrack.common.models.reading import GoingOn, Prefix, ReadBatch, read_prefix, read_rows
from ghosttrack.common.models.vocabulary import all_texts

SUBJECT = -1


class GreedyAnswer(NamedTuple):
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


class Ends:
    """What ends an answer: the model's end tokens, and texts to stop at.

    tokens: bool [n_vocabulary], those that end it whatever stands before them.
    """

    def __init__(self, model: LanguageModel, stop: Sequence[str], end_tokens: Sequence[int]) -> None:
        """stop: texts that are not of an answer, nor is the token that completes one of them."""
        self._tokenizer = model.tokenizer
        self._longer = [text for text in stop if len(text) > 1]
        texts = all_texts(model.tokenizer)
        self.tokens = torch.zeros(max(model.n_vocabulary, len(texts)), dtype=torch.bool)
        self.tokens[: len(texts)] = torch.tensor([any(mark in text for mark in stop) for text in texts])
        self.tokens = self.tokens[: model.n_vocabulary]
        self.tokens[list(end_tokens)] = True

    def reached(self, answers: Sequence[Sequence[int]], token: Tensor) -> Tensor:
        """Whether the answers (tokens so far) end with their next token [n]: bool [n], on the CPU."""
        ended = self.tokens[token.cpu()]
        for row in (~ended).nonzero()[:, 0].tolist() if self._longer else ():
            text = self._tokenizer.decode([*answers[row], int(token[row])])
            ended[row] = any(mark in text for mark in self._longer)
        return ended


def read_prompts(
    model: LanguageModel, prompts: Sequence[Prompt], layers: Sequence[int], known: Prefix | None = None
) -> tuple[ReadBatch, Tensor]:
    """A batch of prompts, read up to the first answer token: its rows, and logits [n, n_vocabulary] float32 there.

    States of the rows are at the subject (or the last token, where there is no subject) and at the last token.
    known: what all of them are known to begin with (`shared_prefix`).
    """
    columns = [[_subject_or_last(prompt), len(prompt.tokens) - 1] for prompt in prompts]
    rows = read_rows(model, [prompt.tokens for prompt in prompts], columns, layers, known, keep_cache=True)
    return rows, model.logits(rows.final[:, 1]).float()


def shared_prefix(model: LanguageModel, prompts: Sequence[Prompt], known: Prefix | None = None) -> Prefix:
    """The tokens that all these prompts begin with, short of their subjects, read once. known: an earlier one."""
    most = min(map(_subject_or_last, prompts))
    return read_prefix(model, [prompt.tokens for prompt in prompts], most, known)


def _subject_or_last(prompt: Prompt) -> int:
    return len(prompt.tokens) - 1 if prompt.subject is None else prompt.subject


@torch.inference_mode()
def greedy_answers(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    read: tuple[ReadBatch, Tensor],
    layers: Sequence[int],
    ends: Ends,
    max_new_tokens: int,
    n_candidates: int,
) -> list[GreedyAnswer]:
    """The likeliest token each time, to the end of each answer. read: from `read_prompts`."""
    rows, logits = read
    going = GoingOn(model, rows)
    chosen: list[list[Tensor]] = [[] for _ in prompts]
    logprobs: list[list[Tensor]] = [[] for _ in prompts]
    entropies: list[list[Tensor]] = [[] for _ in prompts]
    token_ids: list[list[int]] = [[] for _ in prompts]
    states = [
        [both[0], both[1]] if prompt.subject is not None else [both[1]]
        for prompt, both in zip(prompts, rows.states.cpu(), strict=True)
    ]
    for step in range(max_new_tokens + 1):
        distribution = logits.log_softmax(-1)
        likeliest = distribution.topk(min(n_candidates, distribution.shape[1]), dim=-1)
        spread = -(distribution.exp() * distribution).sum(-1)
        numbers = going.number.tolist()
        for number, *values in zip(
            numbers, likeliest.indices.cpu(), likeliest.values.cpu(), spread.cpu(), strict=True
        ):
            for kept, value in zip((chosen, logprobs, entropies), values, strict=True):
                kept[number].append(value)
        token = likeliest.indices[:, 0]
        left = ~ends.reached([token_ids[number] for number in numbers], token)
        if step == max_new_tokens or not going.keep(left.to(token.device)):
            break
        token = token[left.to(token.device)]
        final, reached = going.step(token, layers)
        logits = model.logits(final).float()
        for number, one, state in zip(going.number.tolist(), token.tolist(), reached.cpu(), strict=True):
            token_ids[number].append(one)
            states[number].append(state)
    return [
        GreedyAnswer(
            text=model.tokenizer.decode(token_ids[number]).strip(),
            token_ids=token_ids[number],
            tokens=[model.tokenizer.decode([token]) for token in token_ids[number]],
            logprobs=[float(values[0]) for values in logprobs[number]][: len(token_ids[number])],
            entropies=[float(value) for value in entropies[number]][: len(token_ids[number])],
            positions=[SUBJECT] * (prompt.subject is not None) + list(range(len(token_ids[number]) + 1)),
            states=torch.stack(states[number]),
            candidates=torch.stack(chosen[number]),
            candidate_logprobs=torch.stack(logprobs[number]),
        )
        for number, prompt in enumerate(prompts)
    ]


@torch.inference_mode()
def sampled_answers(
    model: LanguageModel,
    read: tuple[ReadBatch, Tensor],
    ends: Ends,
    max_new_tokens: int,
    temperature: float,
    draws: NDArray[np.float64],
) -> list[list[str]]:
    """Texts of answers drawn at a temperature, for each prompt as many as it has draws. read: from `read_prompts`.

    draws: [n_prompts, n_samples, max_new_tokens], uniform in [0, 1); each chooses one token by inversion of the
    cumulative distribution, so that a prompt's samples depend on its own draws only.
    """
    count, n_samples, _ = draws.shape
    rows, logits = read
    logits = logits.repeat_interleave(n_samples, dim=0)
    uniform = torch.from_numpy(draws.reshape(count * n_samples, max_new_tokens)).to(logits.device)
    going = GoingOn(model, rows, copies=n_samples)
    texts: list[list[int]] = [[] for _ in range(count * n_samples)]
    for step in range(max_new_tokens):
        total = (logits / temperature).softmax(-1).double().cumsum(-1)
        wanted = uniform[going.number, step, None] * total[:, -1:]
        token = torch.searchsorted(total, wanted, right=True).clamp(max=total.shape[1] - 1)[:, 0]
        numbers = going.number.tolist()
        left = ~ends.reached([texts[number] for number in numbers], token)
        for number, one, stays in zip(numbers, token.tolist(), left.tolist(), strict=True):
            if stays:
                texts[number].append(one)
        if step == max_new_tokens - 1 or not going.keep(left.to(token.device)):
            break
        logits = model.logits(going.step(token[left.to(token.device)])[0]).float()
    decoded = [model.tokenizer.decode(text).strip() for text in texts]
    return [decoded[start : start + n_samples] for start in range(0, len(decoded), n_samples)]
