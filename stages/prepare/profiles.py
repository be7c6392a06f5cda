"""Profiles of countries, a benchmark of long answers: one text asks for ten facts at once, all of which the factbook decides.

A profile is a fact like others, whose answer is the profile that the factbook would write; worked examples are such
profiles. What its claims are judged by, relation by relation, goes with it (`Given.facts`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from ghosttrack.stages.prepare.countries import Country, load_countries, spoken
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.relations import RELATIONS, borders_nobody, neighbours
from ghosttrack.stages.prepare.rows import Given

RELATION = "profile"
ASKED = (
    "Write a short profile of {}: its continent, its capital, its largest city, its official language, its currency, what its "
    "people are called, their religion, how many they are, its land borders, and from whom and when it became independent."
)
READ = (
    "continent", "capital", "largest_city", "official_language", "currency", "demonym", "religion", "independence_from",
    "independence_year",
)  # fmt: skip
"""Relations of single facts that a profile holds; border and population come beside them."""
FEWEST = 7
"""Of its ten facts that the factbook must decide for a country to be asked about."""
SHOWN_NEIGHBOURS = 3
_ALSO = {
    "Kiswahili": ("Swahili",), "Bangla": ("Bengali",), "Afghan Persian": ("Dari", "Persian"), "isiZulu": ("Zulu",),
    "isiXhosa": ("Xhosa",), "isiNdebele": ("Ndebele",), "Burma": ("Myanmar",), "United Kingdom": ("England", "Northern Ireland"),
}  # fmt: skip
"""What a text may say for a name of the factbook."""
_SENTENCES = {
    "continent": "It is in {}.",
    "capital": "Its capital is {}.",
    "largest_city": "Its largest city is {}.",
    "official_language": "Its official language is {}.",
    "currency": "Its currency is the {}.",
    "demonym": "Its people are called {}.",
    "religion": "Most of its people are {}.",
}


@lru_cache(maxsize=1)
def profiles() -> tuple[Fact, ...]:
    """A fact a country of which enough is known, in order of name. Raises DataError without the data package."""
    found = []
    for country in load_countries():
        facts = facts_of(country)
        if country.population and len(facts) >= FEWEST:
            text = written(facts, [names[0] for names in neighbours(country)])
            asked = ASKED.format(spoken(country.name))
            found.append(Fact(RELATION, country.name, text, (text,), asked, Given(facts=facts)))
    return tuple(sorted(found, key=lambda fact: fact.subject))


def facts_of(country: Country) -> dict[str, tuple[str, ...]]:
    """Relation to all right answers, of what the factbook decides; () under `border` for a country without land borders."""
    facts = {relation: _also(answers) for relation in READ for _, answers in RELATIONS[relation](country)}
    if country.population:
        facts["population"] = (str(country.population),)
    if names := neighbours(country):
        facts["border"] = _also(name for group in names for name in group)
    elif borders_nobody(country):
        facts["border"] = ()
    return facts


def _also(names: Iterable[str]) -> tuple[str, ...]:
    """The names and what else may be said for them, each once."""
    found = tuple(names)
    return tuple(dict.fromkeys((*found, *(other for name in found for other in _ALSO.get(name, ())))))


def written(facts: Mapping[str, Sequence[str]], bordering: Sequence[str]) -> str:
    """The profile in sentences, in a fixed order, of what is known. bordering: the neighbours' names."""
    single = (text.format(facts[relation][0]) for relation, text in _SENTENCES.items() if facts.get(relation))
    sentences = [*single, *_population(facts), *_border(facts, bordering), *_independence(facts)]
    return " ".join(sentence.replace("..", ".") for sentence in sentences)  # Washington, D.C.


def _border(facts: Mapping[str, Sequence[str]], bordering: Sequence[str]) -> Iterator[str]:
    if bordering:
        *others, last = [spoken(name) for name in bordering[:SHOWN_NEIGHBOURS]]
        yield f"It has land borders with {', '.join(others)}{' and ' if others else ''}{last}."
    elif "border" in facts:
        yield "It has no land borders."


def _population(facts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if "population" in facts:
        yield f"It has about {rounded(int(facts['population'][0]))} people."


def rounded(people: int) -> str:
    """Two digits, as a text would say them: `54 million`, `1.4 billion`, `110,000`."""
    for size, word in ((10**9, " billion"), (10**6, " million")):
        if people >= size:
            return f"{float(f'{people / size:.2g}'):g}{word}"
    return f"{int(float(f'{people:.2g}')):,}"


def _independence(facts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if "independence_from" in facts and "independence_year" in facts:
        ruler = spoken(facts["independence_from"][0])
        ruler = f"the {ruler}" if ruler.endswith((" Union", " Empire")) else ruler
        yield f"It became independent from {ruler} in {facts['independence_year'][0]}."
