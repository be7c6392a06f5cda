"""Dates as dates: `July 4, 1776`, `4 July 1776` and `1776-07-04` are one day; read by dateutil, component by component."""

import contextlib
import re
from datetime import datetime
from functools import lru_cache, partial
from typing import NamedTuple

from dateutil import parser
from text_to_num import text2num

from ghosttrack.common.maths.text import ascii_digits, compatible
from ghosttrack.stages.track.matching.han import NUMERALS, han_numbers, value_of
from ghosttrack.stages.track.matching.words import LANGUAGE_CODES, either, numerals, table, words

_MONTHS = [english[-1] for english in parser.parserinfo.MONTHS]
_MONTH_OF = {name.lower(): english[-1] for english in parser.parserinfo.MONTHS for name in english} | {
    name: _MONTHS[number] for code in table("languages") for number, name in enumerate(words("months", code))
}
_FIRST_LETTERS = [(name[:length], month) for name, month in _MONTH_OF.items() for length in (3, 4)]
_SHORT_MONTHS = {
    short: month
    for short, month in _FIRST_LETTERS
    if all(m == month for s, m in _FIRST_LETTERS if s == short)
}
"""`Okt.` of Oktober, where no other month begins so."""
_MONTH = (
    rf"(?:(?:{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})(?!\w)\.?|(?:{'|'.join(_SHORT_MONTHS)})\.)"
)
_MONTH_OF = _SHORT_MONTHS | _MONTH_OF
_MONTH_NAME = re.compile(rf"(?<!\w){_MONTH}", re.IGNORECASE)
_DAY = r"(?:the )?\d{1,2}(?:st|nd|rd|th|er|o|\.(?= ))?"
_YEAR = r"(?:\d{4}|['’]\d\d)"
_ERA = r"(?: BC\b| AD\b)?"
_DATE = re.compile(
    rf"\b(?:\d{{4}}[.,]? {_MONTH} \d{{1,2}}\b|{_DAY}(?: of| de)?[ -]{_MONTH}(?:(?:,| del?)?[ -]{_YEAR}{_ERA})?|{_MONTH} {_DAY}\b(?:(?:,| in)? {_YEAR}{_ERA})?|{_MONTH},?(?: del?)? {_YEAR}{_ERA}"
    r"|(?:0?[1-9]|1[0-2])/(?:1\d|20)\d\d|\d{4}(?:[-/]|\. ?)\d{1,2}(?:[-/]|\. ?)\d{1,2}|\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d\d))(?:\b|(?=T\d\d:))",
    re.IGNORECASE,
)
_SHORT_DAY = re.compile(r"(?<![\w./-])(\d{1,2})(?:/(?=\d{1,2}(?![\w/.-]))|\.(?=\d{1,2}\.(?!\d)))(\d{1,2})\.?")
_TIME = re.compile(
    r"(?<![\d:.,$€£-])(\d{1,2})(?:[:h](\d\d)(?::\d\d)?)?(?:\s?([ap])(?:\.\s?m\b\.?|m\b)|\s?(o['’]?clock|uhr)\b)?(?![\d:])"
)
_EAST_ASIAN = re.compile(r"(?:(?P<year>\d{4})[年년] ?)?(?P<month>\d{1,2})[月월](?: ?(?P<day>\d{1,2})[日일])?")
_VIETNAMESE = re.compile(r"(?:ngày )?(?P<day>\d{1,2}) tháng (?P<month>\d{1,2})(?:,? năm (?P<year>\d{4}))?")
_ERAS = re.compile(r"(?<=[\dym])\s?(?:(B)\.?\s?C(?:\.?\s?E)?\b\.?|A\.?\s?D\b\.?|C\.?\s?E\b\.?)")
_ERAS_ELSEWHERE = re.compile(rf"(?<=[\dy])\s?(?:({either('bc')})|{either('ad')})")
_ERA_BEFORE = re.compile(rf"(?:({either('bc_before')})|{either('ad_before')})\s?(\d+)[年년]?")
_YEARS_FROM = {
    era: int(years) for one in table("languages").values() for era, years in one.get("eras", {}).items()
}
_ERA_YEAR = re.compile(rf"({'|'.join(_YEARS_FROM)})\s?(\d+|元|[一二三四五六七八九十]+)(?=年|\D|$)")
"""Years that are counted from a reign or another beginning: 令和元年 is 2019."""
_OF_YEAR = re.compile(rf"(?<=\d{{4}}) (?:{either('of_year')})(?!\w)", re.IGNORECASE)
_CLOCKS = [
    (code, re.compile(r"\b" + re.sub("[HN]", r"(?P<\g<0>>\\w+)", said) + r"\b"), minutes)
    for code, one in table("languages").items()
    for said, minutes in (
        one.get("clock", {}) | {f"H(?= (?:{half}))": "0" for half in (*one.get("am", []), *one.get("pm", []))}
    ).items()
]
_POINTED = re.compile(r"(?<![\d.,])(\d{1,2})\.(?=[0-5]\d(?![\d.,]))")
_EAST_ASIAN_TIME = re.compile(
    r"(\d{1,2})(?:[時时시]|[点點](?=半|\d)|(?<=[ap]m \d)[点點]|(?<=[ap]m \d\d)[点點])(?![間间간])(?:(半| ?반)| ?(\d{1,2})[分분]?)?"
)
_HALF_BEFORE = re.compile(rf"(?:({either('am_before')})|{either('pm_before')}) ?(?=[\d{NUMERALS}])")
_HALF_AFTER = re.compile(rf"(?<=\d) ?(?:uhr |o['’]?clock |heures )?(?:({either('am')})|(?:{either('pm')}))\b")
_DEFAULTS = (datetime(2000, 1, 1), datetime(2004, 12, 28))


