"""The relations of the factbook: for each, how its (subject, right answers) pairs are read from a country.

Relations ask either for a property of a country (`capital`, `currency`, …) or for the country of a thing
(`city`, `peak`, …). Right answers are ordered: the first is the one that is shown.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from ghosttrack.stages.prepare.countries import TABLES, Country, load_countries
from ghosttrack.stages.prepare.text import (
    PARTICLES,
    ascii_letters,
    drop_brackets,
    drop_notes,
    fold,
    is_clean_name,
    split_list,
    strip_markup,
)

Pairs = Iterator[tuple[str, list[str]]]

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"

_PARTS_OF_UK = {"london": "England", "ben nevis": "Scotland", "lough neagh": "Northern Ireland"}


def country_answers(country: Country) -> list[str]:
    """Accepted names of a country; for a territory also its sovereign's."""
    names = list(country.aliases)
    if country.sovereign:
        names += next(c.aliases for c in load_countries() if c.code == country.sovereign)
    return names


def place_answers(country: Country, name: str) -> list[str]:
    """Accepted names of the country of a place; in the United Kingdom also England, Scotland, …

    Empty where that part is not known: the model may rightly answer with it.
    """
    if country.code != "uk":
        return country_answers(country)
    part = _PARTS_OF_UK.get(fold(name)) or {fold(n): p for n, p in divisions(country)}.get(fold(name))
    return [*country_answers(country), part] if part else []


# Properties of a country. Subject: the country's name.


def capital(country: Country) -> Pairs:
    text = drop_notes(country.text("Government/Capital/name"))
    if not text or text.startswith(("no official", "administered")):
        return
    text = re.sub(r"\[[^\]]*\]", "", text)
    answers = []
    for item in split_list(text):
        name = drop_brackets(item).split(" in Romanian")[0]
        if is_clean_name(name.replace(",", "")) or name == "Washington":
            answers.append(name)
            inner = re.search(r"\(([^()]*)\)", item)
            for other in split_list(inner[1], ",/") if inner else ():
                other = re.sub(r"^aka |^Kiev is.*", "", other)
                if is_clean_name(other):
                    answers.append(other)
    answers = TABLES["capitals"].get(country.code, answers)
    if answers:
        yield country.name, answers


@lru_cache(maxsize=1024)
def _capitals(country: Country) -> dict[str, str]:
    """All names of its capital, by what they fold to."""
    return {fold(name): name for _, names in capital(country) for name in names}


def continent(country: Country) -> Pairs:
    reference = country.text("Geography/Map references").split("\n")[0].strip()
    accepted = TABLES["continents"].get(reference)
    if accepted is None:
        return
    if country.code in ("rs", "ri", "tu", "kz", "gg", "aj", "am", "cy"):
        accepted = list(dict.fromkeys([*accepted, "Europe", "Asia", "Eurasia"]))
    yield country.name, TABLES["continents_of"].get(country.code, accepted)


_PEGGED_TO_POUND = ("im", "je", "gi", "fk", "sh", "gk")


def currency(country: Country) -> Pairs:
    name = _currency_phrase(country)
    if not name:
        return
    answers = TABLES["currencies"].get(name)
    if answers is None:
        *adjective, unit = name.split()
        unit = TABLES["singular"].get(unit, unit.removesuffix("s") if unit not in ("tugriks",) else unit)
        answers = [" ".join([*adjective, unit])]
        if adjective:
            own = [*adjectives(country), country.name]
            own = own if _is_own_currency(country, " ".join(adjective)) else []
            answers += [f"{word} {unit}" for word in own]
            if unit not in ("dollar", "pound", "franc", "dinar", "krone", "krona"):
                answers.append(unit)
    if country.code in _PEGGED_TO_POUND:
        answers = [*answers, "pound sterling", "British pound"]
    yield country.name, answers


def _is_own_currency(country: Country, adjective: str) -> bool:
    """Whether `Burundi`/`Burundian` in `Burundi franc` means the country itself (and not `Swiss franc` abroad)."""
    return fold(adjective)[:4] == fold(country.name)[:4]


