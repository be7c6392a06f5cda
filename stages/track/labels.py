"""Is the model's own answer right? By the matcher that `data.matching` names, against the right answers of its question.

Label 1 is a wrong answer. An empty answer, an echo of the question or a refusal says nothing that
could be right or wrong and is excluded by that reason; an answer that only repeats the subject ("the
capital of Ghana is Ghana") does say something, and is wrong unless it is right.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.matchers import MATCHERS, Key, applicable, exact

REFUSALS = {
    "i do not know", "i dont know", "unknown", "not known", "none", "na", "n/a", "n a", "not available",
    "i am not sure", "im not sure", "no answer",
}  # fmt: skip


class Judgement(NamedTuple):
    """label: 1 wrong, 0 right, None excluded for the reason in `excluded`. strict: 0/1 by exact match.

    matched: what each matcher that can say something of such an answer says, 1 wrong, 0 right.
    """

    label: int | None
    strict: int | None
    excluded: str | None
    matched: dict[str, int] = {}  # noqa: RUF012  (never written to)


def judge(
    answer: str, aliases: Sequence[str], query: str = "", matching: str = "auto", choices: Sequence[str] = ()
) -> Judgement:
    """Compare an answer with the right ones. matching: a name of `MATCHERS`; choices: the options, where there are any."""
    golds = tuple(alias for alias in aliases if alias.strip())
    said = normalise(answer)
    if not said and not any(gold.strip() == answer.strip() for gold in golds):
        return Judgement(None, None, "empty")
    if not golds:
        return Judgement(None, None, "no_gold_answer")
    key = Key(golds, tuple(choices))
    matched = {name: int(not MATCHERS[name](answer, key)) for name in applicable(golds, choices)}
    if MATCHERS[matching](answer, key):
        return Judgement(0, int(not exact(answer, key)), None, matched)
    if said in REFUSALS:
        return Judgement(None, None, "refusal")
    if (asked := normalise(query)) and said.startswith(asked):
        return Judgement(None, None, "echo")
    return Judgement(1, 1, None, matched)