class Date(NamedTuple):
    """A date of which parts may be open (None); years before Christ are negative."""

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
        said, before, _ = match[0].removesuffix(" AD").partition(" BC")
        written = _MONTH_NAME.sub(lambda m: _MONTH_OF[m[0].lower().rstrip(".")], said)
        written = re.sub(r"(?i)\b(?:of|del?|in|the)\b|(?<=\d)(?:er|o)\b", " ", written).replace(
            ".", "/" if said[0].isdigit() else " "
        )
        try:
            readings = {_read(written, dayfirst) for dayfirst in _orders(said)}
        except (parser.ParserError, OverflowError):
            continue
        if re.search(r"(?:^\d\d?\D\d\d?\D|['’])\d\d$", said):  # of any century, whatever day it is today
            readings |= {
                one._replace(year=one.year + 100 * n) for one in readings for n in (-1, 1) if one.year
            }
        if before:
            readings = {one._replace(year=-one.year) if one.year else one for one in readings}
        found.append(Found(tuple(readings), *match.span()))
    return tuple(found)


def short_days(text: str) -> tuple[Found, ...]:
    """Days of a month that are written `25/12` or `25.12.`, which could be other numbers too: for texts where a day is sought."""
    return tuple(
        Found(readings, *match.span())
        for match in _SHORT_DAY.finditer(ascii_digits(compatible(text)))
        if (
            readings := tuple(
                Date(None, month, day)
                for day, month in {(int(match[1]), int(match[2])), (int(match[2]), int(match[1]))}
                if 1 <= month <= 12 and 1 <= day <= 31
            )
        )
    )


class Time(NamedTuple):
    """Minutes since midnight, or since noon or midnight where the half of the day is not known."""

    minutes: int
    known: bool

    def same(self, other: "Time") -> bool:
        """Equal; a half of the day that only one of them says is taken as understood."""
        one = self.known == other.known or max(t.minutes for t in (self, other) if not t.known) > 12 * 60 + 59
        return self.minutes == other.minutes if one else self.minutes % 720 == other.minutes % 720


