"""Which questions must share a fold: connected components over what they have in common.

Two questions are joined when they ask the same text, when they ask about the same subject (all paraphrases of a fact
do), or when they are one fact read both ways: `The capital of Fiji is` and `Suva is the capital of`, where each one's
subject is the other's answer, under any of its names. The third holds between relations only: a relation that is its own inverse (countries that
share a border) would chain all countries into one group. Equal answers alone join nothing, since hundreds of questions
have the answer `United States`; the answer-disjoint split is there for that.

Own questions may name no subject. Two of them are joined when they have a right answer and most words in common, the rarest
word of one among them: `Who wrote Hamlet?` and `Who was the author of Hamlet?`, but not `Is 7 prime?` and `Is 11 prime?`.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ghosttrack.common.errors import LabelError
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.maths.arrays import Ints
from ghosttrack.common.maths.text import SPACELESS, normalise

MOST_WORDS = 0.6
"""Share of the shorter question's words that one which asks the same has in common with it."""
MOST_ALIKE = 50
"""Questions with one answer that share a word, beyond which it tells nothing of them; bounds the pairs that are compared."""


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
    for pair in _paraphrases(answers):
        for row in pair:
            keys[row].append(("paraphrase", *pair))
    return components(keys)


def _paraphrases(answers: Sequence[Answer]) -> Iterator[tuple[int, int]]:
    """Pairs of questions without a subject that ask nearly the same for one answer; time is linear in the questions."""
    words = {
        row: frozenset(SPACELESS.sub(r" \g<0> ", normalise(answer.question)).split())
        for row, answer in enumerate(answers)
        if not answer.subject
    }
    known = Counter(word for said in words.values() for word in said)
    rarest = {row: min(said, key=lambda word: (known[word], word)) for row, said in words.items() if said}
    names = {row: [n for n in _names(answers[row]) if len(n) > 1 or not n.isalpha()] for row in words}
    asked = {(name, word) for row, word in rarest.items() for name in names[row]}
    holding: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, said in words.items():
        for key in product(names[row], said):
            if key in asked:
                holding[key].append(row)
    for one, word in rarest.items():
        for rows in (holding[name, word] for name in names[one]):
            for other in rows if len(rows) <= MOST_ALIKE else ():
                least = MOST_WORDS * min(len(words[one]), len(words[other]))
                if one != other and len(words[one] & words[other]) >= least:
                    yield one, other


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
