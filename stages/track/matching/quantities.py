"""Numbers as numbers: signs, thousands, decimals, fractions, words, Roman numerals, powers, units and ranges in a text.

Spelled numbers are read by text2num (English). A number inside a name (`COVID-19`, `R2D2`, `10:30`) is none.
"""

import contextlib
import re
from fractions import Fraction
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

import regex
from text_to_num import alpha2digit, text2num

from ghosttrack.common.maths.text import ascii_digits, compatible
from ghosttrack.stages.track.matching.dates import eras
from ghosttrack.stages.track.matching.han import han_numbers
from ghosttrack.stages.track.matching.words import LANGUAGE_CODES, either, items, names, numerals, table

_POWERS = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12, "lakh": 10**5, "crore": 10**7, "10^4": 10**4, "10^8": 10**8,
}  # fmt: skip
_SCALES = {name.replace("-", " "): _POWERS[power] for power, name in names("scales")} | {
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "B": 10**9,
}
_FRACTIONS = {"half": 2, "halves": 2, "third": 3, "3rd": 3, "quarter": 4, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5,
              "sixth": 6, "6th": 6, "seventh": 7, "7th": 7, "eighth": 8, "8th": 8, "ninth": 9, "9th": 9, "tenth": 10,
              "10th": 10}  # fmt: skip
