"""Candidate answers read again in other contexts: teacher forcing on trees of texts, no sampling.

Every prompt with its answers behind it is a branch (`ghosttrack.common.models.branching`), so that a token is read once,
however many answers begin with it, and all contexts are read together. What the model would say in a context goes on from
where it leaves the answers that were read, and its log-probabilities are known when it ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from ghosttrack.common.models.branching import Tree, read, read_prefixes
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.stages.track.generate import Ends

Tokens = list[int]
ROOM = 192
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
    """Reads prompts in their contexts. limit: tokens of the longest answer."""

    def __init__(
        self, model: LanguageModel, contexts: Sequence[Sequence[Tokens]], ends: Ends, limit: int
    ) -> None:
        """contexts: of each the prompts in it, numbered through; what those of one begin with is read once."""
        self._model, self._ends, self._limit = model, ends, limit
        self._trees: list[Tree] = []
        self._tree: list[int] = []
        self._prompts: list[Tokens] = []
        filled = [prompts for prompts in contexts if prompts]
        for prompts, prefix in zip(filled, read_prefixes(model, filled), strict=True):
            room = 0
            for number, prompt in enumerate(prompts):
                own = list(prompt[len(prefix.tokens) :])
                if not number or len(own) > room:
                    self._trees.append(Tree(model, prefix))
                    room = ROOM
                room -= len(own)
                self._prompts.append(own)
                self._tree.append(len(self._trees) - 1)
        self._next: list[dict[int, _Next]] = [{} for _ in self._trees]

    def greedy(self, guesses: Mapping[int, Tokens]) -> dict[int, Tokens]:
        """What the model says after these prompts.

        guesses: by number of the prompt, what it may be. They are read at once, and where they are right a step each is saved.
        """
        self._look([(row, list(guess)) for row, guess in guesses.items()])
        said: dict[int, Tokens] = {row: [] for row in guesses}
        going = list(said)  # one at its limit has left: it is not looked at again
        while going := [row for row in going if self._follow(row, said[row])]:
            self._look([(row, said[row]) for row in going])
        return said

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
        paths = []
        wanted: list[dict[int, set[int]]] = [{} for _ in self._trees]
        for row, answer in asked:
            tree, prompt = self._tree[row], self._prompts[row]
            # Nothing is looked for behind the last token of an answer that was cut off there.
            behind = answer if len(answer) < self._limit else answer[:-1]
            [path] = self._trees[tree].add([prompt + behind])
            paths.append(path[len(prompt) - 1 :])
            for step, node in enumerate(paths[-1]):
                wanted[tree].setdefault(node, set()).update(answer[step : step + 1])
        read(self._trees)
        self._see(wanted)
        return paths

    @torch.inference_mode()
    def _see(self, wanted: Sequence[Mapping[int, set[int]]]) -> None:
        """What follows nodes: log-probabilities of these tokens, by tree and node."""
        nodes = [
            (tree, node, tokens)
            for tree, mine in enumerate(wanted)
            for node, tokens in mine.items()
            if (known := self._next[tree].get(node)) is None or tokens - known.said.keys()
        ]
        ends = self._ends.tokens.nonzero()[:, 0].to(self._model.device)
        for start in range(0, len(nodes), ROWS):
            some = nodes[start : start + ROWS]
            logits = self._model.logits(
                torch.stack([self._trees[tree].final[node] for tree, node, _ in some])
            ).float()
            total = logits.logsumexp(-1)
            likeliest = logits.argmax(-1).tolist()
            end = (logits[:, ends].logsumexp(-1) - total).tolist()
            pairs = [
                (row, token) for row, (_, _, tokens) in enumerate(some) for token in {*tokens, likeliest[row]}
            ]
            rows, columns = torch.tensor(pairs, device=logits.device).T
            said = (logits[rows, columns] - total[rows]).tolist()
            for (tree, node, _), first, last in zip(some, likeliest, end, strict=True):
                known = self._next[tree].get(node)
                self._next[tree][node] = _Next(first, last, known.said if known else {})
            for (row, token), value in zip(pairs, said, strict=True):
                tree, node, _ = some[row]
                self._next[tree][node].said[token] = value
