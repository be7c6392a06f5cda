"""The matchers by name. `auto` reads from each right answer what kind it is; every other one may be asked for by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import regex

from ghosttrack.common.maths.text import compatible, normalise
from ghosttrack.stages.track.matching.alternatives import decided, offers
from ghosttrack.stages.track.matching.choices import chooses, is_letter, pole, verdict
from ghosttrack.stages.track.matching.dates import dates, short_days, times, whole_date, whole_time
from ghosttrack.stages.track.matching.forms import DECADE, forms_of, in_one_form
from ghosttrack.stages.track.matching.han import simplified
from ghosttrack.stages.track.matching.mentions import denied_before, denied_behind, states
from ghosttrack.stages.track.matching.people import names_person
from ghosttrack.stages.track.matching.quantities import (
    may_be_a_word,
    quantities,
    ratios,
    roman_numerals,
    spell_out,
    whole_quantity,
    with_numerals,
)
from ghosttrack.stages.track.matching.translations import respelled
from ghosttrack.stages.track.matching.words import either, words

_BEYOND = re.compile(r"(?:\b(?:before|after|prior to)|(?:^|\s)≠)\s*$", re.IGNORECASE)
_SO = re.compile(
    r"\b(?:so|therefore|thus|hence|leaves|leaving|equals|total|costs?),?\s+(?:(?:the|it|there|that|this|total|sum|result|costs?|is|are|was|were|makes?|gives?|leaves?|has|have|had|he|she|they|we|i|get|=)\s+)*(?=[$€£]?-?\d)",
    re.IGNORECASE,
)
_SHORT_YEAR = re.compile(r"(?<!\w)['’](\d\d)(?!\w)")
_NONE = re.compile(
    r"\b(?:none|nil|nought|(?:is|are|has|have) no)\b(?! (?:of the|less|fewer|more)\b)", re.IGNORECASE
)
_LAST_FIRST = regex.compile(
    r"^\W*(\p{L}[^\s,()\d]*(?: [^\s,()\d]+){0,2}), ([\p{Lu}\p{Lo}][^\s,()\d]*(?: [^\s,()\d]+){0,2}?\.?)\W*$"
)
_ITEMS = re.compile(rf"\s*(?:,|;|&|\b(?:{either('and')})\b|\n)+\s*(?:and\s)?\s*")
_COMPOUND = regex.compile(r"(?<=\p{Ll})-(?=\p{Lu}\p{Ll})")
_HAN_ITEMS = re.compile("[、和与與及]")
_FILLERS = frozenset(
    map(normalise, (*words("yes"), *words("perhaps"), "please", "obviously", "respectively"))
)
_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")
_CONCLUDES = re.compile(
    rf"(?:(?<![a-zа-я])(?:{either('concludes')})(?!(?<=[a-z])[a-z])\s?:?|####|\\boxed\{{)(?!\W*(?:correct|right|simple|clear|obvious|easy|known|given|found)\b)",
    re.IGNORECASE,
)
_MAY_BE_UNIT = re.compile(r"[^\W\d_][\w /^²³.]{0,29}")
F1_RIGHT = 0.5
"""Least token F1 of a right answer."""


class Key(NamedTuple):
    """What an answer is compared with. golds: all right answers; choices: the options, where there were any."""

    golds: tuple[str, ...]
    choices: tuple[str, ...] = ()
    person: bool = False
    """Whether a person is asked for, who may be named by surname."""


def exact(answer: str, key: Key) -> bool:
    """The answer is a right one and nothing else, but for form; numbers and dates by their value."""
    return any(_is(answer, gold) for gold in key.golds)


def contains(answer: str, key: Key) -> bool:
    """The answer states a right one in whole words and does not deny it; a note in brackets behind it may be left out."""
    answer = re.sub(r"(?<=\d0)['’](?=s\b)", "", concluded(answer))
    answer = in_one_form(answer)
    key = key._replace(golds=tuple(map(in_one_form, key.golds)))
    if any(_lists_more(answer, gold) for gold in key.golds):
        return False
    if any(
        states(answer, gold) or _states_all(answer, gold) or _same_unit(answer, gold) for gold in key.golds
    ):
        return True
    forms = {form for gold in key.golds for form in forms_of(gold, answer)}.difference(key.golds)
    if any(states(answer, form) for form in forms):
        return True
    swapped = answer if offers(answer) else _LAST_FIRST.sub(r"\2 \1", answer)
    if swapped != answer and any(states(swapped, gold) for gold in key.golds):
        return True  # Korea, South
    compounds = dict.fromkeys((swapped, _COMPOUND.sub(" ", swapped)))
    if any(names_person(said, name, key.person) for name in (*key.golds, *forms) for said in compounds):
        return True
    numbered = [gold for gold in map(with_numerals, (*key.golds, *forms)) if any(c.isdecimal() for c in gold)]
    if numbered and any(states(with_numerals(answer), gold) for gold in numbered):
        return True
    alike = respelled(answer, key.golds)
    return alike != answer and contains(alike, key)


def concluded(answer: str) -> str:
    """What stands behind the last `the answer is`, `####` or `\\boxed{`, where reasons come before it; else all."""
    found = list(_CONCLUDES.finditer(answer))
    return answer[found[-1].end() :] if found and normalise(answer[found[-1].end() :]) else answer


def _states_all(answer: str, gold: str) -> bool:
    """Whether the answer states each item of a list (`red, green and blue`), in any order."""
    if gold[:1] in ("(", "["):  # a point, an interval: in order
        return gold.replace(" ", "") in answer.replace(" ", "")
    items = [item for item in (_HAN_ITEMS if "、" in gold else _ITEMS).split(gold) if normalise(item)]
    return len(items) > 1 and all(states(_HYPHEN.sub(" ", answer), item) for item in items)


def _same_unit(answer: str, gold: str) -> bool:
    """Whether both are a unit and nothing else: `kg` and kilogram."""
    if not all(_MAY_BE_UNIT.fullmatch(text.strip()) for text in (answer, gold)):
        return False
    said, wanted = (whole_quantity(f"1 {text.strip()}") for text in (answer, gold))
    return bool(said and wanted and said.dimension and wanted.dimension and said.same(wanted))


def _lists_more(answer: str, gold: str) -> bool:
    """Whether the answer is a list of single words with those of the right one's and others: `Crosby, Stills, Nash & Young`."""
    wanted, said = (set(map(normalise, _ITEMS.split(compatible(text)))) for text in (gold, answer))
    more = said - wanted
    return (
        len(wanted) > 1
        and wanted < said
        and not any(" " in one for one in said)
        and not more & _FILLERS
        and "" not in more
    )


