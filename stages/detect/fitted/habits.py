"""What training questions say of a relation and of an answer: how often it is given, how often wrong, how expected it is.

A model that falls back on a habit gives the same answer to many questions of a relation. Counted on training rows alone;
an answer that was never seen there has the overall share. What compares with a relation's own questions is missing (NaN)
where the relation was not seen, and counts as the mean. Pointwise mutual information between subject and answer (Church and
Hanks 1990) is the answer's log-probability less that of its mean probability over the relation's questions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.stages.detect.evidence import AnsweredQuestion
from ghosttrack.stages.detect.protocol.folds import by_other_folds

NAMES = ("relation_wrong", "answer_wrong", "answer_wrong_in_relation", "answer_share", "surprise", "prior_rank",
         "subject_lead")  # fmt: skip
STRENGTH = 3.0
"""Rows that the share one level up counts as much as."""
_UNSEEN = 1e-5  # mean probability of a token that is among no training question's candidates


@dataclass(frozen=True)
class Habits:
    """Counts of training rows: [rows, wrong ones] by key; chances: relation → token → mean probability."""

    wrong: float
    by_relation: dict[str, list[float]]
    by_answer: dict[str, list[float]]
    by_both: dict[str, list[float]]
    chances: dict[str, dict[str, float]]

    def columns(self, asked: Sequence[AnsweredQuestion], tokens: Ints, logprobs: Floats) -> Floats:
        """[n, len(NAMES)]; tokens, logprobs: [n, m] candidates for the first answer token."""
        values = np.zeros((len(asked), len(NAMES)))
        for row, item in enumerate(asked):
            relation = self._share(self.by_relation.get(item.relation), self.wrong)
            answer = self._share(self.by_answer.get(item.said), self.wrong)
            both = self.by_both.get(_pair(item), [0.0, 0.0])
            known = self.by_relation.get(item.relation)
            chances = self.chances.get(item.relation, {})
            prior = np.log([chances.get(str(token), 0.0) + _UNSEEN for token in tokens[row].tolist()])
            gain = logprobs[row] - prior
            values[row] = (
                _log_odds(relation),
                _log_odds(answer),
                _log_odds(self._share(both, relation)),
                np.log((both[0] + 0.1) / (known[0] + 1.0)) if known else np.nan,
                gain[0] if known else np.nan,
                float((prior > prior[0]).sum()) if known else np.nan,
                gain[0] - np.max(gain[1:], initial=gain[0] - 20.0) if known else np.nan,
            )
        return values

    @staticmethod
    def _share(count: list[float] | None, above: float) -> float:
        rows, wrong = count or (0.0, 0.0)
        return (wrong + STRENGTH * above) / (rows + STRENGTH)


def count_habits(asked: Sequence[AnsweredQuestion], tokens: Ints, logprobs: Floats, labels: Floats) -> Habits:
    """Counts of these rows; labels: [n] 1 wrong."""
    tables: list[defaultdict[str, list[float]]] = [defaultdict(lambda: [0.0, 0.0]) for _ in range(3)]
    chances: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for item, own_tokens, own_logprobs, label in zip(asked, tokens.tolist(), logprobs, labels, strict=True):
        for table, key in zip(tables, (item.relation, item.said, _pair(item)), strict=True):
            table[key][0] += 1
            table[key][1] += float(label)
        for token, chance in zip(own_tokens, np.exp(own_logprobs).tolist(), strict=True):
            chances[item.relation][str(token)] += chance
    sizes = {relation: count[0] for relation, count in tables[0].items()}
    return Habits(
        float(labels.mean()), dict(tables[0]), dict(tables[1]), dict(tables[2]),
        {r: {token: total / sizes[r] for token, total in found.items()} for r, found in chances.items()},
    )  # fmt: skip


def fit_habits(
    asked: Sequence[AnsweredQuestion], tokens: Ints, logprobs: Floats, labels: Floats, inner: Ints
) -> tuple[Habits, Floats]:
    """Counts of all rows, and [n, len(NAMES)] columns of each row from the rows of the other inner folds."""

    def columns(rest: Ints, own: Ints) -> Floats:
        habits = count_habits([asked[row] for row in rest], tokens[rest], logprobs[rest], labels[rest])
        return habits.columns([asked[row] for row in own], tokens[own], logprobs[own])

    return count_habits(asked, tokens, logprobs, labels), by_other_folds(inner, columns)


def _pair(item: AnsweredQuestion) -> str:
    return f"{item.relation}\t{item.said}"


def _log_odds(share: float) -> float:
    return float(np.log((share + 1e-3) / (1 - share + 1e-3)))
