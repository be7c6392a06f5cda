"""A row of a question file, checked: our fields from its columns, and for what reason a row is left out."""

import itertools
import math
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ghosttrack.stages.prepare.cells import of_cell
from ghosttrack.stages.prepare.files import shown

FIELDS = ("id", "question", "prompt", "passage", "choices", "answer", "aliases", "relation", "subject", "response", "label",
          "spans")  # fmt: skip
DEFAULT_RELATION = "all"
_WORKED_OUT = re.compile(r"(?:^|\n)####\s*(\S.*)$")  # GSM8K's answers are worked out before it
DEEPEST = 64
"""Levels of a value that a row gives."""
LETTERS = string.ascii_uppercase
BEHIND = "no such option"
"""The reason for a right option whose number is the number of options, as it is where they are counted from 1."""
MASK_INSIDE = "goes on after its mask"
"""The reason for a sentence whose masked word is not its last."""
LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "": None}
"""Labels as tables hold them, in small letters."""

Span = tuple[int, int, int]


class RowError(Exception):
    """A row that is left out. reason: for the count; the message says what is wrong and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Given:
    """What a row of a file gives besides question and answer.

    passage: read before the question. choices: options to choose from. response: an answer to read instead of one that the
    model gives, with its label (1 wrong, 0 right) or labelled spans [start, end, label] in characters of it. row: number
    in the source, from 1. extra: the columns that are not ours. facts: what is known of the subject, relation to all right
    answers, by which the claims of a long answer are judged.
    """

    id: str | None = None
    row: int | None = None
    passage: str | None = None
    choices: tuple[str, ...] = ()
    response: str | None = None
    label: int | None = None
    spans: tuple[Span, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def disagrees(self) -> bool:
        """Whether the label of the answer is not what its marked parts say: wrong where one of them is."""
        marked = self.spans is not None and self.label is not None
        return marked and self.label != int(any(wrong for _, _, wrong in self.spans or ()))


@dataclass(frozen=True)
class Row:
    """A checked row; the subject of a prompt of several lines is not guessed.

    text: the question, or the prompt as it is asked. aliases: all right answers, the first in front; may be empty."""

    text: str
    is_question: bool
    aliases: tuple[str, ...]
    relation: str
    subject: str
    given: Given

    @property
    def answer(self) -> str:
        """Empty where none is known."""
        return next(iter(self.aliases), "")


def check(record: Mapping[str, Any], number: int, extra: Mapping[str, Any], needs_answer: bool = True) -> Row:
    """A row of our fields. Raises RowError."""
    row = {name: _clean(value, name) for name, value in record.items()}
    text, is_question = _asked(row)
    choices = _texts(row, "choices")
    aliases = _answers(row, choices)
    response = _text(row, "response")
    if isinstance(row.get("response"), str) and not row["response"].strip():
        raise RowError("empty response", "'response' is empty; leave it out to have the model answer")
    label, spans = _label(row), _spans(row, response)
    if needs_answer and not aliases and (response is None or (label is None and spans is None)):
        said = (
            "'answer' is not given" if response is None else "'response' needs 'label', 'spans' or 'answer'"
        )
        raise RowError("no answer", said)
    given = Given(
        id=_name(row, "id"), row=number, passage=_text(row, "passage"), choices=choices, response=response, label=label,
        spans=spans, extra={_clean(name, name): _clean(value, name) for name, value in extra.items()},
    )  # fmt: skip
    subject = _name(row, "subject") or (text if is_question or "\n" not in text.strip() else "")
    return Row(text, is_question, aliases, _name(row, "relation") or DEFAULT_RELATION, subject, given)


def _clean(value: Any, name: str, depth: int = 0) -> Any:
    """NaN and infinities are nothing, 1912.0 is 1912, arrays are lists; no text has half a character."""
    if depth > DEEPEST:
        raise RowError("not readable", f"{name!r} is nested more than {DEEPEST} deep")
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, bytes):  # texts in files that do not say so of their columns
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            if name in FIELDS:
                raise RowError(
                    "broken text", f"{name!r} holds bytes that are no UTF-8 text: {error}"
                ) from error
            return value.hex()
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            if "\udc80" <= (half := value[error.start]) <= "\udcff":  # as `files` reads what is no UTF-8
                byte = f"{name!r} has the byte {ord(half) - 0xDC00:#x} at character {error.start}"
                raise RowError("broken text", f"{byte}, which is no UTF-8; save the file as UTF-8") from error
            raise RowError(
                "broken text",
                f"{name!r} has half of a surrogate pair ({value[error.start]!a}) at character {error.start}, which is no "
                "text; write the whole character",
            ) from error
        return value
    if isinstance(value, Mapping):
        return {_clean(key, name): _clean(one, name, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(one, name, depth + 1) for one in value]
    if hasattr(value, "isoformat"):
        return value.isoformat().removesuffix("T00:00:00")
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else None
    return value


def _asked(row: Mapping[str, Any]) -> tuple[str, bool]:
    """The text of `question` or `prompt`, and whether it is a question."""
    for name in ("question", "prompt"):
        if row.get(name) is not None and not isinstance(row[name], str):
            raise RowError("no question", f"{name!r} must be a text, not {shown(row[name])}")
    question, prompt = _stripped(row.get("question")), _stripped(row.get("prompt"))
    if bool(question) == bool(prompt):
        raise RowError("no question", "give exactly one of 'question' and 'prompt', and not empty")
    return (question.lstrip(), True) if question else (prompt or "", False)


def _stripped(text: str | None) -> str | None:
    """None for a text in which nothing is to be seen."""
    seen = any(unicodedata.category(character)[0] not in "CZ" for character in text or "")
    return text.rstrip(" ") if text and seen else None


def _answers(row: Mapping[str, Any], choices: Sequence[str]) -> tuple[str, ...]:
    """All right answers; an option's letter comes before its text. () where none is given."""
    answer, aliases = _listed(row.get("answer")), _listed(row.get("aliases"))
    if isinstance(answer, list):
        answer, aliases = (answer or [None])[0], [*answer, *(aliases or [])]
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return ()
    if choices:
        place = _option(answer, choices, row["choices"])
        return tuple(dict.fromkeys((LETTERS[place], choices[place])))
    if isinstance(answer, bool):
        return ("Yes", "True") if answer else ("No", "False")
    if isinstance(answer, (int, float)):
        answer = _number(answer)
    if isinstance(answer, str) and (worked := _WORKED_OUT.search(answer.rstrip())):
        answer = worked[1].replace(",", "")
    if not isinstance(answer, str) or not answer.strip():
        inside = (
            "; name a part of it with data.columns, as in answer: answer.value"
            if isinstance(answer, Mapping)
            else ""
        )
        raise RowError("no answer", f"'answer' must be a text, not {shown(row.get('answer'))}{inside}")
    others = [] if aliases is None else aliases
    if not isinstance(others, list):
        raise RowError("bad aliases", f"'aliases' must be a list of texts, not {shown(aliases)}")
    texts = [_number(one) if isinstance(one, (int, float)) else one for one in others if one is not None]
    if not all(isinstance(one, str) for one in texts):
        raise RowError("bad aliases", f"'aliases' must be a list of texts, not {shown(aliases)}")
    lines = [" ".join(one.split()) for one in (answer, *texts)]
    return tuple(dict.fromkeys(line for line in lines if line))