_UNITS: dict[str, tuple[str, Fraction]] = {
    sign: (dimension, Fraction(factor))
    for dimension, sizes in table("units").items()
    for factor, signs in sizes.items()
    for sign in items(signs)
}
_UNITS |= {name: _UNITS[sign] for sign, name in names("units")}
_UNITS = {f"{name}s": unit for name, unit in _UNITS.items()} | _UNITS
_SHORT = {name: sign for sign, name in names("units") if sign in ("km", "m", "cm", "mi", "ft")}
_OF_TWO = {
    "¥": {"JPY": Fraction(1), "CNY": Fraction(1)},
    "degrees": {"celsius": Fraction(1), "fahrenheit": Fraction(1)},
    "pound": {"GBP": Fraction(1), "mass": Fraction("0.45359237")},
    "cents": {"USD": Fraction(1), "EUR": Fraction(1)},
    "celsius": {"charge": Fraction(1)},  # both write C
    "months": {"years": Fraction(1, 12)},
    "time": {"years": Fraction(1, 365 * 86400)},
}
"""Names of two units, and those that years may be counted in: the dimensions that they may have, and what each is then worth."""
_KELVIN = {
    "kelvin": (Fraction(1), Fraction(0)),
    "celsius": (Fraction(1), Fraction("273.15")),
    "fahrenheit": (Fraction(5, 9), Fraction("459.67")),
}
"""Scales of temperature: a degree in kelvin, and its degrees at 0 above absolute zero."""
_LONG_SCALES = "|".join(name for name in _SCALES if len(name) > 3)
_WORD_SCALES = "|".join(name for name in _SCALES if len(name) > 1)
_ONE_SIGN_SCALES = "".join(name for name in _SCALES if len(name) == 1 and not name.isascii())
_MONEY = ("USD", "EUR", "GBP", "CHF", "CAD", "AUD", "$")
_GAP = "[ \u00a0\u202f\u2009]"
_ORDINAL = "st|nd|rd|th|er|re|ère|ème|[еяй]|го|ый|ой"
_QUANTITY = regex.compile(
    rf"""(?<![√±]\s?|(?:US|CA|AU|NZ|HK|\b[ACRS])\$|\p{{L}}[-–.,:/']|\p{{N}}[.,:/']|\p{{L}}|\p{{N}})
    (?P<sign>(?:(?<![\p{{L}}\p{{N}})\]][ ]?)[-−–+]|\b(?:minus|negative)\s)?)
    (?P<currency>(?:(?:US|CA|AU|NZ|HK|[ACRS])?\$|\p{{Sc}}|\b(?:USD|EUR|GBP|CHF|JPY|INR|CNY|AUD|CAD|PLN|CZK|BRL|Rs|zł|Kč)\b\.?)?)\s?(?P<inner>[-−]?)
    (?: (?:(?P<whole>\d+)(?:\s+|\s+and\s+))?(?P<top>\d+)\s?/\s?(?P<bottom>[1-9]\d*)(?![/\d])
      | (?P<number>\d{{1,3}}(?:{_GAP}\d{{3}})+(?:[.,]\d+)?(?!\d) | \d+(?:[.,'’]\d+)* | [.]\d+)
        (?:[eE](?P<exponent>[-+]?\d+)(?!\w) | \s?[×x*·⋅]\s?10\^(?P<power>[-−]?\d+) | \^(?P<raised>-?\d+))?
    )(?![:/^]\d|[.,]?\d)
    (?P<ordinal>(?:{_ORDINAL})\b)?
    (?:[ -]?(?P<scale>(?i:{_WORD_SCALES})\b|(?<=\d)[kKMB]\b|[{_ONE_SIGN_SCALES}]))?
    (?:[ \u00a0-]?(?P<unit>%|(?i:degrees?\s(?:celsius|fahrenheit|[CF]\b))|century[ ]BC\b|(?i:light[- ]years?)|‰|°\s?[CF]?\b|°|\p{{Sc}}|(?i:sq(?:uare|\.)?\s|cubic\s|us\s|(?:swiss|canadian|australian)\s)?\p{{L}}+(?:/[hs]\b(?:\^?2)?|\^[23]|[23](?!\d))?))?
    """,
    regex.VERBOSE,
)
_ROMAN = regex.compile(
    r"(?<![\p{L}\p{N}])(?=[MDCLXVI]{2})M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})(?![\p{L}\p{N}])"
)
_REGNAL = regex.compile(r"(?<=\p{Lu}\p{L}+),? the (\d+)(?:st|nd|rd|th)\b")
_SINGLE = regex.compile(r"(?<=\p{Lu}\p{L}+ )[IVXLCDM](?![\p{L}\p{N}'’])")
_NUMBERED = regex.compile(r"(?:\bthe )?\b(\d+)(?:st|nd|rd|th) (\p{Lu}\p{L}+(?: \p{Lu}\p{L}+)*)")
_ROMAN_VALUES = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
_ABOUT = re.compile(
    r"\s*(?:(?:about|around|approximately|roughly|nearly|almost|circa|ca?\.?|(?:in )?the year)\s+|[~≈]|[a-z]\s?=\s?)(?=-?\d)",
    re.IGNORECASE,
)
_BOUND_WORDS = {"≥": "at_least", "≤": "at_most", ">": "more_than", "<": "less_than"}
_BOUNDS = {
    sign: re.compile(rf"(?:{sign}|(?<![a-zа-я])(?:{either(kind)}))\s*$", re.IGNORECASE)
    for sign, kind in _BOUND_WORDS.items()
}
_BOUND_AFTER = re.compile(
    r"\s?(?:(\+|(?:or|and) (?:more|above|over|older|higher))|(?:or|and) (?:less|fewer|below|under|younger))(?!\w|\+)"
)
_RATIO = re.compile(r"(?<![\d.,/])(\d+) (?:out of|in(?: every)?) (\d+)\b(?![.,/]?\d)")
_RANGE = re.compile(r"(?i)\s?(?:[-–—~〜～]|(?:up )?to|and|until|through|bis|à|до|tot|até|hasta)\s?")
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Hangul}\p{Arabic}\p{Hebrew}\p{Devanagari}]"
)
_GLUED = regex.compile(rf"(?<={_UNSPACED.pattern})(?=\d)")
_CENTURY_NAMES = "|".join(name for sign, name in names("units") if sign == "century")
_CENTURY = regex.compile(
    rf"\b(?:(?i:{_CENTURY_NAMES}|century)\s(?P<n>[IVXLC]+|\d\d?)\b|(?P<n>[IVXLC]+|\d\d?)(?:\.|e|[èe]me|th)?\s(?i:{_CENTURY_NAMES}|(?<=[IVXLC]+(?:th)?\s)century)(?!\w)|(?i:{_CENTURY_NAMES})\s(?P<word>\p{{L}}+)|(?P<word>\p{{L}}{{4,}})\s(?i:{_CENTURY_NAMES})(?!\w))"
)
_TIMES = ("", "once", "twice", "thrice")
_AMOUNTS = {name.replace("-", " "): amount for amount, name in names("amounts")}
_ARTICLES = re.compile(r"^(?:der|die|das|le|la|les|el|los|las|il|lo|o|a|het|de) ")
_LIKE_ORDINALS = re.compile(
    r"(?:te|de|i[eè]re?|ième|[eér][r][oae]|nd[oae]|rt[oae]|nt[oae]|[sx]t[oae]|im[oae]|av[oae]|on[oae]|zo|eiro)$"
)
_FRACTIONS_OF = {
    code: (
        items(one["one"]),
        {name: int(parts) for parts, called in one["fractions"].items() for name in items(called)},
    )
    for code, one in table("languages").items()
    if "fractions" in one
}
_FRACTION_WORDS = regex.compile(
    rf"(?i)\b(\p{{L}}+) ?\b({'|'.join(name for _, parts in _FRACTIONS_OF.values() for name in parts)})\b"
)
_PERCENT = re.compile(rf"\b(?:{either('percent')})\b", re.IGNORECASE)
_SEASON = re.compile(r"(?<![\d/.])((?:1\d|20)\d\d)/(?=\d\d(?:\d\d)?(?![\d/]))")
_AGO = re.compile(r"\b(years|[kmb]ya|[MG]a) ago\b")
_NTH_CENTURY = re.compile(r"(?<=\d(?:st|nd|rd|th)) c\b\.?(?! ?[a-z])")
_PER = re.compile(
    r"\b(mile|kilomet(?:re|er)|km|met(?:re|er))s? (?:per|an) (hour|second)( squared)?\b", re.IGNORECASE
)
_BELOW_ZERO = re.compile(
    rf"(?i)(?<![-\d.,])(\d[\d.,]*\s?(?:°\s?[CF]?|(?:degr[eé]|grad)\w*(?: [cf]\w+)?|градус\w*)?)\s(?:{either('below_zero')})"
)
_OPERATION = re.compile(r"(\d ?(?:[-+*/×x]|plus|minus|times) ?[\d.]+) (?:is|equals|makes|gives) (?=-?\d)")
_LATER_EQUALS = re.compile(r"(?:(?!,?\s(?:and|or|)\s?[a-z]\s?=)[^.;!?\n=]|[.]\d)*=")


