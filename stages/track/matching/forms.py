"""Other forms of a right answer, shorter or fuller: without a note in brackets or with what that says, without a title or a kind of
thing, as an acronym, and centuries and decades in all ways to say them."""

import re
import unicodedata
from collections.abc import Iterator

import regex

from ghosttrack.stages.track.matching.people import acronym_forms, untitled
from ghosttrack.stages.track.matching.translations import other_names
from ghosttrack.stages.track.matching.words import either, names, table, words

_GENERATION = re.compile(r",? Jr\.?$")
_OTHER_GENERATION = re.compile(r"\b(?:Sr|Senior|II|III|IV)\b")
_CENTURY = re.compile(r"(?:the )?(1[0-8])00['’]?s")
_NTH_CENTURY = re.compile(r"(?:the )?(\d\d?)(?:st|nd|rd|th) century")
_DECADES = ("Ns", *words("decade"))
DECADE = re.compile(f"(?:the )?(?:{'|'.join(_DECADES)})".replace("N", r"((?:\d\d)?\d0)"))
_PARTS = [
    (f"{part} ", re.compile(rf"(?i)\b(?:{either(part)})[- ](?:the )?(?=\d|\w+ century\b)"))
    for part in ("early", "mid", "late")
]
_PART = re.compile(r"(?:early|mid|late) ")
_WORLD_WAR = re.compile(r"\bWW ?(?=I{1,2}\b|[12]\b)")
_SEASON = re.compile(r"(?<![\d/–-])((1\d|20)\d\d)[/–-](?:\2)?(\d\d)(?![\d/–-])")
_NOTE = re.compile(
    r"(?<=\S)(?:\s+[(\[][^()\[\]]*[)\]]|\.js|,? (?:Inc|Ltd|Corp|Co|LLC|GmbH|plc|A?F\.?C|Corporation|Company)\.?)$"
)
"""What stands behind a name to tell it from others: Mercury (planet), Apple Inc."""
_NAME_NOTE = re.compile(r"(.*\S)\s+[(\[]([^()\[\]]+)[)\]]")
_NOTE_FIRST = re.compile(r"^[(\[][^()\[\]]+[)\]]\s+(?=\S)")
"""`(Sir) Paul McCartney`."""
_ALSO_CALLED = regex.compile(rf"(?i:{either('also_called')})[:,]?\s+(?=[\p{{Lu}}\p{{Lo}}])")
_OPTIONAL = regex.compile(r"(?<=\p{L}{2})[(\[](\p{L}{1,2}(?=[)\]]\p{L})|s|es|en?|n|er?|r|in|ed)[)\]]")
"""`colo(u)r`, `dog(s)`, but not `f(x)`."""
_LETTERS_APART = re.compile(r"[A-Z]{1,3}(?:/[A-Z]{1,3})+")
_EITHER_NAME = re.compile(r"[^/\d]{3,}(?:/[^/\d]{3,})+")
"""Bombay/Mumbai, but not AC/DC."""
_KINDS = "|".join(table("names")["kinds"].split())
_KIND = re.compile(rf"^(?:{_KINDS}) | (?:{_KINDS})$")
_OTHER_KIND = re.compile(rf" (?:{_KINDS}|{'|'.join(table('names')['other_kinds'].split())})\b", re.IGNORECASE)
_UNIVERSITY = re.compile(r"University of (\w+)|(\w+) University")
_UNIVERSITIES = frozenset(table("names")["universities"].split())