def currency_code(country: Country) -> Pairs:
    listed = re.findall(r"\(([A-Z]{2,3}(?:/[A-Z]{3})?)\)", country.text("Economy/Exchange rates/Currency"))
    codes = listed[0].split("/") if listed else [TABLES["codes_not_listed"].get(country.code, "")]
    modern = TABLES["modern_codes"]
    answers = [*(modern[code] for code in codes if code in modern), *codes]
    if country.code in _PEGGED_TO_POUND:
        answers.append("GBP")
    if answers[0]:
        yield country.name, list(dict.fromkeys(answers))


def _currency_phrase(country: Country) -> str:
    phrase = ascii_letters(country.text("Economy/Exchange rates/Currency"))
    phrase = phrase.split(" per US dollar")[0]
    return drop_brackets(phrase).strip()


def official_language(country: Country) -> Pairs:
    path = "People and Society/Languages"
    text = drop_notes((country.text(f"{path}/Languages") or country.text(path)).split("\n")[0])
    answers: list[str] = []
    for item in split_list(text):
        if not re.search(r"\((?:[^()]*[;, ])?official", item) or re.search(
            r"not official|semi-official", item
        ):
            continue
        name = re.sub(r"\s*[<>]?\s*[\d.]+%.*", "", drop_brackets(item))
        name = re.sub(r"\s+only$|^only ", "", name)
        for part in re.split(r" or |/| and ", name):
            part = part.strip()
            if part and part[0].islower() and part.startswith("isi"):
                answers.append(part)
            elif is_clean_name(part):
                answers += TABLES["languages"].get(part, [part])
    if answers:
        yield country.name, answers


def border(country: Country) -> Pairs:
    answers = list(dict.fromkeys(name for names in neighbours(country) for name in names))
    if answers:
        yield country.name, answers


def neighbours(country: Country) -> list[tuple[str, ...]]:
    """All names of each country that it shares a land border with, as the factbook lists them."""
    text = drop_notes(strip_markup(country.raw("Geography/Land boundaries/border countries")).split("\n")[0])
    found: list[tuple[str, ...]] = []
    for item in split_list(text, ";"):
        name = re.sub(r"\s+[\d,.]+\s*km.*", "", drop_brackets(item)).strip()
        neighbour = _by_name().get(fold(name))
        if neighbour is not None:
            found.append(neighbour.aliases)
        elif is_clean_name(name):
            found.append((name,))
    return found


def borders_nobody(country: Country) -> bool:
    """Whether the factbook says that it has no land borders."""
    return not neighbours(country) and bool(
        re.match(r"0 km\b", country.text("Geography/Land boundaries/total"))
    )


def adjectives(country: Country) -> list[str]:
    """The nationality adjectives of a country, `Burkinabe`, `Kittitian, Nevisian`; may be empty."""
    text = drop_notes(country.text("People and Society/Nationality/adjective"))
    found = []
    for item in split_list(text.replace(" or ", ", ").replace(" and ", ", ")):
        name = drop_brackets(re.sub(r"\((s|or|ian).*?\)", "", item))
        if is_clean_name(name) and name not in ("NA",) and not name.endswith(("Island", "Islands")):
            found.append(name)
    return found


def demonym(country: Country) -> Pairs:
    """The adjective, with the singular and plural nouns as further right answers."""
    answers = adjectives(country)
    noun = drop_notes(country.text("People and Society/Nationality/noun"))
    noun = re.sub(r"\((?:singular|collective|plural|adjective)[^)]*\)", "", noun)
    for item in split_list(noun.replace(" or ", ", ")):
        name = drop_brackets(item)
        if is_clean_name(name):
            answers.append(name)
            if f"{name}(s)" in item.replace(" ", ""):
                answers.append(f"{name}s")
    if country.code == "fr":
        answers += ["Frenchman", "Frenchwoman"]
    if answers and fold(answers[0]) != fold(country.name):
        yield country.name, answers


def internet_code(country: Country) -> Pairs:
    codes = re.findall(r"\.[a-z]{2}\b", country.text("Communications/Internet country code"))
    if codes:
        answers = [codes[0], *([".gb", ".co.uk"] if country.code == "uk" else [])]
        yield country.name, answers