_CALENDAR = re.compile(r"(?<!\d)\d{4}(-\d\d?-\d\d?)(?!\d)|(?<!\d)(\d\d?/\d\d?/)\d{4}(?!\d)")


class Quantity(NamedTuple):
    """A number with what it counts. dimension: None without a unit. upper: the other end of a range. start, end: in the text."""

    value: Fraction
    dimension: str | None
    upper: Fraction | None
    start: int
    end: int
    stated: Fraction
    """The number as it is written, before its unit is applied."""
    bound: str = ""
    """`>`, `<`, `≥` or `≤` of a number that is only said to be more or less."""

    def same(self, other: "Quantity") -> bool:
        """Equal numbers of one kind; a unit that only one of them names is taken as understood."""
        if self.bound != other.bound and {self.bound, other.bound} not in ({"", "≥"}, {"", "≤"}):
            return False
        if self.upper is None or other.upper is None:
            if self.upper is not other.upper:
                return False
        elif not _close(self.upper, other.upper):
            return False
        if self.dimension == other.dimension:
            return _close(self.value, other.value) or _converted(self, other) or _converted(other, self)
        if self.dimension in _KELVIN and other.dimension in _KELVIN:
            return _close(self.kelvin(), other.kelvin())
        for one, two in ((self, other), (other, self)):
            if factor := _OF_TWO.get(one.dimension or "", {}).get(two.dimension or ""):
                return _close(one.value * factor, two.value)
        if None not in (self.dimension, other.dimension) or "before" in (self.dimension, other.dimension):
            return False
        share = "share" in (self.dimension, other.dimension) and _close(self.value, other.value)
        return share or _close(self.stated, other.stated)

    def kelvin(self) -> Fraction:
        """A temperature in kelvin."""
        degree, offset = _KELVIN[self.dimension or ""]
        return degree * (self.value + offset)


