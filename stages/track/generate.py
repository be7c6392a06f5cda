"""Greedy answers with token logprobs, samples beside them, and the residual stream at the positions that are tracked.

What the prompts of a batch begin with in common is read once (`ghosttrack.common.models.reading`), and so is what answers of one
prompt begin with (`ghosttrack.common.models.going_on`), so that each question costs only its own tokens.

Positions: SUBJECT (-1) is the subject's last token in the query, 0 the last prompt token, 1… the answer's tokens.
Position p ≥ 0 predicts answer token p + 1; the subject's token is read against the first answer token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.models.going_on import GoingOn
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import Prompt
from ghosttrack.common.models.reading import Prefix, ReadBatch, read_prefix, read_rows
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

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        token_ids: list[int],
        states: Tensor,
        candidates: Tensor,
        candidate_logprobs: Tensor,
        entropies: Tensor,
    ) -> "GreedyAnswer":
        """states: the subject's first, where there is one; entropies: [n + 1]."""
        n, decode = len(token_ids), model.tokenizer.decode
        return cls(
            decode(token_ids).strip(), token_ids, [decode([token]) for token in token_ids],
            candidate_logprobs[:n, 0].tolist(), entropies[:n].tolist(), list(range(n + 1 - len(states), n + 1)),
            states, candidates, candidate_logprobs,
        )  # fmt: skip


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


class Sampling(NamedTuple):
    """Answers drawn at a temperature. draws: [n_prompts, n_samples, max_new_tokens], uniform in [0, 1); each chooses one token by
    inversion of the cumulative distribution, so that a prompt's samples depend on its own draws only."""

    temperature: float
    draws: NDArray[np.float64]


@torch.inference_mode()
def give_answers(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    read: tuple[ReadBatch, Tensor],
    layers: Sequence[int],
    ends: Ends,
    max_new_tokens: int,
    n_candidates: int,
    sampling: Sampling | None = None,
) -> tuple[list[GreedyAnswer], list[list[str]]]:
    """The greedy answer of each prompt, and the texts of its samples. read: from `read_prompts`.

    Answers of a prompt are one text until they part: as many tokens are read as there are different beginnings.
    """
    rows, logits = read
    temperature, draws = sampling or Sampling(1.0, np.empty((len(prompts), 0, max_new_tokens)))
    n, n_samples, most = draws.shape
    uniform = torch.from_numpy(draws.reshape(n * n_samples, most))
    # The first n answers are the greedy ones; `text` is which of the texts that go on each of those left stands behind.
    answer = torch.arange(n + n * n_samples)
    text = torch.cat([torch.arange(n), torch.arange(n).repeat_interleave(n_samples)])
    going = GoingOn(model, rows)
    token_ids: list[list[int]] = [[] for _ in answer]
    chosen: list[list[Tensor]] = [[] for _ in prompts]
    logprobs: list[list[Tensor]] = [[] for _ in prompts]
    entropies: list[list[Tensor]] = [[] for _ in prompts]
    states = [
        [both[0], both[1]] if prompt.subject is not None else [both[1]]
        for prompt, both in zip(prompts, rows.states.cpu(), strict=True)
    ]
    for step in range(max_new_tokens + 1):
        greedy = answer < n
        token = torch.empty_like(answer)
        if bool(greedy.any()):
            distribution = logits[text[greedy].to(logits.device)].log_softmax(-1)
            likeliest = distribution.topk(min(n_candidates, distribution.shape[1]), dim=-1)
            spread = -(distribution.exp() * distribution).sum(-1)
            token[greedy] = likeliest.indices[:, 0].cpu()
            found = zip(likeliest.indices.cpu(), likeliest.values.cpu(), spread.cpu(), strict=True)
            for number, values in zip(answer[greedy].tolist(), found, strict=True):
                for kept, value in zip((chosen, logprobs, entropies), values, strict=True):
                    kept[number].append(value)
        if not bool(greedy.all()):
            token[~greedy] = _drawn(logits / temperature, text[~greedy], uniform[answer[~greedy] - n, step])
        left = ~ends.reached([token_ids[number] for number in answer.tolist()], token)
        left &= step < max_new_tokens
        for number, one in zip(answer[left].tolist(), token[left].tolist(), strict=True):
            token_ids[number].append(one)
        if step == max_new_tokens - 1:
            left &= greedy  # what follows the last token is read of them alone
        if not bool(left.any()):
            break
        answer, greedy = answer[left], greedy[left]
        going_on, text = torch.stack([text[left], token[left]]).unique(dim=1, return_inverse=True)
        final, reached = going.step(going_on[1], going_on[0], layers if bool(greedy.any()) else ())
        logits = model.logits(final).float()
        for number, state in zip(
            answer[greedy].tolist(), reached[text[greedy].to(reached.device)].cpu(), strict=True
        ):
            states[number].append(state)
    greedy_answers = [
        GreedyAnswer.of(model, tokens, *(torch.stack(each) for each in own))
        for tokens, *own in zip(token_ids[:n], states, chosen, logprobs, entropies, strict=True)
    ]
    samples = [model.tokenizer.decode(tokens).strip() for tokens in token_ids[n:]]
    return greedy_answers, [samples[n_samples * row : n_samples * (row + 1)] for row in range(n)]


def _drawn(logits: Tensor, text: Tensor, uniform: Tensor) -> Tensor:
    """A token for each answer from the distribution of its text: int64 [n_answers], on the CPU.

    logits: [n_texts, n_vocabulary]; text: int64 [n_answers]; uniform: [n_answers], in [0, 1).
    """
    own, line = text.unique(return_inverse=True)
    total = logits[own.to(logits.device)].softmax(-1).double().cumsum(-1)
    place = (line[:, None] == line).tril(-1).sum(-1)  # of an answer among those of its text
    wanted = total.new_zeros(len(own), int(place.max()) + 1)
    wanted[line, place] = uniform.to(total.device)
    found = torch.searchsorted(total, wanted * total[:, -1:], right=True).clamp(max=total.shape[1] - 1)
    return found[line, place].cpu()
