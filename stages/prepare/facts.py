"""The record of a fact, and how facts gathered from several places become one clean set. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ghosttrack.stages.prepare.rows import Given
from ghosttrack.stages.prepare.text import ascii_letters, fold


@dataclass(frozen=True)
class Fact:
    """A relation, a subject, the answer, and all right answers (`aliases`, `answer` first).

    question: the question in words, for facts that no sentence of `prompts.TEMPLATES` asks for. given: what else its row
    of a file says.
    """

    relation: str
    subject: str
    answer: str
    aliases: tuple[str, ...]
    question: str | None = None
    given: Given = field(default_factory=Given, hash=False)


def make_fact(relation: str, subject: str, answers: Sequence[str]) -> Fact | None:
    """A fact whose right answers are `answers`, or None when the question would give its answer away.

    An alias is listed once under `fold`, with a plain-letters variant where it has accents.
    """
    aliases: dict[str, None] = {}
    for answer in answers:
        for variant in (answer, ascii_letters(answer)):
            if variant.strip():
                aliases.setdefault(variant.strip())
    if not aliases or _gives_away(subject, aliases):
        return None
    return Fact(relation, subject, next(iter(aliases)), tuple(aliases))


def merge_subjects(
    gathered: Iterable[tuple[str, Sequence[str]]], most_answers: int
) -> list[tuple[str, list[str]]]:
    """Subjects of one relation, the answers of equal ones joined, in order of first sight.

    Subjects are equal when they fold to the same text. A subject with more than `most_answers` distinct
    groups of answers is too ambiguous to ask about and is dropped.
    """
    merged: dict[str, tuple[str, list[Sequence[str]]]] = {}
    for subject, answers in gathered:
        _, groups = merged.setdefault(fold(subject), (subject, []))
        if answers not in groups:
            groups.append(answers)
    return [
        (subject, list(dict.fromkeys(answer for group in groups for answer in group)))
        for subject, groups in merged.values()
        if len(groups) <= most_answers
    ]


def _gives_away(subject: str, aliases: Iterable[str]) -> bool:
    """Whether some accepted answer stands in the subject word for word."""
    words = f" {fold(subject)} "
    return any(f" {fold(alias)} " in words for alias in aliases)