@lru_cache(maxsize=16_384)
def spell_out(text: str) -> str:
    """The text with ASCII digits and with its spelled numbers in digits; positions in it are those of `quantities`."""
    text = ascii_digits(eras(_CENTURY.sub(_century, compatible(text))))
    text = _SEASON.sub(r"\1-", _AGO.sub(r"\1", _NTH_CENTURY.sub(" century", text)))
    text = text.replace("−", "-").replace("⁄", "/").replace("٫", ".").replace("٬", ",")
    text = _GLUED.sub(" ", re.sub(r"(?<=\d)_(?=\d{3})", "", text))
    text = re.sub(
        r"(?<=[a-z])-(?=(?:half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?\b)|\b(?:mid|early|late)-(?=\d)|\bca?\.(?=\d)",
        " ",
        text,
    )
    text = re.sub(r"(?<=\d)['′]\s?(?=\d+[\"″])", " ft ", text)
    text = re.sub(r"(?<=\d)\s?h\s?([0-5]\d)\b(?:\s?min)?", r" hours \1 min", text)
    text = re.sub(r"\b(\d+|one) second\b(?! \w)", r"\1 sec", text)
    text = re.sub(
        r"^an? (?=(?:minute|hour|day|week|fortnight|month|year|decade|century|mile)\W*$)", "1 ", text
    )
    text = re.sub(r"\b(?:an?|one) (hour|day|week|month|year|mile) and a half\b", r"1.5 \1s", text)
    text = _PER.sub(lambda m: f"{m[1]}/{m[2][0].lower()}{'^2' if m[3] else ''}", text)
    text = han_numbers(_other_language(text))
    text = _PERCENT.sub("%", text)
    text = re.sub(rf"\ban? (?=(?:{_LONG_SCALES}|half|third|quarter)\b)", "one ", text, flags=re.IGNORECASE)
    text = re.sub(
        rf"\b(half|quarter of) (?:an?|one) (?=(?:{_LONG_SCALES})\b)",
        lambda m: f"0.{5 if m[1] == 'half' else 25} ",
        text,
    )
    text = re.sub(
        rf"\b(?:several|many|some|a few) (?:{_LONG_SCALES})\b|(?<!\d )\b(?:{_LONG_SCALES})s\b", "many", text
    )
    text = re.sub(
        rf"(?<![\w.,/])((?:\d+ )?\d/\d|\d+(?:,\d{{3}})*(?:\.\d+)?|\d+,\d\d?) ?({_LONG_SCALES})\b",
        _scaled,
        text,
        flags=re.IGNORECASE,
    )
    text = re.sub(r"\b(no|any|some|every)[ -]one\b", r"\1body", text, flags=re.IGNORECASE)
    text = re.sub(
        r"(?i)(?<=teen)-(?=[a-z])|(?<=\btwenty)-(?=(?:ten|eleven|twelve|twenty|\w+teen)\b)", " ", text
    )
    plain = alpha2digit(text, "en", 0) if re.search("[A-Za-z]{3}", text) else text
    if plain != text:  # nineteen twelve and nineteen oh five are years
        plain = re.sub(r"(?i)\b(1\d|20)[ -]oh?[ -](\d)\b", r"\1 0\2", plain)
        plain = re.sub(r"\b(1\d|20) (\d\d)\b(?! \d)", lambda m: m[0] if m[0] in text else m[1] + m[2], plain)
    plain = re.sub(r"\b(\d+) and (?:1|one|a) half\b(?: (1(?:000)+)\b)?", _and_a_half, plain)
    names = "|".join(_FRACTIONS)
    plain = re.sub(rf"\b(\d+)[ -]({names})s?\b(?: of an?\b)?", lambda m: f"{m[1]}/{_FRACTIONS[m[2]]}", plain)
    plain = _BELOW_ZERO.sub(r"-\1", _OPERATION.sub(r"\1 = ", plain))
    plain = re.sub(r"^(\W*[\d.,]+) ?= ?[\d.,]+ ?[-+*/×x] ?[\d.,]+\W*$", r"\1", plain)  # 56 = 7 × 8
    return re.sub(r"(?<![\w/])half\b(?: an?\b)?", "1/2", plain)