_PHONE_OF_A_NEIGHBOUR = ("ly", "mv", "so")
"""Countries whose United States embassy sits abroad, so that its number says nothing about them."""


def calling_code(country: Country) -> Pairs:
    telephone = country.text("Government/Diplomatic representation from the US/telephone")
    match = re.match(r"\[\+?([1-9]\d{0,2})(?:-\d+)?\]", telephone)
    if match and country.code not in _PHONE_OF_A_NEIGHBOUR:
        yield country.name, [f"+{match[1]}"]


def independence_year(country: Country) -> Pairs:
    text = country.text("Government/Independence").split("\n")[0].split("notable earlier")[0]
    match = re.match(rf"(?:\d{{1,2}} )?(?:(?:{_MONTH}) )?(\d{{4}}) \([^()]*\b(?:from|independence)\b", text)
    if match:
        later = re.findall(rf"\d{{1,2}} (?:{_MONTH}) (\d{{4}})", text)
        yield country.name, list(dict.fromkeys([match[1], *later]))


_ADMINISTRATIONS = {"British": "UK", "French": "France", "Belgian": "Belgium"}


def independence_from(country: Country) -> Pairs:
    text = country.text("Government/Independence").split("\n")[0]
    answers: list[str] = []
    for phrase in re.findall(r"from ((?:the |a )?[A-Z][^();,]*)", text):
        mandate = re.search(r"under (\w+) administration", phrase)
        rulers = [_ADMINISTRATIONS.get(mandate[1], "")] if mandate else [phrase, *phrase.split(" and ")]
        for ruler in rulers:
            ruler = re.sub(r"^the |^a |-administered.*| by .*| in \d.*", "", ruler).strip()
            known = ruler in _by_exact_name() or ruler == "Yugoslavia"
            for name in TABLES["rulers"].get(ruler, [ruler] if known else []):
                if name not in answers and fold(name) != fold(country.name):
                    answers.append(name)
    if answers:
        yield country.name, answers


def largest_city(country: Country) -> Pairs:
    cities = urban_areas(country)
    # A lone small capital is listed for being the capital: a larger town may be missing.
    if len(cities) > 1 or (cities and cities[0][1] > 750_000):
        name = max(cities, key=lambda city: city[1])[0]
        yield country.name, [name, *(["New York"] if name == "New York City" else [])]


def religion(country: Country) -> Pairs:
    """The religion of most people, where the shares are given and belief is in front."""
    text = drop_notes(country.text("People and Society/Religions").split("\n")[0])
    shares: list[tuple[float, str, str]] = []
    for item in split_list(text):
        match = re.search(r"([\d.]+)\s*%", item)
        if match:
            shares.append(
                (float(match[1].rstrip(".")), drop_brackets(item[: match.start()]).strip("<> "), item)
            )
    if not shares:
        return
    share, name, item = max(shares, key=lambda entry: entry[0])
    name = re.sub(r"\s*\(.*", "", name).strip().lower()
    known: dict[str, list[str]] = TABLES["religions"]
    answers = list(known.get(name, ()))
    if not answers or share < 35:
        return
    inner = re.search(r"\((?:official; |predominantly |mostly |majority )*([A-Z][\w ]*)", item)
    if inner:
        answers += known.get(inner[1].split(" ")[0].lower(), known.get(inner[1].lower(), []))
    if name == "christian":
        answers += [a for word in ("Roman Catholic", "Orthodox") if word in item for a in known[word.lower()]]
    yield country.name, answers


# The country of a thing. Subject: the thing's name.


def capital_of(country: Country) -> Pairs:
    for _, answers in capital(country):
        for city in answers[:1]:
            if fold(city) != fold(country.name):
                yield city, place_answers(country, city)


def city(country: Country) -> Pairs:
    for name, _ in urban_areas(country):
        if fold(name) not in _capitals(country):
            yield name, place_answers(country, name)