def times(text: str) -> tuple[Time, ...]:
    """The times of day in a text: `15:00`, `15.00`, `3 pm`, `3 o'clock`, `half past three`, `halb vier`, `下午3点`."""
    found = []
    for hour, minute, half, clock in _TIME.findall(_POINTED.sub(r"\1:", _clock(text))):
        if (minute or half or clock) and int(hour) <= 24 and int(minute or 0) < 60:
            hours = int(hour) % 12 + 12 * (half == "p") if half and int(hour) <= 12 else int(hour) % 24
            found.append(Time(60 * hours + int(minute or 0), bool(half)))
    return tuple(found)


def whole_time(text: str) -> Time | None:
    """The time that a text is, if it is nothing else."""
    found = times(text)
    return found[0] if found and _TIME.fullmatch(_clock(text)) else None


def _clock(text: str) -> str:
    """A text in small letters with plain digits, in which times are written in those."""
    text = ascii_digits(compatible(text)).strip().lower()
    text = han_numbers(_HALF_BEFORE.sub(lambda match: "am " if match[1] else "pm ", text))
    for code, pattern, minutes in _CLOCKS:
        text = pattern.sub(partial(_from_words, code=code, minutes=minutes), text)
    text = _EAST_ASIAN_TIME.sub(lambda m: f"{m[1]}:{30 if m[2] else int(m[3] or 0):02}", text)
    text = re.sub(r"\b([ap]m) (\d\d?:\d\d)", r"\2 \1", text)
    text = _HALF_AFTER.sub(lambda match: " am" if match[1] else " pm", text)
    return re.sub(
        r"\b(?:12 )?(?:(noon|midday)|midnight)\b", lambda m: "12:00 pm" if m[1] else "12:00 am", text
    )


def _small_number(word: str, code: str) -> int | None:
    """The number that a word of a language is."""
    if word.isdecimal():
        return int(word)
    with contextlib.suppress(ValueError):
        return int(text2num(word, code if code in LANGUAGE_CODES else "en"))
    return numerals().get(word)


def _from_words(match: "re.Match[str]", code: str, minutes: str) -> str:
    """`half past 3` as 3:30."""
    said = match.groupdict()
    if (hour := _small_number(said["H"], code)) is None or hour > 24:
        return match[0]
    if minutes.endswith("N"):
        if (number := _small_number(said["N"], code)) is None:
            return match[0]
        minutes = minutes.replace("N", str(number))
    hours, minute = divmod(60 * hour + int(minutes), 60)
    return f"{hours or 12}:{minute:02}"


@lru_cache(maxsize=16_384)
def whole_date(text: str) -> tuple[Date, ...]:
    """The readings of a text that is a date and nothing else; () for others."""
    text = _iso(text).strip().rstrip(".")
    found = dates(text)
    return found[0].readings if len(found) == 1 and (found[0].start, found[0].end) == (0, len(text)) else ()


def eras(text: str) -> str:
    """The text with every name of an era behind a year or a century as ` BC` or ` AD`, and years of reigns as those."""
    text = _ERA_YEAR.sub(lambda m: str(_YEARS_FROM[m[1]] + int(value_of(m[2].replace("元", "1")))), text)
    text = _ERA_BEFORE.sub(lambda match: f"{match[2]} {'BC' if match[1] else 'AD'}", text)
    text = _ERAS_ELSEWHERE.sub(lambda match: " BC" if match[1] else " AD", text)
    text = _ERAS.sub(lambda match: " BC" if match[1] else " AD", text)
    return text.replace("century AD", "century")


def _iso(text: str) -> str:
    """ASCII digits, years of four, and dates of East Asia as others write them."""
    text = _OF_YEAR.sub("", eras(ascii_digits(compatible(text))))
    text = _EAST_ASIAN.sub(_numbered, han_numbers(text))
    text = _VIETNAMESE.sub(_numbered, text)
    return re.sub(r"\b\d{1,3}(?= (?:BC|AD)\b)", lambda match: match[0].zfill(4), text)


def _numbered(match: "re.Match[str]") -> str:
    """`1776年7月4日`, of which year or day may be left out, as English writes it."""
    year, month, day = match.group("year", "month", "day")
    if not 1 <= int(month) <= 12:
        return match[0]
    return " ".join(filter(None, (day, _MONTHS[int(month) - 1], year))) + " "


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