def _other_language(text: str) -> str:
    """The text with fractions of other languages than English in digits, and their numbers and ordinals where they are all of it."""
    text = _FRACTION_WORDS.sub(_spelled_fraction, text) if _FRACTION_WORDS.search(text) else text
    words = text.strip().rstrip(".! ").lower()
    if words in _TIMES:
        return str(_TIMES.index(words))
    bare = _ARTICLES.sub("", words)
    if bare in _AMOUNTS:
        return _AMOUNTS[bare]
    values, parts = numerals(), words.split()
    read = [values[word] for word in takewhile(values.__contains__, parts)]
    if read and (rest := parts[len(read) :]) in ([], parts[-1:]) and (not rest or words > "\u036f"):
        return " ".join([str(_sum(read)), *rest])  # одиннадцать игроков
    if len(words) < 2 or not words.replace(" ", "").replace("-", "").isalpha() or len(words.split()) > 7:
        return text
    for language in LANGUAGE_CODES:
        with contextlib.suppress(ValueError):
            return str(text2num(words, language))
    if (
        1 < len(words.split()) < 4 and alpha2digit(words, "en", 0) == words
    ):  # cien metros, einundzwanzig Stück
        for language in LANGUAGE_CODES:
            if (written := alpha2digit(words, language, 0))[:1].isdecimal():
                return str(written)
    if " " in bare or not _LIKE_ORDINALS.search(bare) or bare == "none":
        return text
    for language in LANGUAGE_CODES:
        if ordinal := re.fullmatch(r"(\d+)(?:\.|er|re|e|ère|ème|de|ste|º|ª)", alpha2digit(bare, language, 0)):
            return ordinal[1]
    return text


@lru_cache(maxsize=16_384)
def may_be_a_word(text: str) -> bool:
    """Whether a text is a number in another language than English, and may therefore be no number: Lima is five in Indonesian."""
    return (
        not any(map(str.isdecimal, text)) and alpha2digit(text, "en", 0) == text and spell_out(text) != text
    )


def _spelled_fraction(match: "regex.Match[str]") -> str:
    """`zwei Drittel` as 2/3."""
    for language, (ones, denominators) in _FRACTIONS_OF.items():
        if denominator := denominators.get(match[2].lower()):
            with contextlib.suppress(ValueError):
                top = 1 if match[1].lower() in ones else text2num(match[1].lower(), language)
                return f"{top}/{denominator}"
    return match[0]


def _sum(values: list[int]) -> int:
    """The number that numerals make, the larger first: 2, 1000, 300, 5 are 2305."""
    total = part = 0
    for value in values:
        if value >= 1000:
            total, part = total + max(part, 1) * value, 0
        elif value == 100 and 0 < part < 10:
            part *= 100
        else:
            part += value
    return total + part