def number(answer: str, key: Key) -> bool:
    """The answer holds the number, by value and unit; as a range only where the right answer is one."""
    return any(_holds_number(answer, gold) for gold in key.golds)


def date(answer: str, key: Key) -> bool:
    """The answer holds the date, however it is written; it may say more than the right answer, not less."""
    answer = spell_out(answer)
    said = [
        reading
        for found in (*dates(answer), *short_days(answer))
        if not denied_before(answer[: found.start])
        for reading in found.readings
    ]
    return any(wanted.within(one) for gold in key.golds for wanted in whole_date(gold) for one in said)


def time(answer: str, key: Key) -> bool:
    """The answer holds the time of day."""
    return any((wanted := whole_time(gold)) and any(map(wanted.same, times(answer))) for gold in key.golds)


def choice(answer: str, key: Key) -> bool:
    """The answer chooses the right option, by letter or text, and no other."""
    return any(chooses(answer, gold, key.choices, _says) for gold in key.golds)


def yes_no(answer: str, key: Key) -> bool:
    """The answer says yes or no as a right one does."""
    said = verdict(answer)
    return said is not None and any(pole(gold) is said for gold in key.golds)


def f1(answer: str, key: Key) -> bool:
    """Half of the words in common or more, by F1 (SQuAD)."""
    return any(token_f1(answer, gold) >= F1_RIGHT for gold in key.golds)


def auto(answer: str, key: Key) -> bool:
    """By the kind of each right answer: option, yes or no, number, date, or name."""
    if key.choices:
        return choice(answer, key)

    def right(text: str) -> bool:
        return any(_says(text, gold, key.person) for gold in key.golds)

    if not right(answer):
        return False
    rest = answer if any(map(offers, key.golds)) else decided(answer, right)
    return rest == answer or right(rest)


def _is_day(answer: str, key: Key) -> bool:
    """`25 December` where the right answer is `25/12`."""
    return any({*whole_date(answer)} & {*whole.readings} for gold in key.golds for whole in short_days(gold))