def forms_of(gold: str, answer: str) -> Iterator[str]:
    """Shorter or fuller forms of a right answer, where the answer names no other generation or century."""
    plain = _NOTE.sub("", gold)
    if not _noted_otherwise(answer, gold, plain):
        yield plain
    yield from _other_names(gold)
    yield from _named_sign(gold)
    yield from other_names(gold, answer)
    if part := _PART.match(gold):
        yield from (part[0] + form for form in forms_of(gold[part.end() :], answer))
    yield from (untitled(gold), *acronym_forms(answer, plain))
    if _EITHER_NAME.fullmatch(gold):
        yield from gold.split("/")
    if _GENERATION.search(gold) and not _OTHER_GENERATION.search(answer):
        yield _GENERATION.sub("", gold)
    if fuller := table("names")["fuller"].get(gold.replace(".", "")):
        yield from (fuller, *acronym_forms(answer, fuller))
    if (named := _UNIVERSITY.fullmatch(gold)) and (named[1] or named[2]) not in _UNIVERSITIES:
        yield f"{named[1]} University" if named[1] else f"University of {named[2]}"
    bare = _KIND.sub("", gold)
    if (
        bare != gold
        and (place := answer.find(bare)) >= 0
        and not _OTHER_KIND.match(answer, place + len(bare))
    ):
        yield bare  # Nile of the River Nile
    if century := _CENTURY.fullmatch(gold):
        yield f"{int(century[1]) + 1}th century"
    if century := _NTH_CENTURY.fullmatch(gold):
        yield f"{int(century[1]) - 1}00s"
    if decade := DECADE.fullmatch(gold):
        years = f"19{decade[decade.lastindex or 0]}"[-4:]  # the 70s
        yield from (said.replace("N", written) for said in _DECADES for written in (years, years[2:]))
        yield from (name for tens, name in names("decades") if tens == years[2])


def in_one_form(text: str) -> str:
    """The text with `early` for the beginning of a decade or century, and so on, World War for WW, and seasons as 1998-1999."""
    text = _SEASON.sub(r"\1-\2\3", _WORLD_WAR.sub("World War ", text))
    for part, pattern in _PARTS:
        text = pattern.sub(part, text)
    return text


def _other_names(gold: str) -> Iterator[str]:
    """What brackets say that a right answer may also be called, or leave open: `Nuuk (formerly Godthåb)`, `kilogram (kg)`,
    `Moscow (Москва)`, `colo(u)r`; not the note of `Lyon (France)`."""
    yield _NOTE_FIRST.sub("", gold)
    if _OPTIONAL.search(gold):
        yield from (_OPTIONAL.sub(r"\1", gold), _OPTIONAL.sub("", gold))
    if _LETTERS_APART.fullmatch(gold):
        yield gold.replace("/", "")  # AC/DC
    if noted := _NAME_NOTE.fullmatch(gold):
        name, note = noted.groups()
        if also := _ALSO_CALLED.match(note):
            yield note[also.end() :]
        elif _shortens(note, name) or _shortens(name, note) or _other_script(name, note):
            yield note


def _shortens(short: str, name: str) -> bool:
    """Whether a short word begins as a name does, and has letters of it in its order: `kg` of kilogram."""
    rest = iter(name.lower())
    return (
        len(short) < min(6, len(name)) and short.isalpha() and short[0].lower() == name[0].lower()
        and all(letter in rest for letter in short.lower())
    )  # fmt: skip


def _other_script(name: str, note: str) -> bool:
    latin, other = (
        {bool(regex.match(r"\p{Latin}", c)) for c in text if c.isalpha()} for text in (name, note)
    )
    return len(latin) == len(other) == 1 and latin != other and not note[0].islower()


def _noted_otherwise(answer: str, gold: str, plain: str) -> bool:
    """Whether the answer's note in brackets makes it another thing of that name: `Georgia (US state)`, not the country."""
    theirs = re.search(rf"{re.escape(plain)} \(([^()]*)\)", answer)
    notes = [found[found.lastindex or 0].split() for found in (_NAME_NOTE.fullmatch(gold), theirs) if found]
    return (
        len(notes) == 2 and all(note and note[-1].islower() for note in notes) and set(notes[0]).isdisjoint(notes[1])
    )  # fmt: skip


def _named_sign(gold: str) -> Iterator[str]:
    """A sign by its name: `&` is an ampersand, € the euro."""
    if len(sign := gold.strip()) == 1 and unicodedata.category(sign)[0] in "SP":
        name = unicodedata.name(sign).lower()
        yield from (name, name.removesuffix(" sign"))
