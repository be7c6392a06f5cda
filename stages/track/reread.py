"""Candidate answers read again in another context: teacher forcing on a tree of texts, no sampling.

Every prompt with its answers behind it is a branch (`ghosttrack.common.models.branching`), so that a token is read once,
however many answers begin with it. What the model would say in a context goes on from where it leaves the answers that
were read, and its log-probabilities are known when it ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from ghosttrack.common.models.branching import Tree
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.reading import Prefix, read_prefix
from ghosttrack.stages.track.generate import Ends

Tokens = list[int]
ROOM = 384
"""Tokens of prompts in one tree, after what all begin with: enough for a forward pass that computes and does not wait for
memory, and few against what each costs, since it is held against all columns."""
ROWS = 256
"""Distributions over the vocabulary that are in memory together."""


class Forced(NamedTuple):
    """Log-probabilities of a continuation: `evidence`, of its tokens; `end`, that a token follows which ends the answer (0
    where the answer was cut off, since nobody asked for its end)."""

    evidence: float
    end: float


@dataclasses.dataclass
class _Next:
    """What may follow a node. said: log-probability by token; end: of all tokens that end the answer."""

    likeliest: int
    end: float
    said: dict[int, float]


class ContextReader:
    """Reads prompts in one context. limit: tokens of the longest answer."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Tokens], ends: Ends, limit: int) -> None:
        """prompts: what they begin with is read once."""
        self._model, self._ends, self._limit = model, ends, limit
        self._trees: list[Tree] = []
        self._tree: list[int] = []
        prefix = read_prefix(model, prompts, min(map(len, prompts)) - 1) if prompts else Prefix([], None)
        self._prompts = [list(prompt[len(prefix.tokens) :]) for prompt in prompts]
        room = 0
        for prompt in self._prompts:
            if not self._trees or len(prompt) > room:
                self._trees.append(Tree(model, prefix))
                room = ROOM
            room -= len(prompt)
            self._tree.append(len(self._trees) - 1)
        self._next: list[dict[int, _Next]] = [{} for _ in self._trees]

    def force(self, answers: Sequence[Tokens]) -> tuple[list[Forced], list[Tokens]]:
        """An answer a prompt: its log-probabilities, and the greedy answer in this context."""
        forced = [one for [one] in self.score([[answer] for answer in answers])]
        said: list[Tokens] = [[] for _ in answers]
        going = list(range(len(answers)))
        while going:
            self._look([(row, said[row]) for row in going])
            going = [row for row in going if self._follow(row, said[row])]
        return forced, said

    def score(self, answers: Sequence[Sequence[Tokens]]) -> list[list[Forced]]:
        """Log-probabilities of any number of answers to every prompt."""
        asked = [(row, list(answer)) for row, own in enumerate(answers) for answer in own]
        found: list[list[Forced]] = [[] for _ in answers]
        for (row, answer), path in zip(asked, self._look(asked), strict=True):
            after = self._next[self._tree[row]]
            evidence = sum(after[node].said[token] for node, token in zip(path, answer, strict=False))
            found[row].append(Forced(evidence, after[path[-1]].end if len(answer) < self._limit else 0.0))
        return found

    def _follow(self, row: int, said: Tokens) -> bool:
        """Go on with what is known to be likeliest; whether more has to be read."""
        tree, after = self._trees[self._tree[row]], self._next[self._tree[row]]
        while (node := tree.node(self._prompts[row] + said)) in after:
            token = after[node].likeliest
            if bool(self._ends.reached([said], torch.tensor([token]))[0]):
                return False
            said.append(token)
            if len(said) == self._limit:
                return False
        return True

    def _look(self, asked: Sequence[tuple[int, Tokens]]) -> list[list[int]]:
        """Read answers to prompts, and what may follow them: of each the nodes before its tokens and its end."""
        paths: list[list[int]] = [[] for _ in asked]
        for number, tree in enumerate(self._trees):
            mine = [place for place, (row, _) in enumerate(asked) if self._tree[row] == number]
            texts = [self._prompts[asked[place][0]] + self._before_last(asked[place][1]) for place in mine]
            wanted: dict[int, set[int]] = {}
            for place, path in zip(mine, tree.read(texts), strict=True):
                row, answer = asked[place]
                paths[place] = path[len(self._prompts[row]) - 1 :]
                for step, node in enumerate(paths[place]):
                    wanted.setdefault(node, set()).update(answer[step : step + 1])
            self._see(number, wanted)
        return paths

    def _before_last(self, answer: Tokens) -> Tokens:
        """The tokens of an answer behind which something is looked for: its last, unless it was cut off there."""
        return answer if len(answer) < self._limit else answer[:-1]

    @torch.inference_mode()
    def _see(self, number: int, wanted: Mapping[int, set[int]]) -> None:
        """What follows nodes of a tree: log-probabilities of these tokens by node."""
        after, final = self._next[number], self._trees[number].final
        nodes = [
            node for node, tokens in wanted.items() if node not in after or tokens - after[node].said.keys()
        ]
        ends = self._ends.tokens.nonzero()[:, 0].to(self._model.device)
        for start in range(0, len(nodes), ROWS):
            some = nodes[start : start + ROWS]
            logits = self._model.logits(torch.stack([final[node] for node in some])).float()
            total = logits.logsumexp(-1)
            likeliest = logits.argmax(-1).tolist()
            end = (logits[:, ends].logsumexp(-1) - total).tolist()
            pairs = [
                (row, token) for row, node in enumerate(some) for token in {*wanted[node], likeliest[row]}
            ]
            rows, tokens = torch.tensor(pairs, device=logits.device).T
            said = (logits[rows, tokens] - total[rows]).tolist()
            for node, first, last in zip(some, likeliest, end, strict=True):
                known = after[node].said if node in after else {}
                after[node] = _Next(first, last, known)
            for (row, token), value in zip(pairs, said, strict=True):
                after[some[row]].said[token] = value
