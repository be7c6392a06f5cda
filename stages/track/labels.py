"""Is the model's own answer right? Normalised whole-word match against the gold answer and its aliases.

Label 1 is a wrong answer. An empty answer, an echo of the question or a refusal says nothing that
could be right or wrong and is excluded by that reason; an answer that only repeats the subject ("the
capital of Ghana is Ghana") does say something, and is wrong unless it is right.
"""

from typing import NamedTuple

from ghosttrack.common.maths.text import normalise

REFUSALS = {
    "i do not know", "i dont know", "unknown", "not known", "none", "na", "n a", "not available",
    "i am not sure", "im not sure", "no answer",
}  # fmt: skip


class Judgement(NamedTuple):
    """label: 1 wrong, 0 right, None excluded for the reason in `excluded`. strict: 0/1 by exact match."""

    label: int | None
    strict: int | None
    excluded: str | None


def judge(answer: str, aliases: list[str], query: str = "") -> Judgement:
    """Compare an answer with the right ones; any alias as a run of whole words in the answer is right."""
    said = normalise(answer)
    if not said:
        return Judgement(None, None, "empty")
    golds = {gold for alias in aliases if (gold := normalise(alias))}
    if not golds:
        return Judgement(None, None, "no_gold_answer")
    if any(f" {gold} " in f" {said} " for gold in golds):
        return Judgement(0, int(said not in golds), None)
    if said in REFUSALS:
        return Judgement(None, None, "refusal")
    if (asked := normalise(query)) and said.startswith(asked):
        return Judgement(None, None, "echo")
    return Judgement(1, 1, None)
