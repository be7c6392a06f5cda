"""Claims of made-up profiles: what is found, what is right and wrong by the facts, and what those cannot decide."""

from pathlib import Path

import pytest

from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import encode_question
from ghosttrack.stages.track import run_answers
from ghosttrack.stages.track.claims import claims, label_of
from ghosttrack.stages.track.given import encode_response, read_response
from ghosttrack.stages.track.spans import labels_in, token_offsets
from tests.tiny_models import save_random_model

FACTS = {
    "continent": ["Africa"],
    "capital": ["Port Nova", "Nova"],
    "largest_city": ["Old Harbour"],
    "official_language": ["English", "Kiswahili", "Swahili"],
    "currency": ["Novan shilling", "shilling"],
    "demonym": ["Novan", "Novans"],
    "religion": ["Roman Catholic", "Catholic", "Christian", "Christianity"],
    "population": ["20000000"],
    "border": ["Guinea", "South Sudan", "DR Congo", "Congo"],
    "independence_from": ["United Kingdom", "UK", "Britain"],
    "independence_year": ["1963"],
}
RIGHT, WRONG = 0, 1


def found(text: str, facts=FACTS, subject: str = "Nova Republic") -> dict[str, int]:
    return {text[start:end]: label for start, end, label, _ in claims(text, subject, facts)}


def test_a_profile_of_right_claims_has_one_for_every_fact() -> None:
    text = (
        "It is in Africa. Its capital is Port Nova. Its largest city is Old Harbour. Its official languages are English and "
        "Swahili. Its currency is the Novan shilling. Its people are called Novans. Most of its people are Catholic. It has "
        "about 21 million people. It has land borders with Guinea, South Sudan and the DR Congo. It became independent from "
        "the United Kingdom in 1963."
    )
    every = claims(text, "Nova Republic", FACTS)
    assert {claim.relation for claim in every} == set(FACTS)
    assert [claim.label for claim in every] == [RIGHT] * 14
    assert label_of(every) == RIGHT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nova Republic is a small country in East Africa.", {"East Africa": RIGHT}),
        ("It is located on the continent of South America.", {"South America": WRONG}),
        ("It is in North Atlantic Island.", {}),  # no continent
        ("The capital of Nova Republic is Old Harbour.", {"Old Harbour": WRONG}),
        ("The capital of Guinea is Conakry.", {}),  # of another country
        ("Its capital is Port.", {}),  # half a name
        ("Its former capital was Old Harbour.", {}),
        ("Its capital is St. John's, and its largest city is Old Harbour.", {"St. John's": WRONG, "Old Harbour": RIGHT}),
        ("- **Capital:** Nova\n- Currency: Novan Shilling\nPopulation: 90 million", {"Nova": RIGHT, "Novan Shilling": RIGHT, "90 million": WRONG}),
        ("Its capital is not Port Nova.", {"Port Nova": WRONG}),
        ("Its capital is not Old Harbour.", {}),  # so it is, and tells nothing
        ("Its currency is the Ugandan shilling.", {"Ugandan shilling": WRONG}),
        ("Its currency is the Ugandan shilling and the Novan shilling.", {"Ugandan shilling": WRONG, "Novan shilling": RIGHT}),
        ("Its currency is the euro, which is new.", {"euro": WRONG}),
        ("Its official language is French.", {"French": WRONG}),
        ("Its people are called Novan people.", {"Novan": RIGHT}),
        ("Most of its people are Sunni Muslims.", {"Sunni Muslims": WRONG}),
        ("Most of its people are Protestant.", {"Protestant": WRONG}),
        ("Most of its people are Bantu.", {}),  # no belief
        ("It has about 16,100,000 people.", {"16,100,000": RIGHT}),  # within a factor of 1.25
        ("It has about 15.9 million people.", {"15.9 million": WRONG}),
        ("It has a population of 26 million.", {"26 million": WRONG}),
        ("It has 5 provinces.", {}),
        ("It borders Guinea to the west, Sudan to the north and the Red Sea.", {"Guinea": RIGHT, "Sudan": None}),
        ("It has land borders with Guinea-Bissau, Congo and Chad.", {"Guinea-Bissau": WRONG, "Congo": RIGHT, "Chad": WRONG}),
        ("It has no land borders.", {"no land borders": WRONG}),
        ("It gained its independence from Britain on 12 December 1963.", {"Britain": RIGHT, "1963": RIGHT}),
        ("It became independent in 1964 from France.", {"1964": WRONG, "France": WRONG}),
        ("It became independent from Portugal in 19ator.", {"Portugal": WRONG}),
    ],
)  # fmt: skip
def test_a_claim_is_right_wrong_or_not_decided(text: str, expected: dict[str, int | None]) -> None:
    assert found(text) == {said: label for said, label in expected.items() if label is not None}