def _scaled(match: "re.Match[str]") -> str:
    """`1.5 million` and `1,5 million` in digits."""
    parts = re.sub(r",(?=\d{3})", "", match[1]).replace(",", ".").split()
    value = sum(map(Fraction, parts)) * _SCALES[match[2].lower()]
    return str(value.numerator) if value.denominator == 1 else match[0]


def _century(match: "regex.Match[str]") -> str:
    """`siglo XVIII`, `18. Jahrhundert` and `achtzehntes Jahrhundert` as `18th century`."""
    if word := match["word"]:
        read = (re.match(r"\d+", alpha2digit(word.lower(), language, 0)) for language in LANGUAGE_CODES)
        number = next((found[0] for found in read if found), None)
        return f"{number}th century" if number else match[0]
    number = match["n"] if match["n"].isdecimal() else str(_roman_value(match["n"]))
    return f"{number}th century"


def _and_a_half(match: "re.Match[str]") -> str:
    """`1 and a half`, and that of a million."""
    return str((2 * int(match[1]) + 1) * int(match[2]) // 2) if match[2] else f"{match[1]}.5"


@lru_cache(maxsize=16_384)
def quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text that `spell_out` gave, in order, ranges as one; terms left of an equals sign are left out."""
    days = [match.span(1) for match in _CALENDAR.finditer(text)]
    found = [
        quantity
        for match in _QUANTITY.finditer(text)
        if (quantity := _quantity(match)) and not any(a <= quantity.start < b for a, b in days)
    ]
    merged: list[Quantity] = []
    for quantity in found:
        last = merged[-1] if merged else None
        between = text[last.end : quantity.start] if last else ""
        if last and last.upper is None and _RANGE.fullmatch(between) and _is_range(text, last, between):
            unit = quantity.dimension or last.dimension
            upper, first = quantity.value, last.value
            if 0 < upper < 100 and first >= 1000 and unit is None:
                upper += first - first % 100  # 1939–45
            merged[-1] = Quantity(first, unit, upper, last.start, quantity.end, last.stated)
        elif last and (added := _added(last, quantity, between)):
            merged[-1] = added
        else:
            merged.append(quantity)
    return tuple(
        q._replace(bound=_bound(text, q))
        for q in merged
        if "=" not in text or not _LATER_EQUALS.match(text, q.end)
    )


def _bound(text: str, quantity: Quantity) -> str:
    """The sign of the bound that stands before a quantity or behind it."""
    before = text[max(quantity.start - 20, 0) : quantity.start]
    for sign, pattern in _BOUNDS.items():
        if pattern.search(before):
            return sign
    after = _BOUND_AFTER.match(text, quantity.end)
    return ("≥" if after[1] else "≤") if after else ""


@lru_cache(maxsize=16_384)
def whole_quantity(text: str) -> Quantity | None:
    """The quantity that a text is, if it is nothing else: `5 km`, `c. 1503`, `3 out of 4`; `007` is a code and no number."""
    text = ratios(_ABOUT.sub("", spell_out(text).strip(' \n()[]*"“”').rstrip(". "), count=1))
    if re.match(r"0\d", text):
        return None
    romans = roman_numerals(text)
    if len(romans) == 1 and _ROMAN.fullmatch(text):
        return romans[0]
    found = quantities(text)
    if len(found) != 1:
        return None
    lead, trail = text[: found[0].start].strip(), text[found[0].end :]
    range_said = found[0].upper is not None and lead.lower() in ("between", "from")
    led = not lead or range_said or any(pattern.fullmatch(lead) for pattern in _BOUNDS.values())
    return found[0] if led and (not trail or _BOUND_AFTER.fullmatch(trail)) else None


def ratios(text: str) -> str:
    """The text with `3 out of 4` and `3 in 4` as fractions."""
    return _RATIO.sub(r"\1/\2", text)


def with_numerals(text: str) -> str:
    """The text with spelled and Roman numbers in digits: `World War Two` and `World War II` are `World War 2`, `Louis the
    Fourteenth` is `Louis 14`, and a single letter behind a name is a number too."""
    text = spell_out(text)
    for roman in reversed(roman_numerals(text)):
        text = f"{text[: roman.start]}{roman.value}{text[roman.end :]}"
    text = _REGNAL.sub(r" \1", re.sub(r"(?i)\bworld war\b", "World War", text))
    text = re.sub(r"(?<=\w )No\. (?=\d)", "", text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", r"\1", _NUMBERED.sub(r"\2 \1", text))
    return _SINGLE.sub(lambda match: str(_ROMAN_VALUES[match[0]]), text)


def roman_numerals(text: str) -> list[Quantity]:
    """Roman numerals of two letters and more, in capitals."""
    found = []
    for match in _ROMAN.finditer(text):
        value = Fraction(_roman_value(match[0]))
        found.append(Quantity(value, None, None, match.start(), match.end(), value))
    return found


def _roman_value(letters: str) -> int:
    digits = [_ROMAN_VALUES[letter] for letter in letters]
    pairs = zip(digits, [*digits[1:], 0], strict=True)
    return sum(-digit if digit < after else digit for digit, after in pairs)


def _quantity(match: "regex.Match[str]") -> Quantity | None:
    value = _value(match)
    if value is None:
        return None
    if "-" in (match["sign"].strip(), match["inner"]) or match["sign"].strip() in ("–", "minus", "negative"):
        value = -value
    scale = match["scale"] or ""
    value *= _SCALES.get(scale, _SCALES.get(scale.lower(), 1))
    end, unit = match.end("scale") if match["scale"] else _number_end(match), None
    word = match["unit"] or ""
    if match["currency"] and word == "m":
        value, end = value * 10**6, match.end("unit")
    name = re.sub(r"^(us|sq|square|cubic)\.?\s", "", word.lower().replace(" ", " "))
    name = re.sub(r"^(swiss|canadian|australian|century|light) ", r"\1-", name)
    if (raised := re.match(r"(?i)(sq)|cubic", word)) and " " in word:
        name = f"{_SHORT.get(name.rstrip('s'), name)}^{2 if raised[1] else 3}"
    name = (
        re.sub(r"(?:°|degrees?)\s", "°", name)
        .replace("°celsius", "celsius")
        .replace("°fahrenheit", "fahrenheit")
    )
    decade = word == "s" and match.start("unit") == end and match.string[end - 1] == "0"
    if name in ("century", "centuries") and not match["ordinal"]:
        unit, end = ("years", Fraction(100)), match.end("unit")
    elif name in _UNITS and not decade:
        unit, end = _UNITS[name], match.end("unit")
    elif word and match.start("unit") == end and _UNSPACED.match(word):
        end = match.end("unit")
    elif word and match.start("unit") == end and word[0].isalpha():
        return None  # 1990s, 7up: part of a name
    if match["currency"]:
        unit = _UNITS.get(match["currency"].lower().rstrip("."), (match["currency"], Fraction(1)))
    dimension, factor = unit or (None, Fraction(1))
    return Quantity(value * factor, dimension, None, match.start(), end, value)


def _number_end(match: "regex.Match[str]") -> int:
    """Where the digits and an ordinal's letters end."""
    ends = [match.end(name) for name in ("bottom", "number", "exponent", "power", "raised") if match[name]]
    ordinal = re.match(rf"(?:{_ORDINAL})\b", match.string[max(ends) :])
    return max(ends) + (ordinal.end() if ordinal else 0)


def _value(match: "regex.Match[str]") -> Fraction | None:
    if match["top"]:
        return Fraction(int(match["whole"] or 0)) + Fraction(int(match["top"]), int(match["bottom"]))
    digits = re.sub(rf"{_GAP}", "", match["number"])
    digits = re.sub(r"['’](?=\d{3}(?:\D|$))", "", digits)
    if re.fullmatch(r"[1-9]\d{0,2}(,\d{2,3})*,\d{3}(\.\d+)?", digits):
        digits = digits.replace(",", "")
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+|[1-9]\d{0,2}(\.\d{3}){2,}", digits) or (
        re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", digits)
        and _UNITS.get((match["currency"] or match["unit"] or "").lower()) == _UNITS["€"]
    ):
        digits = digits.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d+,\d+", digits):
        digits = digits.replace(",", ".")
    if not re.fullmatch(r"\d*\.?\d+", digits):
        return None
    value = Fraction(digits)
    power = (match["exponent"] or match["power"] or "0").replace("−", "-")
    if abs(int(power)) > 400 or len(match["raised"] or "") > 3:
        return None
    return (value ** int(match["raised"]) if match["raised"] else value) * Fraction(10) ** int(power)


