"""Candidate answers read again in another context: teacher forcing after a shared prefix, no sampling.

The model's own answer is forced first. Where it is also the greedy choice at every token and at its end, that pass is all; a
row that would say something else goes on greedily from there. Further answers are read after the queries' cached keys and
values. How rows are read without padding inside is `ghosttrack.common.models.reading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.reading import GoingOn, Rows, fork, read_prefix, read_rows
from ghosttrack.stages.track.generate import Ends

Tokens = list[int]


class Forced(NamedTuple):
    """Log-probabilities of a continuation: `evidence`, of its tokens; `end`, that a token follows which ends the answer (0
    where the answer was cut off, since nobody asked for its end)."""

    evidence: float
    end: float


class Reader:
    """Reads prompts in one context. limit: tokens of the longest answer."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Tokens], ends: Ends, limit: int) -> None:
        """prompts: what they begin with is read once."""
        self._model, self._ends, self._limit, self._prompts = model, ends, limit, prompts
        self._prefix = read_prefix(model, prompts, min(map(len, prompts)) - 1) if prompts else None
        self._kept: Rows | None = None

    @torch.inference_mode()
    def force(self, answers: Sequence[Tokens]) -> tuple[list[Forced], list[Tokens]]:
        """An answer a prompt: its log-probabilities, and the greedy answer in this context."""
        read = self._read(range(len(self._prompts)), answers, keep_cache=True)
        self._kept = read
        forced, likeliest = self._scores(read.final, answers)
        given: list[Tokens] = []
        going: list[int] = []
        for row, (answer, choices) in enumerate(zip(answers, likeliest, strict=True)):
            said, ended = self._until_other(answer, choices)
            given.append(said)
            if not ended and len(said) < self._limit:
                going.append(row)
        for row, more in self._go_on(read, given, going):
            given[row] = given[row] + more
        return forced, given

    @torch.inference_mode()
    def score(self, answers: Sequence[Sequence[Tokens]]) -> list[list[Forced]]:
        """Log-probabilities of any number of answers to every prompt."""
        owner = [row for row, own in enumerate(answers) for _ in own]
        flat = [list(answer) for own in answers for answer in own]
        if not flat:
            return [[] for _ in answers]
        final = self._after_prompts(owner, flat) if self._model.caches else self._read(owner, flat).final
        found: list[list[Forced]] = [[] for _ in answers]
        for row, one in zip(owner, self._scores(final, flat)[0], strict=True):
            found[row].append(one)
        return found

    def _read(self, rows: Sequence[int], answers: Sequence[Tokens], keep_cache: bool = False) -> Rows:
        """Prompts with an answer behind each; kept are the states that predict its tokens and its end."""
        steps = range(max(map(len, answers)) + 1)
        columns = [
            [len(self._prompts[row]) - 1 + min(step, len(answer)) for step in steps]
            for row, answer in zip(rows, answers, strict=True)
        ]
        whole = [[*self._prompts[row], *answer] for row, answer in zip(rows, answers, strict=True)]
        return read_rows(self._model, whole, columns, (), self._prefix, keep_cache)

    def _after_prompts(self, owner: Sequence[int], answers: Sequence[Tokens]) -> Tensor:
        """The same states, [n, longest + 1, d_model]: every prompt is read once, and its answers after a copy of it."""
        asked = sorted(set(owner)) if self._kept is None else list(range(len(self._prompts)))
        read = self._kept or self._read(asked, [[] for _ in asked], keep_cache=True)
        assert read.cache is not None
        device = self._model.device
        place = {row: number for number, row in enumerate(asked)}
        rows = torch.tensor([place[row] for row in owner], device=device)
        before = read.final[rows, :1]
        longest = max(map(len, answers))
        if not longest:
            return before
        lengths = torch.tensor([len(self._prompts[row]) for row in owner], device=device)
        width = read.cache.get_seq_length()
        gaps = width - lengths  # what was read behind a prompt is moved out
        mask = (torch.arange(width, device=device) >= gaps[:, None]).long()
        mask = torch.cat([mask, mask.new_ones(len(rows), longest)], dim=1)
        ids = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers], device=device)
        positions = lengths[:, None] + torch.arange(longest, device=device)
        final = self._model.run(ids, cache=fork(read.cache, rows, gaps), mask=mask, positions=positions)
        return torch.cat([before, final], dim=1)

    def _scores(self, final: Tensor, answers: Sequence[Tokens]) -> tuple[list[Forced], list[Tokens]]:
        """final: [n, longest + 1, d_model], before each answer's tokens and its end. Also the likeliest tokens there."""
        places = [(row, step) for row, answer in enumerate(answers) for step in range(len(answer) + 1)]
        rows, steps = torch.tensor(places, device=final.device).T
        logprobs = self._model.logits(final[rows, steps]).float().log_softmax(-1)
        end = logprobs[:, self._ends.tokens.to(final.device)].logsumexp(-1).cpu()
        likeliest = logprobs.argmax(-1).cpu().tolist()
        wanted = torch.tensor([token for answer in answers for token in (*answer, 0)], device=final.device)
        own = logprobs.gather(1, wanted[:, None])[:, 0].double().cpu()
        forced, choices, at = [], [], 0
        for answer in answers:
            last = at + len(answer)
            forced.append(
                Forced(float(own[at:last].sum()), float(end[last]) if len(answer) < self._limit else 0.0)
            )
            choices.append(likeliest[at : last + 1])
            at = last + 1
        return forced, choices

    def _until_other(self, answer: Tokens, choices: Tokens) -> tuple[Tokens, bool]:
        """What the model says as long as it follows the answer, with the first token that is another; whether it ended."""
        said: Tokens = []
        for number, token in enumerate(choices):
            if len(said) == self._limit or bool(self._ends.reached([said], torch.tensor([token]))[0]):
                return said, True
            said.append(token)
            if number == len(answer) or token != answer[number]:
                break
        return said, False

    def _go_on(self, read: Rows, given: Sequence[Tokens], going: Sequence[int]) -> list[tuple[int, Tokens]]:
        """The rest of the greedy answers of some rows, whose last token in `given` the model has not read."""
        if not going:
            return []
        rows = [[*self._prompts[row], *given[row][:-1]] for row in going]
        cache = None
        if read.cache is not None:
            cache = fork(read.cache, torch.tensor(list(going), device=self._model.device))
            if beyond := cache.get_seq_length() - max(map(len, rows)):
                cache.crop(-beyond)
        steps = GoingOn(self._model, Rows(rows, cache, read.final[:0], read.states[:0]))
        more: list[Tokens] = [[] for _ in going]
        token = torch.tensor([given[row][-1] for row in going], device=self._model.device)
        while True:
            final, _ = steps.step(token)
            token = self._model.logits(final).float().argmax(-1)
            numbers = steps.number.tolist()
            left = ~self._ends.reached([given[going[n]] + more[n] for n in numbers], token)
            for n, one, stays in zip(numbers, token.tolist(), left.tolist(), strict=True):
                if stays:
                    more[n].append(one)
            for place, n in enumerate(numbers):
                left[place] &= len(given[going[n]]) + len(more[n]) < self._limit
            left = left.to(token.device)
            if not steps.keep(left):
                return list(zip(going, more, strict=True))
            token = token[left]
