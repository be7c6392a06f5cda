"""Which questions must share a fold: connected components over what they have in common.

Two questions are joined when they ask the same text, when they ask about the same subject (all paraphrases of a fact
do), or when they are one fact read both ways: `The capital of Fiji is` and `Suva is the capital of`, where each one's
subject is the other's answer, under any of its names. The third holds between relations only: a relation that is its own inverse (countries that
share a border) would chain all countries into one group. Equal answers alone join nothing, since hundreds of questions
have the answer `United States`; the answer-disjoint split is there for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ghosttrack.common.errors import LabelError
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.maths.text import normalise

Ints = NDArray[np.int64]


def question_groups(answers: Sequence[Answer]) -> Ints:
    """Number of each question's group, [n], in order of first sight."""
    subjects = [normalise(answer.subject) for answer in answers]
    asking: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (subject, answer) in enumerate(zip(subjects, answers, strict=True)):
        for name in _names(answer):
            asking[subject, name].append(row)
    keys: list[list[Hashable]] = []
    for row, (subject, answer) in enumerate(zip(subjects, answers, strict=True)):
        shared: list[Hashable] = [("group", answer.group), ("question", normalise(answer.question))]
        if subject:
            shared.append(("subject", subject))
        for name in _names(answer):
            for other in asking.get((name, subject), []):
                if answers[other].relation != answer.relation:
                    shared.append(("fact", min(row, other), max(row, other)))
        keys.append(shared)
    return components(keys)


def _names(answer: Answer) -> set[str]:
    """The right answer's names, normalised."""
    return {normalise(name) for name in (answer.gold, *answer.aliases)} - {""}


def components(keys: Iterable[Iterable[Hashable]]) -> Ints:
    """Connected components of rows that share a key, numbered in order of first sight."""
    numbers: dict[Hashable, int] = {}
    pairs = [
        (row, numbers.setdefault(key, len(numbers))) for row, shared in enumerate(keys) for key in shared
    ]
    rows, own = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    count = int(rows.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(rows)), (rows, count + own)), shape=(count + len(numbers),) * 2)
    labels = connected_components(graph, directed=False)[1][:count]
    return np.asarray(pd.factorize(labels)[0], dtype=np.int64)


def refuse_conflicts(answers: Sequence[Answer]) -> None:
    """Raises LabelError if one question got one answer twice that counts once as right and once as wrong."""
    seen: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        if answer.label is None:
            continue
        other = seen.setdefault((normalise(answer.question), normalise(answer.answer)), answer)
        if other.label != answer.label:
            raise LabelError(
                f"questions {other.id!r} and {answer.id!r} ask the same, but the answer {answer.answer!r} is "
                f"labelled {other.label} in one and {answer.label} in the other; give both the same right answers "
                "(aliases) or remove one"
            )
