"""Is a person named in another form? By surname where a person is asked for (`who`, `the author of`) or titled, with or without
initials, and by initials: `Rowling`, `President Obama`, `Franklin Roosevelt`, `J. Smith` of John Smith, `JFK`; but not `Emily Brontë` for Charlotte.

Acronyms of other names (`UN`, `NASA`) are read here too, in both directions.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import regex

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.mentions import states, without_longer
from ghosttrack.stages.track.matching.words import either, table, words

_TITLES = frozenset(words("titles"))
_WHO = regex.compile(rf"(?:(?<!\p{{L}})|(?=\p{{Han}}))(?:{either('who')})(?![\p{{Latin}}])", regex.I)
_NOT_OF = r"(?!(?:of|by|in|on|at|for|with|whose|which|that|de|del|di|du|des|von|vom)\b)"
_ROLE = regex.compile(
    rf"(?:(?:which|what|that)\s)?(?:{_NOT_OF}[\p{{L}}\p{{N}}.’'-]+\s){{0,5}}(?:[ld]['’])?(?:{either('roles')})\b(?!['’]s)"
    r"(?!.*\b(?:in|on|at|of|to|from|with|for|near|as|by)\W*$)",
    regex.I,
)
"""`The author of Hamlet is`, `Name the first king of …`; not `The capital of the king`, `The king's house`, `The king was born in`."""
_MADE_BY = regex.compile(rf"\b(?:{either('made_by')})\W*$", regex.I)
_LEFT_OUT = frozenset(table("names")["left_out"].split())
_NO_SURNAME = frozenset(table("names")["no_surname"].split())
_PARTICLES = frozenset(table("names")["particles"].split())
_NAME = regex.compile(
    r"(?:(?:\p{Lu}\.[\s-]?)+|\p{Lu}[\p{L}\p{M}'’-]*\.?\s)(?:[\p{L}\p{M}'’.-]+\s)*(\p{Lu}[\p{L}\p{M}'’-]+)"
)
_GIVEN = regex.compile(r"((?:(?:\p{Lu}\.[\s-]?)+|\p{L}[\p{L}'’-]*\.?\s)*)$")


def asks_who(question: str) -> bool:
    """Whether a question asks for a person."""
    asked = question.rpartition("Q: ")[2].partition("\n")[0]
    return bool(_WHO.search(question) or _ROLE.match(asked) or _MADE_BY.search(asked))


def names_person(answer: str, gold: str, asked: bool) -> bool:
    """Whether the answer names the person that `gold` names, in another form. asked: whether a person is asked for."""
    answer, gold = _bare(without_longer(answer, gold)), _bare(gold.strip())
    if not (match := _NAME.fullmatch(gold)) or (not asked and match[1] in _NO_SURNAME):
        return False
    surname, wanted = match[1], _parts(gold[: match.start(1)])
    namesake = without_longer(gold, f"{wanted[0]} {surname}") != gold
    other = rf"[ ](?!{regex.escape(wanted[0])})\p{{Lu}}\p{{Ll}}"  # Lincoln Memorial
    for found in regex.finditer(rf"(?<![\p{{L}}-]){regex.escape(surname)}(?![\p{{L}}-]|{other})", answer):
        before = _given(answer[: found.start()])
        given = [part for part in before if part.lower() not in _TITLES]
        if not given:
            same = asked or bool(before) or all(len(part) == 1 for part in wanted)
        elif namesake and len(given) == 1:
            same = False
        elif all(len(part) == 1 for part in given) or all(len(part) == 1 for part in wanted):
            same = given[0][0] == wanted[0][0]
        else:
            same = given == [part for place, part in enumerate(wanted) if not place or len(part) > 1]
            same |= asked and given == wanted[-len(given) :]  # García Márquez
            same |= _middle_names_apart(given, wanted, surname)
        if same and states(answer, surname):
            return True
    return False


def _middle_names_apart(given: list[str], wanted: list[str], surname: str) -> bool:
    """Whether only one of two names has middle names: `Barack Hussein Obama`."""
    if given[0] != wanted[0] or min(len(given), len(wanted)) > 1 or surname in _NO_SURNAME:
        return False
    return wanted[0].lower() not in table("names")["other_places"]


@lru_cache(maxsize=16_384)
def _acronym(gold: str) -> tuple[str, "regex.Pattern[str] | None"]:
    """The acronym of a name, and how an answer writes it; or of an acronym, and how a name of it is written."""
    parts = [part for part in regex.findall(r"\p{L}[\p{L}'’]*", gold) if part.lower() not in _LEFT_OUT]
    if len(parts) > 1 and all(part[0].isupper() for part in parts):
        short = "".join(part[0] for part in parts)
        return short, regex.compile(r"(?<![\p{L}.])" + r"\.?\s?".join(short) + r"(?!\p{L})")
    if regex.fullmatch(r"(?:\p{Lu}\.?){2,6}", gold):
        short = gold.replace(".", "")
        small = rf"\s(?:(?:{'|'.join(_LEFT_OUT)})\s)*"
        name = small.join(letter + r"\p{Ll}+" for letter in short)
        return short, regex.compile(rf"(?<!\p{{L}}){name}(?!\p{{L}}|\s\p{{Lu}})")
    return "", None


def acronym_forms(answer: str, gold: str) -> Iterator[str]:
    """What the answer says for a right answer, or of one, as an acronym: `UN` for United Nations, and the other way round."""
    short, pattern = _acronym(gold)
    said = pattern.search(answer) if pattern else None
    if said and (len(short) > 2 or normalise(said[0]) == normalise(answer)):
        yield said[0]


def untitled(gold: str) -> str:
    """A name without the titles in front of it, where two words are left: Elizabeth II."""
    words = gold.split()
    while len(words) > 2 and words[0].rstrip(".").lower() in _TITLES:
        words.pop(0)
    return " ".join(words)


def _given(before: str) -> list[str]:
    """The names and titles that end a text, without what only begins a sentence in small letters."""
    parts: list[str] = []
    for part in reversed(_parts(_GIVEN.search(before)[1])):
        if part.lower() in _PARTICLES:
            continue
        if not part[0].isupper() and part.lower() not in _TITLES:
            break
        parts.insert(0, part)
    return parts


def _parts(names: str) -> list[str]:
    return [part.strip(".") for part in regex.findall(r"\p{L}[\p{L}'’-]*", names) if part not in _PARTICLES]


def _bare(text: str) -> str:
    """A text without the marks of its letters, in its own case."""
    text = unicodedata.normalize("NFD", text.translate({ord("’"): "'", ord("‘"): "'"}))
    return "".join(c for c in text if not unicodedata.combining(c))