def _listed(value: Any) -> Any:
    """A list of texts that is written as one text, as tables hold lists."""
    found = of_cell("", value)
    return (
        found if isinstance(found, list) and found and all(isinstance(one, str) for one in found) else value
    )


def _option(answer: Any, choices: Sequence[str], given: Any) -> int:
    """The place of the right option: from 0, by letter, or by its text. given: the choices as the row has them, among which
    a number is the option itself. Raises RowError."""
    if isinstance(answer, (int, float)):
        if answer not in given and not isinstance(answer, (bool, float)) and 0 <= answer < len(choices):
            return answer
        answer = str(answer)
    if isinstance(answer, str):
        if answer in choices:
            return list(choices).index(answer)
        letter = answer.strip().strip("().").upper()
        if len(letter) == 1 and letter in LETTERS[: len(choices)]:
            return LETTERS.index(letter)
        if (
            len(letter) <= 2 and letter.isdecimal() and int(letter) < len(choices)
        ):  # of more digits than Python reads
            return int(letter)
    raise RowError(
        BEHIND if str(answer).strip() == str(len(choices)) else "bad answer",
        f"'answer' must be one of the choices, its letter or its number from 0, not {shown(answer)}",
    )


def _number(value: float) -> str:
    """Digits without an exponent: 1e16 is 10000000000000000."""
    if isinstance(value, int):
        return str(value)
    return f"{value:f}".rstrip("0").rstrip(".") if float(f"{value:f}") == value else repr(value)


def _label(row: Mapping[str, Any]) -> int | None:
    value = row.get("label")
    if isinstance(value, str):
        value = LABELS.get(value.strip().lower().removesuffix(".0"), value)
    if value not in (0, 1, None):
        raise RowError("bad label", f"'label' must be 0 (right) or 1 (wrong), not {shown(value)}")
    return None if value is None else int(value)


def _spans(row: Mapping[str, Any], response: str | None) -> tuple[Span, ...] | None:
    """Labelled stretches of the response, in order. Raises RowError for one outside of it or over another."""
    value = row.get("spans")
    if value is None:
        return None
    if response is None:
        raise RowError("bad spans", "'spans' are places in 'response', which is not given")
    spans: list[Span] = []
    value = of_cell("", value)
    for span in value if isinstance(value, list) else [value]:
        parts = [span.get(name) for name in ("start", "end", "label")] if isinstance(span, Mapping) else span
        if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, int) for part in parts):
            raise RowError(
                "bad spans",
                f"a span must be [start, end, label] or an object of these, in numbers, not {shown(span)}",
            )
        start, end, label = parts
        if start >= end:
            raise RowError("bad spans", f"the span {start}–{end} is empty; its end must be behind its start")
        if not 0 <= start < end <= len(response):
            raise RowError(
                "bad spans", f"the span {start}–{end} is outside the response's {len(response)} characters"
            )
        if label not in (0, 1):
            raise RowError("bad label", f"a span's label must be 0 (right) or 1 (wrong), not {shown(label)}")
        spans.append((start, end, int(label)))
    spans.sort()
    for (_, end, _), (start, later, _) in itertools.pairwise(spans):
        if start < end:
            raise RowError("bad spans", f"the span {start}–{later} overlaps one that ends at {end}")
    return tuple(spans)


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = row.get(name)
    if value is None:
        return ()
    if isinstance(value, Mapping):  # ARC's own, or letters to texts
        value = value["text"] if "text" in value else list(value.values())
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise RowError(
            f"bad {name}", f"{name!r} must be a list of 2 to {len(LETTERS)} texts, not {shown(value)}"
        )
    return tuple(" ".join(str(one).split()) for one in value)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(f"bad {name}", f"{name!r} must be a text, not {shown(value)}")
    return value or None


def _name(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise RowError(f"bad {name}", f"{name!r} must be a text, not {shown(value)}")
    if isinstance(value, float):  # a table's column of numbers with gaps: 3.0 is 3, and a gap no name
        return None if math.isnan(value) else str(int(value) if value.is_integer() else value)
    return str(value).strip() or None
