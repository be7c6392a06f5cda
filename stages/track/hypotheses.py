"""Candidate answers of one question and how each stands in each context: rows of contexts.parquet.

Hypothesis 0 is the model's own answer; the greedy answers of the other contexts follow in order. Answers that are one under
normalisation ("Paris", "Paris.") are one hypothesis: its tokens are those met first, its total adds up the probabilities of
all its spellings, each with its end, so that "New" and "New York" are two events and not one within the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ghosttrack.common.maths.text import normalise

Tokens = tuple[int, ...]


@dataclass
class Standing:
    """What is known of a question's spellings in every context: evidence and end by (context, tokens)."""

    own: Tokens
    greedy: list[Tokens | None]  # by context; None where the context does not fit the model
    shown: list[str]  # by context: its worked examples, normalised
    known: dict[tuple[int, Tokens], tuple[float, float]] = field(default_factory=dict)

    def spellings(self) -> list[Tokens]:
        """The own answer first, then each other greedy answer once."""
        return list(dict.fromkeys([self.own, *(tokens for tokens in self.greedy if tokens is not None)]))


def rows_of(
    question: int, standing: Standing, text_of: Callable[[Sequence[int]], str]
) -> list[dict[str, Any]]:
    """Rows of one question, by context and hypothesis."""
    groups: dict[str, list[Tokens]] = {}
    for tokens in standing.spellings():
        groups.setdefault(normalise(text_of(tokens)), []).append(tokens)
    rows = []
    for context, greedy in enumerate(standing.greedy):
        if greedy is None:
            continue
        for number, (name, spellings) in enumerate(groups.items()):
            found = [standing.known[context, tokens] for tokens in spellings]
            rows.append(
                {
                    "question": question,
                    "context": context,
                    "hypothesis": number,
                    "text": text_of(spellings[0]),
                    "evidence": found[0][0],
                    "total": float(np.logaddexp.reduce([evidence + end for evidence, end in found])),
                    "n_tokens": len(spellings[0]),
                    "shows": bool(name) and f" {name} " in f" {standing.shown[context]} ",
                    "greedy": greedy in spellings,
                }
            )
    return rows
