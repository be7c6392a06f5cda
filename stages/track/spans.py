"""Labelled stretches of a text as labels of its tokens."""

from collections.abc import Sequence


def token_labels(offsets: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]]) -> list[int | None]:
    """1 for a token that shares a character with a wrong span, 0 with a right one, else None where right spans are marked
    too (nothing is said of it), and 0 where only wrong ones are.

    offsets: characters [start, stop) of each token. spans: [start, end, label], in order, none over another.
    """
    unmarked = None if any(not wrong for _, _, wrong in spans) else 0
    labels: list[int | None] = []
    for first, stop in offsets:
        own = [wrong for start, end, wrong in spans if first < end and start < stop]
        labels.append(max(own) if own else unmarked)
    return labels
