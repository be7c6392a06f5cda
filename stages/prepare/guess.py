"""Which columns of a file of somebody else's hold question, answer and relation, where no name says so: names that people use,
and else what stands in them. A guess is told wherever one is read by, for a person to see and to change: `ghosttrack init` writes it down.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ghosttrack.common.formats.questions import QUESTION_MARKS
from ghosttrack.stages.prepare.layouts import known

QUESTIONS = (
    "question", "prompt", "query", "problem", "question_text", "prompt_text", "instruction", "input", "q", "text",
)  # fmt: skip
ANSWERS = ("answer", "response", "answers", "gold", "target", "reference", "correct_answer", "best_answer", "ground_truth", "label",
           "expected", "solution", "completion", "output", "a")  # fmt: skip
"""Names in the order in which they are looked for, in any case of letters; a space is as an underscore."""
RELATIONS = ("category", "topic", "predicate", "property", "domain", "kategorie", "thema")
"""Names of what questions have in common, where each of its values has rows enough to be one."""
ROWS_OF_RELATION = 8
ASKING = frozenset({"question", "query", "problem", "question_text", "instruction", "q"})
"""Those that name a question, and not a text to go on from."""
MARKS = (*QUESTION_MARKS, ":", "：")
"""Ends of questions and of prompts, in the scripts that have their own."""
_NAMES = re.compile(r"(?:^|[_ -])(?:id|uuid|guid|index|url|source|split)$", re.IGNORECASE)
"""Columns that name a row or where it is from."""
_ASKS = """
who whom whose what which when where why how is are was were do does did can could will would has have had should name list tell
give define explain wer wen wem was welche welcher welches wann wo warum wie qui que quoi quel quelle quand où comment pourquoi
combien quién quiénes qué cuál cuáles cuándo dónde cómo cuánto cuántos quem qual quais quando onde como quanto chi che cosa quale
dove come perché wie wat welk waar кто что какой какая какое когда где почему как сколько
"""
_FIRST_WORDS = frozenset(_ASKS.split())
_OPEN = """
is are was were am be been being has have had of in on at by to from for with into as and or the a an its his her their than that
called named born located became becomes means contains speaks plays uses won wrote invented ist sind war wurde hat der die das
den dem in im von mit zu auf heißt est sont était fut a la le les de du des en à par avec s'appelle es son era fue el los las en
por con se llama é são foi o os da do em por com è sono il lo di del della
"""
_LAST_WORDS = frozenset(_OPEN.split())
"""Words that a question begins with, and words that a sentence does not end with."""
UNFINISHED = 0.7
"""Share of rows."""
OFTEN = 0.3
"""Share of rows."""
TIMES = 3
"""As many other values, or letters, as tell the columns apart that are no answer."""


def guess(records: Sequence[Mapping[str, Any]], needs_answer: bool = True) -> dict[str, str] | None:
    """Our field to the column, {} where the names are ours or a known data set's; None where question or answer cannot be told.

    needs_answer: whether a question alone says nothing; else the answer is one whose name says so, or none.

    Two columns of text are told apart by their ends, and else by their lengths. Of more, the question is the one that asks, and the
    answer the one that is left without those that stand in the question (its subject), have few values (its kind) or go on for
    long (an explanation).
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    if known(names):
        return {}
    relation = {} if "relation" in names else _relation(records, names)
    if {"question", "prompt"} & set(names) and {"answer", "response"} & set(names):
        cloze = "question" in names and "prompt" not in names and unfinished(records, "question")
        return {"prompt": "question", **relation} if cloze else relation
    question, answer = _named(names, QUESTIONS), _named(names, ANSWERS)
    texts = [name for name in names if _is_text(records, name) and not _NAMES.search(name)]
    if question is None or answer is None:
        rest = [name for name in texts if name not in (question, answer, *relation.values())]
        if question is None and answer is None and len(rest) == 2 and needs_answer:
            question, answer = sorted(rest, key=lambda name: _like_a_question(records, name), reverse=True)
        elif question is None:
            question = _only(rest) or _only([name for name in rest if _asks(records, name)])
        if question is not None and answer is None and needs_answer:
            answer = _the_answer(records, question, [name for name in rest if name != question])
    if question is None or (answer is None and needs_answer):
        return None
    asks = (question.lower() in ASKING and not unfinished(records, question)) or _share_ending(
        records, question, QUESTION_MARKS
    ) >= OFTEN
    field = "question" if asks else "prompt"
    return {
        ours: name for ours, name in ((field, question), ("answer", answer)) if name and ours != name
    } | relation


def _relation(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """The column of the relation as `guess` has it, {} where there is none."""
    name = _named(names, RELATIONS)
    values = {record.get(name) for record in records if isinstance(record.get(name), str)} if name else set()
    return {"relation": name} if name and 1 < len(values) <= len(records) / ROWS_OF_RELATION else {}


def unfinished(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a column holds sentences that break off before their last word, such as `The capital of France is`.

    A question without its mark (`who wrote emma`) is none: it begins as a question does, or ends as a sentence may.
    """
    values = [value for record in records if (value := _text(record.get(name)))]
    return sum(map(_breaks_off, values)) >= UNFINISHED * max(len(values), 1)


def _breaks_off(text: str) -> bool:
    words = text.lower().rstrip("_ ").split()
    return len(words) > 1 and words[0] not in _FIRST_WORDS and words[-1].rstrip(":") in _LAST_WORDS


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_name = {re.sub(r"[\s-]+", "_", name.lower().strip()): name for name in names}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _is_text(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether most values are text with a letter in it, or lists of text, and not all the same."""
    values = [value for record in records if (value := _text(record.get(name)))]
    letters = sum(any(map(str.isalpha, value)) for value in values)
    return letters > len(records) / 2 and len(set(values)) > 1


def _text(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first.strip() if isinstance(first, str) else ""


def _like_a_question(records: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """Larger for questions: never lists of texts, ends of sentences that ask, and length."""
    values = [value for record in records if (value := _text(record.get(name)))]
    lists = any(isinstance(record.get(name), list) for record in records)
    return (-1.0 if lists else _share_ending(records, name, MARKS), sum(map(len, values)) / len(values))


def _asks(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return _share_ending(records, name, MARKS) >= OFTEN or unfinished(records, name)


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _the_answer(records: Sequence[Mapping[str, Any]], question: str, names: Sequence[str]) -> str | None:
    """The column of these that can be the answer to the question, where no other can."""
    if len(names) < 2:
        return _only(names)
    asked = [_text(record.get(question)) for record in records]
    texts = {name: [_text(record.get(name)) for record in records] for name in names}
    texts = {
        name: values
        for name, values in texts.items()
        if sum(map(str.__contains__, asked, values)) < UNFINISHED * len(records)
    }
    most = max((len(set(values)) for values in texts.values()), default=0)
    sizes = {name: sum(map(len, values)) for name, values in texts.items() if TIMES * len(set(values)) > most}
    return _only([name for name, size in sizes.items() if size < TIMES * min(sizes.values())])


def _share_ending(records: Sequence[Mapping[str, Any]], name: str, marks: tuple[str, ...]) -> float:
    values = [value for record in records if (value := _text(record.get(name)))]
    return sum(value.endswith(marks) for value in values) / max(len(values), 1)
