"""What else a country, a language, a currency or a city is called in the official languages of the world, from Unicode's CLDR, which
the package `babel` carries: a city where it gives a time zone its name, as most capitals do. And names in the letters of others.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

import regex
from babel import languages, localedata

from ghosttrack.common.maths.text import fold_marks
from ghosttrack.stages.track.matching.words import table

_WHOLE = 200
"""Countries and parts of the world that a language names at least, to be one that CLDR has whole."""
_NOTE = re.compile(r"(.*\S) ?[(（](.*)[)）]")
"""`Myanmar (Burma)`."""
_OTHER_SCRIPT = regex.compile(r"[^\p{Latin}\P{L}]")
_AROUND = re.compile(r"^[*\"' ]*(?:\w{1,3}(?:'|\s+))?|[.!*\"' ]+$")
"""An article, perhaps, and marks."""
_NAME = regex.compile(r"(?<!\p{L})\p{Lu}\p{Ll}{5,}(?!\p{L})")
_LETTERS = str.maketrans(table("names")["letters"])
_SPELLINGS = [
    (re.compile(pattern), sound)
    for pattern, sound in (
        ("tch|tsch", "ch"), ("sch", "sh"), ("kh", "h"), ("ff$", "v"), ("w", "v"), ("x", "ks"), ("c(?!h)", "k"), ("ph", "f"),
        ("er$", "r"), ("yo|[yi]e|(?<=[cs]h)o(?=v)", "e"), ("i?[yj]+|ii$", "i"),
    )
]  # fmt: skip
"""Ways to write the sounds of Slavic and Greek names."""
Thing = tuple[str, str]
"""A kind and CLDR's code: `territories`, `DE`."""


def respelled(answer: str, golds: Iterable[str]) -> str:
    """The answer with longer names that sound as those of right ones spelled as there: `Чайковский` for Tchaikovsky."""
    spellings = {_sounds(name): name for gold in golds for name in _NAME.findall(gold)}
    return (
        _NAME.sub(lambda found: spellings.get(_sounds(found[0]), found[0]), answer) if spellings else answer
    )


@lru_cache(maxsize=4096)
def _sounds(name: str) -> str:
    """A name in small Latin letters, one a sound."""
    said = fold_marks(name.lower()).translate(_LETTERS)
    for pattern, sound in _SPELLINGS:
        said = pattern.sub(sound, said)
    return said


def other_names(name: str, answer: str) -> Iterator[str]:
    """The names of what a name means that an answer may state: those that are in it where they are English or of another script,
    and of the rest what is the whole answer, since `Island` is German for Iceland."""
    things, names = _things()
    said = _key(answer)
    whole = {said.strip(), _AROUND.sub("", said)}
    for thing in things.get(_key(name.strip()), ()):
        for other, english in names[thing].items():
            key = _key(other)
            within = key in said and (english or _OTHER_SCRIPT.search(other))
            if key in whole or (within and not _of_longer(key, thing, said)):
                yield other


def _key(name: str) -> str:
    return name.casefold().replace("’", "'")


def _of_longer(name: str, thing: Thing, said: str) -> bool:
    """Whether a text has the name in that of another thing: `กินี` in `อิเควทอเรียลกินี`."""
    return any(
        name in longer and name != longer and longer in said and thing not in meant
        for longer, meant in _things()[0].items()
    )


@lru_cache(maxsize=1)
def _things() -> tuple[dict[str, set[Thing]], dict[Thing, dict[str, bool]]]:
    """Names in small letters to what they mean, and back, with whether they are English. A name of two things of a kind is
    none, as `Kongo`, nor is that of a country a city's or a language's."""
    countries = [code for code in localedata.load("en")["territories"] if len(code) == 2]
    tongues = {
        tongue for code in countries for tongue in languages.get_official_languages(code, de_facto=True)
    }
    names: dict[Thing, dict[str, bool]] = defaultdict(dict)
    for tongue in ("en", *sorted(filter(localedata.exists, tongues))):
        if len(localedata.load(tongue, merge_inherited=False).get("territories", {})) >= _WHOLE:
            for thing, name in _named(tongue):
                names[thing].setdefault(name, tongue == "en")
    things: dict[str, set[Thing]] = defaultdict(set)
    for thing, called in names.items():
        if thing[0] == "time_zones":  # Europe/Moscow
            called[thing[1].rpartition("/")[2].replace("_", " ")] = True
        for name in called:
            things[_key(name)].add(thing)
    for name, meant in things.items():
        kinds = [kind for kind, _ in meant]
        for thing in list(meant):
            if kinds.count(thing[0]) > 1 or (thing[0] != "territories" and "territories" in kinds):
                meant.remove(thing)
                names[thing] = {one: own for one, own in names[thing].items() if _key(one) != name}
    return things, names


def _named(tongue: str) -> Iterator[tuple[Thing, str]]:
    """What a language names, and its names of it; a currency's sign is one, and what brackets say of a country, but not another
    one's: `Myanmar (Burma)`, `Hong Kong (China)`."""
    data = localedata.load(tongue, merge_inherited=False)
    countries = data.get("territories", {})
    others = set(countries.values())
    for kind in ("territories", "languages", "currency_names"):
        yield from (((kind, code), name) for code, name in data.get(kind, {}).items())
    yield from ((("currency_names", code), sign) for code, sign in data.get("currency_symbols", {}).items())
    yield from (
        (("time_zones", zone), of["city"]) for zone, of in data.get("time_zones", {}).items() if "city" in of
    )
    for code, name in countries.items():
        if noted := _NOTE.fullmatch(name):
            yield from ((("territories", code), one) for one in noted.groups() if one and one not in others)
