"""Is an answer right? By the matcher that `data.matching` names, against the right answers of its question, by the label that
its row has, or by a judge's verdict.

Label 1 is a wrong answer. An empty answer, an echo of the question or a refusal says nothing that
could be right or wrong and is excluded by that reason; an answer that only repeats the subject ("the
capital of Ghana is Ghana") does say something, and is wrong unless it is right.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.choices import pole, restated
from ghosttrack.stages.track.matching.corrections import corrected
from ghosttrack.stages.track.matching.matchers import MATCHERS, Key, applicable, auto, exact
from ghosttrack.stages.track.matching.people import asks_who
from ghosttrack.stages.track.matching.refusals import refuses
from ghosttrack.stages.track.matching.words import table

_ASIDE = re.compile(r"(?:\A|<think(?:ing)?>).*?</think(?:ing)?>|<think(?:ing)?>.*|~~[^~\n]+~~", re.DOTALL)
"""What an answer thinks before it answers (the prompt may have opened it, and the answer may end in it), or strikes out."""
_NOTHING = re.compile(r"[-/\\*#\s]*")
"""Of a normalised answer: dashes, slashes and marks of Markdown, and nothing else."""
_NEXT_QUESTION = re.compile(
    r"(?<=\S)\s*\n\s*(?:(?:Q|Question|User|Human)(?: \d+)?|Explanation|Note|Reason):"
    r"|(?<=\S)\s+(?:Q|Question):(?=[^\n]{1,400}\s(?:A|Answer):)"
)
"""Where a model goes on with a question of its own, or explains what it said."""

_OR_WHERE_ASKED = [
    (word, re.compile(question))
    for one in table("languages").values()
    for word, question in one.get("or_where_asked", {}).items()
]

LABEL, JUDGE = "label", "judge"
"""Values of `data.matching` that no text decides: the file's own label, a model's verdict."""


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
    """Compare an answer with the right ones. choices: the options, where there are any.

    matching: a value of `data.matching`; what no text can tell (`label`, `judge`) is by `auto` here.
    """
    golds = tuple(alias for alias in aliases if alias.strip())
    for word, question in _OR_WHERE_ASKED:
        if question.search(query) and not any(f" {word} " in gold for gold in golds):
            answer = answer.replace(f" {word} ", " or ")
    answer = corrected(_NEXT_QUESTION.split(_ASIDE.sub("", answer), maxsplit=1)[0])
    if any(pole(gold) is not None for gold in golds):
        answer = restated(answer, query)
    said = normalise(answer)
    signs = bool(answer.strip()) and any(not any(map(str.isalnum, gold)) for gold in golds)
    if _NOTHING.fullmatch(said) and not signs:
        return Judgement(None, None, "empty")
    if not golds:
        return Judgement(None, None, "refusal" if refuses(answer) else "no_gold_answer")
    key = Key(golds, tuple(choices), asks_who(query))
    matched = {name: int(not MATCHERS[name](answer, key)) for name in ("auto", *applicable(golds, choices))}
    if not matched[matching] if matching in matched else MATCHERS.get(matching, auto)(answer, key):
        return Judgement(0, int(not exact(answer, key)), None, matched)
    if refuses(answer):
        return Judgement(None, None, "refusal")
    if (asked := normalise(query)) and said.startswith(asked):
        return Judgement(None, None, "echo")
    return Judgement(1, 1, None, matched)


def with_label(judgement: Judgement, label: int | None, matching: str, given: bool) -> Judgement:
    """The judgement where the row of the file may have a label of its own.

    The label decides under `label`, and of a given answer under `auto` or where nothing else could say what is right.
    """
    if label is not None:
        judgement = judgement._replace(matched={**judgement.matched, LABEL: label})
    if label is None and matching == LABEL:
        return Judgement(None, None, "no_label", judgement.matched)
    untold = judgement.excluded in ("no_gold_answer", "refusal")
    decides = matching == LABEL or (given and (matching == "auto" or untold))
    return Judgement(label, label, None, judgement.matched) if label is not None and decides else judgement


def with_verdict(judgement: Judgement, verdict: bool | None) -> Judgement:
    """The judgement by what the judge says of the answer; one that says neither yes nor no leaves it out."""
    if verdict is None:
        return Judgement(None, None, "no_verdict", judgement.matched)
    label = int(not verdict)
    return Judgement(label, judgement.strict, None, {**judgement.matched, JUDGE: label})
