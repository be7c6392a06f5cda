"""Labelled stretches of a text as labels of its tokens."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def token_offsets(decode: Callable[[Sequence[int]], str], token_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Characters [start, stop) of each token in the text of all, without spaces around it; half a character is the next token's."""
    text = decode(token_ids)
    before = len(text) - len(text.lstrip())
    ends = [len(decode(token_ids[:count]).rstrip("\ufffd")) for count in range(len(token_ids) + 1)]
    places = [max(end - before, 0) for end in ends]
    return list(itertools.pairwise(places))


def unmarked(questions: Iterable[Mapping[str, Any]]) -> int | None:
    """What the spans of a file say of tokens in none of them: 0 (right) where only wrong ones are marked, None (nothing) where
    right ones are marked too."""
    spans = itertools.chain.from_iterable(question.get("spans") or () for question in questions)
    return None if any(not wrong for _, _, wrong in spans) else 0


def labels_in(
    offsets: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]], elsewhere: int | None
) -> list[int | None]:
    """1 for a token that shares a character with a wrong span, 0 with a right one, else what is said of tokens in no span.

    offsets: characters [start, stop) of each token. spans: [start, end, label], in order, none over another.
    """
    labels: list[int | None] = []
    for first, stop in offsets:
        own = [wrong for start, end, wrong in spans if first < end and start < stop]
        labels.append(max(own) if own else elsewhere)
    return labels


def labels_given(
    offsets: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]], elsewhere: int | None
) -> list[int | None]:
    """The same of the spans that a row gives: an empty list says that every token is right, whatever other rows mark."""
    return labels_in(offsets, spans, elsewhere if spans else 0)