def _added(last: Quantity, quantity: Quantity, between: str) -> Quantity | None:
    """`1 hour 30 minutes`, `6 ft 2 in`, `3 pounds 50`: a smaller unit of the same kind directly behind."""
    if not re.fullmatch(r"\s?(?:,|and|und|et|y|e)?\s?", between) or not last.value or not quantity.stated:
        return None
    money = "GBP" if last.dimension == "pound" else last.dimension
    if money in _MONEY and last.value == last.stated and quantity.stated < 100:
        if quantity.dimension == "cents" or (quantity.dimension, money) == ("GBP", "GBP"):
            value = quantity.value
        elif quantity.dimension is None and between == " " and quantity.stated >= 10:
            value = quantity.value / 100
        else:
            return None
        return last._replace(
            value=last.value + value, stated=last.value + value, dimension=money, end=quantity.end
        )
    if last.value == last.stated * _UNITS["ft"][1] and quantity.dimension is None and quantity.stated < 12:
        # 5 foot 11
        return last._replace(value=last.value + quantity.stated * _UNITS["in"][1], end=quantity.end)
    if (last.dimension, quantity.dimension) == ("years", "months"):
        return last._replace(value=last.value + quantity.value / 12, end=quantity.end)
    if quantity.dimension not in ("time", "length", "mass") or quantity.dimension != last.dimension:
        return None
    if quantity.value / quantity.stated >= last.value / last.stated:
        return None
    return last._replace(value=last.value + quantity.value, end=quantity.end)