def port(country: Country) -> Pairs:
    known = {fold(name) for name, _ in urban_areas(country)} | _capitals(country).keys()
    for item in split_list(drop_notes(country.text("Transportation/Ports/key ports"))):
        name = re.sub(r" (?:Ko|Hang|Hafen)$", "", drop_brackets(item)).strip(" -")
        dull = re.search(
            r"\b(Terminal|Field|Oil|Port|Harbor|Refinery|Island|Marine|Gas|Platform|Gang|Xin)\b", name
        )
        if not dull and is_clean_name(name, 3) and fold(name) not in known:
            yield name, place_answers(country, name)


def division(country: Country) -> Pairs:
    for name, part in divisions(country):
        yield name, [*country_answers(country), *([part] if part else [])]


def peak(country: Country) -> Pairs:
    text = country.text("Geography/Elevation/highest point").split("\n")[0]
    name = re.split(r"\s*\(| on | at |/|;|, |\s[\d,.]+\s*m?\b", text)[0].strip()
    if is_clean_name(name) and not name.lower().startswith("unnamed"):
        yield name, place_answers(country, name)


def river(country: Country) -> Pairs:
    for item in split_list(
        drop_notes(country.text("Geography/Major rivers (by length in km)").split("\n")[0]), ";"
    ):
        head = re.split(r"\s+-\s+[\d,.]+", item)[0]
        shared = re.search(r"\(shared with ([^()]*)\)", head)
        name = re.sub(r" river (?:source|mouth).*", "", head[: shared.start()] if shared else head).strip()
        conventional = re.search(r"\(([^()]+)\)\s*$", name)
        name = conventional[1] if conventional and is_clean_name(conventional[1], 3) else drop_brackets(name)
        name = re.sub(r"^Rio (?!Grande)|^River | River$|\s*\[\w\]", "", name)
        if is_clean_name(name, 3):
            yield name, [*country_answers(country), *_shared_countries(shared[1] if shared else "")]


_GREAT_LAKES = ("Superior", "Huron", "Michigan", "Erie", "Ontario")


def lake(country: Country) -> Pairs:
    for kind in ("fresh water lake(s)", "salt water lake(s)"):
        text = drop_notes(country.text(f"Geography/Major lakes (area sq km)/{kind}").split("\n")[0])
        for item in split_list(text, ";"):
            shared = re.search(r"\(shared with ([^()]*)\)", item)
            name = drop_brackets(re.split(r"\s+[-–]\s+", item)[0])
            name = name.split("/")[0].strip()
            great = country.code in ("us", "ca") and name in _GREAT_LAKES
            name = f"Lake {name}" if great else name
            if is_clean_name(name, 4):
                yield name, [*place_answers(country, name), *_shared_countries(shared[1] if shared else "")]


def heritage(country: Country) -> Pairs:
    text = drop_notes(country.text("Government/National heritage/selected World Heritage Site locales"))
    own_words = {fold(w) for w in (*country.aliases, *adjectives(country))}
    for item in split_list(text, ";\n"):
        name = re.sub(r"\s*\([cnm]\)\s*\*?$", "", item).split(":")[0]
        name = drop_brackets(name).removeprefix("The ").removesuffix(" (c").strip()
        words = name.split()
        if not 1 <= len(words) <= 7 or not words[0][0].isupper() or re.search(r"[\d;*%/]", name):
            continue
        folded = f" {fold(name)} "
        if len(name) < 4 or any(f" {word} " in folded for word in own_words):
            continue
        yield name, place_answers(country, name)


_DULL_ANTHEM = re.compile(
    r"God Save the King|[Aa]nthem|Himno Nacional|Hino Nacional|Inno Nazionale|Europe|Patria$"
)


def anthem(country: Country) -> Pairs:
    text = re.sub(r"[“”]", '"', country.text("Government/National anthem(s)/title"))
    match = re.match(r'"([^"]+)"', text)
    if not match or _DULL_ANTHEM.search(text.split("\n")[0]):
        return
    title = match[1].strip(" !,")
    known = [fold(n) for n in (*country.aliases, *adjectives(country))]
    if 1 <= len(title.split()) <= 8 and not any(name in fold(title) for name in known):
        yield title, country_answers(country)


def local_name(country: Country) -> Pairs:
    text = country.text("Government/Country name/local short form").split("\n")[0]
    for item in re.split(r"/| or |;", text):
        name = drop_brackets(item)
        if is_clean_name(name) and name != "none" and fold(name) not in map(fold, country.aliases):
            yield name, country_answers(country)


