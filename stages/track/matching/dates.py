"""Dates as dates: `July 4, 1776`, `4 July 1776` and `1776-07-04` are one day; read by dateutil, component by component."""

import re
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from dateutil import parser

from ghosttrack.common.maths.text import ascii_digits, compatible

_MONTH = "(?:" + "|".join(
    sorted({name for names in parser.parserinfo.MONTHS for name in names}, key=len, reverse=True)
) + r")\b\.?"  # fmt: skip
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"\b(?:{_DAY}(?: of)?[ -]{_MONTH}(?:,?[ -]\d{{4}})?|{_MONTH} {_DAY}\b(?:,? \d{{4}})?|{_MONTH},? \d{{4}}"
    r"|\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[/.-]\d{1,2}[/.-]\d{4})\b",
    re.IGNORECASE,
)
_EAST_ASIAN = re.compile(r"(\d{4})[年년] ?(\d{1,2})[月월] ?(\d{1,2})[日일]")
_DEFAULTS = (datetime(2001, 1, 1), datetime(2004, 12, 28))


class Date(NamedTuple):
    """A date of which parts may be open (None)."""

    year: int | None
    month: int | None
    day: int | None

    def within(self, other: "Date") -> bool:
        """Whether `other` says all that this says, and perhaps more."""
        return all(mine in (None, theirs) for mine, theirs in zip(self, other, strict=True))


class Found(NamedTuple):
    """Readings of a date in a text (two, where day and month may be exchanged) and where it stands."""

    readings: tuple[Date, ...]
    start: int
    end: int


@lru_cache(maxsize=16_384)
def dates(text: str) -> tuple[Found, ...]:
    """The dates of a text, with two components or three."""
    text = _iso(text)
    found = []
    for match in _DATE.finditer(text):
        written = re.sub(r"(?i)\bof\b", " ", match[0]).replace(".", "/" if match[0][0].isdigit() else " ")
        try:
            readings = {_read(written, dayfirst) for dayfirst in _orders(match[0])}
        except (parser.ParserError, OverflowError):
            continue
        found.append(Found(tuple(readings), *match.span()))
    return tuple(found)


def whole_date(text: str) -> tuple[Date, ...]:
    """The readings of a text that is a date and nothing else; () for others."""
    text = _iso(text).strip().rstrip(".")
    found = dates(text)
    return found[0].readings if len(found) == 1 and (found[0].start, found[0].end) == (0, len(text)) else ()


def _iso(text: str) -> str:
    """ASCII digits, and dates of East Asia as others write them."""
    return _EAST_ASIAN.sub(r"\1-\2-\3 ", ascii_digits(compatible(text)))


def _orders(text: str) -> tuple[bool, ...]:
    """Whether the day may come first: open with slashes, settled in ISO and in dotted dates."""
    if re.match(r"\d{4}", text):
        return (False,)
    return (True,) if re.match(r"\d+\.", text) else (False, True)


def _read(text: str, dayfirst: bool) -> Date:
    """A component is open if it follows the default."""
    one, other = (parser.parse(text, default=default, dayfirst=dayfirst) for default in _DEFAULTS)
    return Date(*(a if a == b else None for a, b in (
        (one.year, other.year), (one.month, other.month), (one.day, other.day))))  # fmt: skip