def _is_range(text: str, first: Quantity, between: str) -> bool:
    """`5-10`, `from 5 to 10`, `between 5 and 10`; but `5 and 10` are two numbers."""
    if between.strip().lower() != "and":
        return True
    return bool(re.search(r"\bbetween\s*$", text[: first.start], re.IGNORECASE))


def _close(one: Fraction, other: Fraction) -> bool:
    if not one or not other:
        return one == other
    if abs(one - other) <= Fraction(1, 10**6) * max(abs(one), abs(other)):
        return True
    return _rounds_to(one, other) or _rounds_to(other, one)


def _converted(one: Quantity, other: Quantity) -> bool:
    """Whether one is the other in a unit of another system, rounded to three digits or more: 1,083 ft is 330 m, 238,900 mi are
    384,400 km."""
    places = _places(one.stated)
    if not one.stated or not other.stated or places is None:
        return False
    unit, others = one.value / one.stated, other.value / other.stated
    decimal = str(unit / others).strip("10/") == ""
    return not decimal and any(
        round(other.value / unit, rounded) == one.stated
        for rounded in range(places, places - 4, -1)
        if abs(one.stated) * Fraction(10) ** rounded >= 100
    )


def _rounds_to(one: Fraction, decimal: Fraction) -> bool:
    """Whether a number that no decimal is, such as 2/3, is this one (0.67, 0.667) but for its last of two or more places."""
    if one.denominator == 1 or _places(one) is not None or (places := _places(decimal)) is None or places < 2:
        return False
    return round(one, places) == decimal


def _places(number: Fraction) -> int | None:
    """How many decimal places a number has; None without an end, or with more than anyone writes."""
    return next((places for places in range(13) if 10**places % number.denominator == 0), None)
