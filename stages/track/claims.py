"""The claims of a profile of a country, found in its text and labelled by what is known of the country.

A claim is the stretch that says what the capital, the currency, a neighbour … is. It is found by the words that lead to it, and
compared with all right answers of its relation. One that those cannot decide (no right answer is known, half of a name is
said, a sea is called a neighbour, something is denied that is not so) is no claim here: it is left without a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import regex

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.mentions import denied_before, states
from ghosttrack.stages.track.matching.quantities import spell_out, whole_quantity

Facts = Mapping[str, Sequence[str]]
"""Relation to all right answers; () where the right answer is that there is none."""

POPULATION_FACTOR = 1.25
"""A number of people is right within this factor, up or down: sources of other years differ by less."""


class Claim(NamedTuple):
    """Characters [start, end) of a text, what they tell, and whether it is wrong (1) or right (0)."""

    start: int
    end: int
    label: int
    relation: str


_WORD = r"(?:(?:St|Mt|Dr|Ste)\.|(?:\p{Lu}\.){2,}|(?:isi)?\p{Lu}[\p{L}\p{M}'’ʻ]*(?:[-–][\p{L}\p{M}'’ʻ]+)*)"
_SMALL = r"(?:of|de|da|do|du|del|della|la|las|le|les|los|the|al|el|es)"
_NAME = rf"{_WORD}(?:[ ](?:{_SMALL}[ ]){{0,2}}{_WORD})*"
_COINS = r"(?!(?:and|or|which|but|as|in|with|because)\b)[\p{L}\p{M}'’-]+(?:[ ](?!(?:and|or|which|but|as|in|with|because)\b)[\p{L}\p{M}'’-]+){0,4}"
_PEOPLE = r"\d+(?:[.,]\d+)*(?:[ ](?:million|billion|thousand|lakh|crore))?"
_LEAD = r"(?:(?:not|no longer|never|only|called|known as|the|an?|city of|both|mainly|mostly|predominantly|about|around|over|nearly|almost|roughly|approximately|some|an estimated|estimated at|more than|less than)\s)*"
_NEXT = regex.compile(r"(?:\s(?:to|in|on)\sthe\s[\p{L}-]+)?(?:,?\s(?:and|or|as\swell\sas)\s|,\s|/)(?:the\s)?")
_ENDS = regex.compile(r"(?:\s(?:to|in|on)\sthe\s[\p{L}-]+)?(?=\s*(?:[.,;:()\n]|$)|\s(?:and|or)\s)")
_IS = r"(?:\*\*)?(?:\s(?:is|are)\s|\s?:(?:\*\*)?\s*)"
_CONTINENTS = regex.compile(
    r"\b(?:Africa|Asia|Europe|Oceania|Australia|Antarctica|Caribbean|(?:North|South|Central) America)\b"
)
_WATERS = regex.compile(
    r"\b(?:Sea|Ocean|Gulf|Lake|River|Bay|Strait|Straits|Channel|Mountains?|Desert|Coast|Atlantic|Pacific|Mediterranean)\b"
)
_BRANCHES = {
    "christian": "catholic protestant orthodox anglican lutheran evangelical baptist methodist presbyterian adventist mormon pentecostal",
    "muslim": "sunni shia shiite ibadi",
}  # fmt: skip
_BRANCH_OF = {branch: family for family, names in _BRANCHES.items() for branch in names.split()}
_BELIEFS = regex.compile(
    "christian|muslim|islam|hindu|buddh|jewish|judais|sikh|shinto|taois|confucian|animis|atheis|"
    + "|".join(_BRANCH_OF)
)


def claims(text: str, subject: str, facts: Facts) -> list[Claim]:
    """The claims of a text about a subject that its facts decide, in order, none over another."""
    found = [
        claim for relation, cues, item, judge in _RELATIONS
        if relation in facts
        for cue in _cues(cues, subject).finditer(text)
        for claim in _judged(text, cue.end(), item, relation, partial(judge, golds=facts[relation]))
    ]  # fmt: skip
    if "border" in facts:
        label = int(bool(facts["border"]))
        cues = r"(?:no land borders?|not (?:share|have) (?:any )?(?:land )?borders?(?: with any)?)\b"
        found += [Claim(match.start(), match.end(), label, "border") for match in regex.finditer(cues, text)]
    kept: list[Claim] = []
    for claim in sorted(set(found)):
        if not kept or claim.start >= kept[-1].end:
            kept.append(claim)
    return kept


def label_of(found: Sequence[Claim]) -> int | None:
    """Of a whole profile: wrong where half of its claims or more are; None without claims."""
    return int(2 * sum(claim.label for claim in found) >= len(found)) if found else None


def relations_in(offsets: Sequence[tuple[int, int]], found: Sequence[Claim]) -> list[str | None]:
    """Of each token, by its characters, the relation of the claim that it is in; the first where it is in two."""
    return [
        next((claim.relation for claim in found if first < claim.end and claim.start < stop), None)
        for first, stop in offsets
    ]


def _cues(pattern: str, subject: str) -> regex.Pattern[str]:
    """`ITS` is what belongs to the subject, `IT` the subject, `OF` a subject that is named again."""
    name = rf"(?:the\s)?{regex.escape(subject)}"
    words = {
        "ITS": rf"(?:\bits|\bthe(?:\s(?:country|nation|island)['’]s)?|\b{name}['’]s|^[\s*•-]*)\s?(?:\*\*)?",
        "IT": rf"(?:\bit|\bthe\s(?:country|nation|island)|\b{name})",
        "OF": rf"(?:\s(?:of|in)\s(?:{name}|the\s(?:country|nation|island)))?",
    }
    for word, meaning in words.items():
        pattern = pattern.replace(word, meaning)
    return regex.compile(rf"(?i:{pattern}){_LEAD}", regex.MULTILINE)


def _judged(
    text: str, start: int, item: regex.Pattern[str], relation: str, judge: Callable[[str], int | None]
) -> Iterator[Claim]:
    """The claims of a list that begins at `start`: `Kenya, Uganda and the Sudan`."""
    sentence = max(text.rfind(mark, 0, start) for mark in (". ", "\n")) + 1
    first = True
    while match := item.match(text, start):
        if not first and not _ENDS.match(text, match.end()):
            return  # the next sentence begins: `…, and Oslo is its largest city`
        label = judge(match[0])
        if denied_before(text[sentence : match.start()]):
            label = 1 if label == 0 else None
        if label is not None:
            yield Claim(match.start(), match.end(), label, relation)
        further = _NEXT.match(text, match.end())
        if not further:
            return
        first, start = False, further.end()


def name_label(said: str, golds: Sequence[str]) -> int | None:
    """0 where a right name is said, with or without more; None where only a part of one is."""
    return 0 if any(states(said, gold) for gold in golds) else currency_label(said, golds)


def currency_label(said: str, golds: Sequence[str]) -> int | None:
    """A currency is its whole name: the Ugandan shilling is not the shilling."""
    key, keys = _key(said), {_key(gold) for gold in golds}
    if key in keys:
        return 0
    return None if any(f" {key} " in f" {gold} " for gold in keys) else 1


def continent_label(said: str, golds: Sequence[str]) -> int | None:
    if any(states(said, gold) for gold in golds):
        return 0
    return 1 if _CONTINENTS.search(said) else None


def border_label(said: str, golds: Sequence[str]) -> int | None:
    return None if _WATERS.search(said) else name_label(said, golds)


def religion_label(said: str, golds: Sequence[str]) -> int | None:
    """A branch is not decided where only its religion is known."""
    if not _BELIEFS.search(said.lower()):
        return None
    label = name_label(said, golds)
    known = " ".join(golds).lower()
    for branch, family in _BRANCH_OF.items():
        if label and branch in said.lower() and family in known:
            return label if any(other in known for other in _BRANCHES[family].split()) else None
    return label


def year_label(said: str, golds: Sequence[str]) -> int | None:
    return int(said not in golds) if golds else None


def population_label(said: str, golds: Sequence[str]) -> int | None:
    number, people = whole_quantity(spell_out(said)), float(golds[0])
    if number is None or not number.value:
        return None
    ratio = float(number.value) / people
    return int(not 1 / POPULATION_FACTOR <= ratio <= POPULATION_FACTOR)


def _key(name: str) -> str:
    """A name as it is compared: without `people` behind it and the s of a plural."""
    words = normalise(name).removesuffix(" people").removesuffix(" citizens")
    return words.removesuffix("s") if len(words) > 4 else words


_PLACE = r"(?:an?\s(?:[\p{L}-]+\s){0,4}(?:country|nation|state|island|republic|territory|archipelago|kingdom)(?:\s(?:nation|country|state|city))?\s)?"
_RELATIONS: tuple[tuple[str, str, regex.Pattern[str], Callable[..., int | None]], ...] = tuple(
    (relation, cues, regex.compile(item), judge)
    for relation, cues, item, judge in (
        ("continent", rf"(?:IT\sis\s{_PLACE}(?:that\sis\s)?(?:located\s|situated\s)?(?:in|on)\s(?:the\scontinent\sof\s)?"
         rf"|ITS\s?continent{_IS})", _NAME, continent_label),
        ("capital", rf"ITS\s?capital(?:\scity)?OF{_IS}", _NAME, name_label),
        ("largest_city", rf"ITS\s?largest\scityOF{_IS}", _NAME, name_label),
        ("official_language", rf"ITS\s?official\slanguages?OF{_IS}", _NAME, name_label),
        ("currency", rf"ITS\s?(?:official\s)?currencyOF{_IS}", _COINS, currency_label),
        ("demonym", rf"(?:ITS\s?people\sare\s(?:called|known\sas)\s|ITS\s?(?:demonym|nationality)OF{_IS})", _NAME, name_label),
        ("religion", rf"(?:(?:most|(?:the|a)\smajority)\sof\s(?:its|the)\s(?:people|population|inhabitants)\s(?:are|is|follow|practi[cs]e)\s"
         rf"|ITS\s?(?:main|largest|dominant|predominant|majority)\sreligionOF{_IS})", _NAME, religion_label),
        ("population", r"IT\shas\s", rf"{_PEOPLE}(?=[ ](?:people|inhabitants|residents|citizens)\b)", population_label),
        ("population", rf"(?:IT\shas\sa\spopulation\sof\s|ITS\s?populationOF(?:\sof\s|{_IS}))", _PEOPLE, population_label),
        ("border", r"(?:IT\s(?:has|shares)\s(?:a\s|its\s)?(?:land\s)?borders?\swith\s|IT\s(?:is\sbordered\sby|borders(?:\son)?)\s)",
         _NAME, border_label),
        ("independence_from", r"(?:IT\s(?:became|has\sbeen|is)\sindependent|(?:gained|achieved|declared|won)\s(?:its\s)?independence)\s"
         r"(?:in\s\d{4}\s)?from\s", _NAME, name_label),
        ("independence_year", r"(?:IT\s(?:became|has\sbeen|is)\sindependent|(?:gained|achieved|declared|won)\s(?:its\s)?independence)"
         r"(?:[^.\n\d]|\d{1,2}\s)*?\b(?:in|on|since)\s(?:\d{1,2}\s)?(?:\p{L}+\s)?(?:\d{1,2},\s)?(?=[12]\d{3}\b)", r"\d{4}", year_label),
    )
)  # fmt: skip
