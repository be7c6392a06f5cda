"""The factbook's facts are many, clean and answerable; its prose is plain text."""

import re
import unicodedata
from collections import Counter

import pytest

from ghosttrack.stages.prepare.countries import load_countries
from ghosttrack.stages.prepare.factbook import facts, prose
from ghosttrack.stages.prepare.facts import make_fact, merge_subjects
from ghosttrack.stages.prepare.prompts import TEMPLATES
from ghosttrack.stages.prepare.text import (
    drop_brackets,
    drop_notes,
    fold,
    is_clean_name,
    split_list,
    strip_markup,
)


def look_up(relation: str) -> dict[str, set[str]]:
    return {fact.subject: set(fact.aliases) for fact in facts() if fact.relation == relation}


def plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", letters.lower()))


def test_there_are_thousands_of_facts_over_many_relations() -> None:
    counts = Counter(fact.relation for fact in facts())
    assert sum(counts.values()) >= 4000
    assert len(counts) >= 10
    assert min(counts.values()) >= 50
    assert set(counts) <= set(TEMPLATES)


def test_answers_are_short_and_clean() -> None:
    for fact in facts():
        for text in (fact.answer, *fact.aliases):
            assert not re.search(r"[()\[\]<>;:%&\n]|note|  ", text), fact
            assert text == text.strip(), fact
        assert 1 <= len(fact.answer.split()) <= 4, fact
        assert fact.aliases[0] == fact.answer
        assert len(set(fact.aliases)) == len(fact.aliases), fact


def test_subjects_are_clean_and_do_not_give_the_answer_away() -> None:
    for fact in facts():
        assert not re.search(r"[()\[\]<>;%\n*]|&\w+;|  ", fact.subject), fact
        subject = f" {plain(fact.subject)} "
        assert not any(f" {plain(alias)} " in subject for alias in fact.aliases), fact


def test_a_relation_asks_about_a_subject_once() -> None:
    seen = Counter((fact.relation, fold(fact.subject)) for fact in facts())
    assert [key for key, count in seen.items() if count > 1] == []


@pytest.mark.parametrize(
    ("relation", "subject", "right", "wrong"),
    [
        ("capital", "France", {"Paris"}, {"Lyon"}),
        ("capital", "South Africa", {"Pretoria", "Cape Town", "Bloemfontein"}, {"Johannesburg"}),
        ("border", "Egypt", {"Libya", "Sudan", "Israel"}, {"Chad", "Jordan"}),
        ("official_language", "Switzerland", {"German", "French", "Italian"}, {"English"}),
        ("currency", "Japan", {"yen"}, {"euro"}),
        ("currency_code", "Switzerland", {"CHF"}, {"EUR"}),
        ("internet_code", "Germany", {".de"}, {".gm"}),
        ("continent", "Brazil", {"South America"}, {"America"}),
        ("calling_code", "Kenya", {"+254"}, {"+255"}),
        ("independence_year", "Ghana", {"1957"}, {"1960"}),
        ("independence_from", "Algeria", {"France"}, {"United Kingdom"}),
        ("demonym", "Poland", {"Polish", "Pole"}, {"Poland"}),
        ("largest_city", "Turkey", {"Istanbul"}, {"Ankara"}),
        ("religion", "Indonesia", {"Muslim", "Islam"}, {"Hindu"}),
        ("peak", "Mount Everest", {"Nepal", "China"}, {"India"}),
        ("river", "Danube", {"Germany", "Romania", "Hungary"}, {"France"}),
        ("lake", "Lake Victoria", {"Tanzania", "Uganda", "Kenya"}, {"Rwanda"}),
        ("city", "Marseille", {"France"}, {"Italy"}),
        ("division", "Kent", {"United Kingdom", "UK", "England"}, {"Scotland"}),
        ("local_name", "Deutschland", {"Germany"}, {"Netherlands"}),
        ("anthem", "Ymnos eis tin Eleftherian", {"Greece", "Cyprus"}, {"Turkey"}),
    ],
)
def test_known_facts(relation: str, subject: str, right: set[str], wrong: set[str]) -> None:
    answers = look_up(relation)[subject]
    assert right <= answers
    assert not wrong & answers


@pytest.mark.parametrize(
    ("relation", "subject", "countries"),
    [
        ("city", "Córdoba", {"Argentina", "Colombia"}),
        ("port", "Lagos", {"Portugal", "Nigeria"}),
        ("city", "Valencia", {"Spain", "Venezuela"}),
    ],
)
def test_namesakes_list_every_country_that_has_one(relation: str, subject: str, countries: set[str]) -> None:
    assert countries <= look_up(relation)[subject]


def test_a_name_of_four_countries_is_not_asked() -> None:
    assert "Amazonas" not in look_up("division")


def test_prose_is_plain_text_of_every_country() -> None:
    documents = prose()
    text = "\n".join(documents)
    assert 3_500_000 < len(text) < 8_000_000
    assert not re.search(r"</?(p|br|strong|em|b|a)\b|&(nbsp|amp|eacute|lt|gt);", text)
    assert len(set(documents)) == len(documents)
    headings = "\n".join(document.partition("\n")[0] for document in documents)
    assert all(country.name in headings for country in load_countries())


def test_markup_becomes_text() -> None:
    assert strip_markup("<p>Bogot&aacute;&nbsp; and<br><b>note:</b>  x</p>") == "Bogotá and\nnote: x"
    assert drop_notes("A; B; note - C is also D") == "A; B"
    assert drop_brackets("Beirut (Bayrut (old)) [x], Lebanon") == "Beirut, Lebanon"
    assert list(split_list("A (x, y), B; C")) == ["A (x, y)", "B", "C"]


@pytest.mark.parametrize(
    "text", ["San José", "Port-au-Prince", "N'Djamena", "Kingston upon Thames", "Washington, D.C."]
)
def test_names_are_taken(text: str) -> None:
    assert is_clean_name(text.replace(",", ""))


@pytest.mark.parametrize(
    "text", ["unnamed location", "23 provinces", "A (b)", "Very Long Name Of A Place", "", "x*"]
)
def test_other_things_are_not_names(text: str) -> None:
    assert not is_clean_name(text)


def test_a_fact_lists_plain_letters_too_and_refuses_a_giveaway() -> None:
    fact = make_fact("capital", "Costa Rica", ["San José"])
    assert fact is not None
    assert fact.aliases == ("San José", "San Jose")
    assert make_fact("city", "Mexico City", ["Mexico"]) is None
    assert make_fact("peak", "Niger", ["Nigeria"]) is not None


def test_too_ambiguous_subjects_are_dropped() -> None:
    gathered = [("Santa Rosa", (country,)) for country in ("A", "B", "C", "D")]
    assert merge_subjects(gathered[:3], 3) == [("Santa Rosa", ["A", "B", "C"])]
    assert merge_subjects(gathered, 3) == []