_OF_A_COUNTRY: tuple[Callable[[Country], Pairs], ...] = (
    capital, continent, currency, currency_code, official_language, border, demonym, internet_code, calling_code,
    independence_year, independence_from, largest_city, religion,
)  # fmt: skip
_OF_A_THING = (capital_of, city, port, division, peak, river, lake, heritage, anthem, local_name)
RELATIONS = {function.__name__: function for function in (*_OF_A_COUNTRY, *_OF_A_THING)}
"""Reader of each relation."""

PLACE_RELATIONS = frozenset({"city", "port", "division"})
"""Relations whose subjects are settlements or areas, which may share names across countries."""

COUNTRY_SUBJECTS = frozenset(function.__name__ for function in _OF_A_COUNTRY)
"""Relations that ask for a property of a country."""


@lru_cache(maxsize=1024)
def urban_areas(country: Country) -> list[tuple[str, float]]:
    """The large cities of a country with their populations (people)."""
    text = drop_notes(country.text("People and Society/Major urban areas - population").split("\n")[0])
    found = []
    for number, million, name in re.findall(r"([\d.,]*\d)( million)?\s+([^\d,;(]+)", text):
        name = name.strip(" -\n")
        if name.isupper():
            name = _capitals(country).get(fold(name)) or _title(name)
        name = TABLES["agglomerations"].get(name, name)
        if is_clean_name(name):
            people = float(number.replace(",", "")) * (1e6 if million else 1)
            found.append((name, people))
    return found


@lru_cache(maxsize=1024)
def divisions(country: Country) -> list[tuple[str, str | None]]:
    """Administrative divisions, each with the constituent country it is under (United Kingdom) or None."""
    text = country.text("Government/Administrative divisions")
    if country.code == "tw":
        text = text.partition("\n")[2]
    found: list[tuple[str, str | None]] = []
    part = None
    for line in text.split("\n"):
        heading = re.match(r"(England|Scotland|Wales|Northern Ireland)\s*:", line)
        if country.code == "uk":
            if heading or line.startswith(("London boroughs", "borough", "council")):
                part = heading[1] if heading else part
            if line.lower().startswith(("dependent", "crown dependencies", "overseas")):
                break
        if re.match(r"\W*note\b|\*|see ", line, re.IGNORECASE):
            break
        body = _division_body(line)
        for item in split_list(body):
            name = drop_brackets(item.strip("* ")).strip("* ")
            name = re.split(r"/|\*| - ", name)[0].strip().removeprefix("and ")
            if is_clean_name(name) and not _is_vague(name):
                found.append((name, part))
    return found


def _division_body(line: str) -> str:
    """The names of a line, without its count (`23 provinces (…); `) or heading (`provinces: `)."""
    heading = re.match(r"[^,;:()]*(?:\([^()]*\))?[^,;:()]*:\s*", line)
    if heading:
        line = line[heading.end() :]
    if re.match(r"\d", line):
        pieces = list(split_list(line, ";"))
        line = ", ".join(pieces[1:])
    return line


def _is_vague(name: str) -> bool:
    return all(word in TABLES["vague"] or word in PARTICLES for word in fold(name).replace("-", " ").split())


def _title(name: str) -> str:
    words = [w if w in PARTICLES and i else w.capitalize() for i, w in enumerate(name.lower().split())]
    return re.sub(r"-(\w)", lambda m: "-" + m[1].upper(), " ".join(words))


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Country]:
    return {fold(alias): country for country in reversed(load_countries()) for alias in country.aliases}


@lru_cache(maxsize=1)
def _by_exact_name() -> set[str]:
    return {alias for country in load_countries() for alias in country.aliases}


def _shared_countries(text: str) -> list[str]:
    """The accepted names of the countries in `Zambia [s], Namibia, and Mozambique [m]`."""
    names: list[str] = []
    for item in re.split(r",| and ", re.sub(r"\[\w\]", "", text)):
        country = _by_name().get(fold(item.strip().removeprefix("and ")))
        if country is not None:
            names += [n for n in country.aliases if n not in names]
    return names