def _says(answer: str, gold: str, person: bool = False) -> bool:
    return KINDS[kind_of(gold)](answer, Key((gold,), person=person))


MATCHERS: dict[str, Callable[[str, Key], bool]] = {
    "auto": auto, "exact": exact, "contains": contains, "number": number, "choice": choice, "yes_no": yes_no, "f1": f1,
}  # fmt: skip
KINDS: dict[str, Callable[[str, Key], bool]] = MATCHERS | {
    "date": lambda a, k: date(a, k) or contains(a, k),
    "number": lambda a, k: (
        number(a, k) or _is_day(a, k) or (all(map(may_be_a_word, k.golds)) and contains(a, k))
    ),
    "time": lambda a, k: time(a, k) or (contains(a, k) and not times(a)),
}


@lru_cache(maxsize=16_384)
def kind_of(gold: str) -> str:
    """What kind of answer a right one is, which says how `auto` compares it."""
    if pole(gold) is not None:
        return "yes_no"
    if is_letter(gold):
        return "choice"
    if whole_date(gold):
        return "date"
    if whole_time(gold):
        return "time"
    if DECADE.fullmatch(gold):
        return "contains"
    point = re.match(r"[(\[].*,.*[)\]]$", gold)
    return "number" if whole_quantity(gold) and not point else "contains"


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of words (Rajpurkar et al. 2016)."""
    said, wanted = normalise(answer).split(), normalise(gold).split()
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def applicable(golds: Sequence[str], choices: Sequence[str]) -> list[str]:
    """Matchers that can say something of such right answers, for the table of their disagreements."""
    kinds = {kind_of(gold) for gold in golds}
    special = [kind for kind in ("number", "yes_no") if kind in kinds]
    return ["exact", "contains", "f1", *special, *(["choice"] if choices or "choice" in kinds else [])]


def _is(answer: str, gold: str) -> bool:
    if answer.strip() == gold.strip():
        return True
    if (said := simplified(normalise(answer))) and said == simplified(normalise(gold)):
        return True
    one, other = whole_quantity(answer), whole_quantity(gold)
    if one and other:
        return one.same(other)
    return bool(set(whole_date(answer)) & set(whole_date(gold)))


def _holds_number(answer: str, gold: str) -> bool:
    wanted = whole_quantity(gold)
    if wanted is None:
        return False
    answer = concluded(answer)
    if re.fullmatch(r"\W*[ivx]{2,}\W*", answer):
        answer = answer.upper()
    if (
        wanted.dimension is None
        and (short := _SHORT_YEAR.search(answer))
        and wanted.value % 100 == int(short[1])
    ):
        return 1000 <= wanted.value < 2100 and not denied_before(answer[: short.start()], "0")
    if re.fullmatch(r"\W*[IVXLCDM]\W*", answer):
        return with_numerals(f"Number {answer.strip()}").endswith(f" {wanted.value}")
    if so := list(_SO.finditer(answer)):
        answer = answer[so[-1].end() :]
    if any(
        q.same(wanted)
        and not _BEYOND.search(text[: q.start])
        and not denied_before(text[: q.start], "0")
        and not denied_behind(text[q.end :])
        for text in dict.fromkeys(
            (spell_out(answer), ratios(spell_out(answer)), _other_marks(spell_out(answer), gold))
        )
        for q in (*quantities(text), *roman_numerals(text))
    ):
        return True
    if not wanted.value and _NONE.search(spell_out(answer)):
        return True
    if wanted.dimension == "centuries" and re.search(rf"\b{(wanted.value - 1) * 100}['’]?s\b", answer):
        return True
    years = {reading.year for found in dates(answer) for reading in found.readings}
    if wanted.dimension is None and wanted.value in years:
        return True
    return not quantities(spell_out(gold)) and states(answer, gold)


def _other_marks(answer: str, gold: str) -> str:
    """The answer with `384.400` as 384,400 and `3,142` as 3.142, where the right answer may be such a number in another country."""
    mark = r"\." if re.search(r"\d{4}|\d,\d{3}", gold) else ","
    if mark == "," and not re.search(r"(?<!\d)\d{1,3}\.\d{3}(?!\d)", gold):
        return answer
    return re.sub(
        rf"(?<![\d.,])([1-9]\d{{0,2}}|0){mark}(\d{{3}})(?![\d.,]*\d)",
        rf"\1{',' if mark != ',' else '.'}\2",
        answer,
    )