def test_what_the_facts_do_not_hold_is_no_claim() -> None:
    text = "Its capital is Port Nova. Its currency is the euro. It has 3 million people."
    assert found(text, {"capital": ["Nova"]}) == {"Port Nova": RIGHT}
    assert label_of(claims(text, "Nova Republic", {})) is None


def test_an_island_borders_nobody() -> None:
    alone = {"border": []}
    assert found("It has no land borders.", alone) == {"no land borders": RIGHT}
    assert found("It has land borders with Chad and the Red Sea.", alone) == {"Chad": WRONG}


def test_where_only_the_religion_is_known_a_branch_is_not_decided() -> None:
    assert found("Most of its people are Catholic.", {"religion": ["Christian", "Christianity"]}) == {}
    assert found("Most of its people are Muslim.", {"religion": ["Christian"]}) == {"Muslim": WRONG}


def test_a_profile_is_wrong_where_half_of_its_claims_are() -> None:
    half = claims("Its capital is Nova. Its currency is the euro.", "Nova Republic", FACTS)
    assert label_of(half) == WRONG
    assert label_of([*half, half[0]]) == RIGHT


def test_tokens_have_the_labels_of_the_claims_that_they_are_in() -> None:
    pieces = [" It", " capital", " is", " Reykjav", "\ufffd", "\ufffd", "k", "."]
    texts = ["", " It", " It capital", " It capital is", " It capital is Reykjav", " It capital is Reykjav\ufffd",
             " It capital is Reykjaví", " It capital is Reykjavík", " It capital is Reykjavík."]  # fmt: skip
    offsets = token_offsets(lambda ids: texts[len(ids)], range(len(pieces)))
    assert offsets == [(0, 2), (2, 10), (10, 13), (13, 21), (21, 21), (21, 22), (22, 23), (23, 24)]
    assert labels_in(offsets, [(14, 23, 1)], None) == [None, None, None, 1, 1, 1, 1, None]


def test_a_profile_that_the_model_gave_is_recorded_with_its_claims_by_character_and_token(
    tmp_path: Path,
) -> None:
    text = "Its capital is Nova. Its currency is the euro."
    question = {
        "id": "q", "relation": "profile", "subject": "Nova Republic", "prefix": "", "query": "A profile of Nova Republic:",
        "question": "A profile of Nova Republic:", "answer": "x", "aliases": ["x"], "facts": FACTS,
    }  # fmt: skip
    model = load_language_model(save_random_model(tmp_path, "llama"), "float32")
    prompt = encode_question(model, question)
    # in the form of its own
    answer = read_response(model, prompt, encode_response(model, question, text), [0], 4)
    line = Answer.model_validate(run_answers._record(model, question, prompt, answer, None, "auto", 0))
    assert line.answer == text
    assert [(text[start:end], label, relation) for start, end, label, relation in line.claims] == [
        ("Nova", RIGHT, "capital"), ("euro", WRONG, "currency"),
    ]  # fmt: skip
    assert (line.label, line.excluded, line.matched) == (WRONG, None, {})  # half of it is
    for label, relation, said in ((RIGHT, "capital", "Nova"), (WRONG, "currency", "euro")):
        tokens = zip(line.tokens, line.token_labels, line.token_relations, strict=True)
        assert "".join(token for token, *of in tokens if of == [label, relation]).strip() == said
    nothing = run_answers._record(model, {**question, "facts": {}}, prompt, answer, None, "auto", 0)
    assert (nothing["label"], nothing["excluded"], set(nothing["token_labels"])) == (
        None,
        "nothing_claimed",
        {None},
    )
