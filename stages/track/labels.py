"""Is the model's own answer right? Normalised whole-word match against the gold answer and its aliases.

The definitions are those of the evaluation protocol: label 1 is a wrong answer; an empty answer, an
echo of the subject or a refusal is neither right nor wrong and is excluded by that reason.
"""

import re
import unicodedata
from typing import NamedTuple

REFUSALS = {
    "i do not know", "i dont know", "unknown", "not known", "none", "na", "n a", "not available",
    "i am not sure", "im not sure", "no answer",
}  # fmt: skip


class Judgement(NamedTuple):
    """label: 1 wrong, 0 right, None excluded for the reason in `excluded`. strict: 0/1 by exact match."""

    label: int | None
    strict: int | None
    excluded: str | None


def normalise(text: str) -> str:
    """Lower case without accents, punctuation, articles or doubled spaces (the SQuAD convention)."""
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"['’`]", "", text)
    words = re.sub(r"[^\w\s]|_", " ", text).split()
    return " ".join(word for word in words if word not in ("a", "an", "the")) or " ".join(words)


def judge(answer: str, aliases: list[str], subject: str | None = None) -> Judgement:
    """Compare an answer with the right ones; any alias as a run of whole words in the answer is right."""
    said = normalise(answer)
    if not said:
        return Judgement(None, None, "empty")
    golds = {gold for alias in aliases if (gold := normalise(alias))}
    if any(f" {gold} " in f" {said} " for gold in golds):
        return Judgement(0, int(said not in golds), None)
    if said in REFUSALS:
        return Judgement(None, None, "refusal")
    if subject and said == normalise(subject):
        return Judgement(None, None, "echo")
    return Judgement(1, 1, None)
