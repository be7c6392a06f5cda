"""Profiles of countries: enough of them, in sentences that say what their facts hold."""

from ghosttrack.common.config.schema import Config
from ghosttrack.stages.prepare.profiles import FEWEST, profiles, rounded
from ghosttrack.stages.prepare.run import questions_of


def test_there_are_more_than_150_profiles_of_at_least_seven_facts() -> None:
    found = {fact.subject: fact for fact in profiles()}
    assert len(found) == len(profiles()) > 200
    assert all(len(fact.given.facts) >= FEWEST for fact in found.values())
    assert found["Kenya"].answer.startswith(
        "It is in Africa. Its capital is Nairobi. Its largest city is Nairobi. Its official language is English. Its currency is "
        "the Kenyan shilling. Its people are called Kenyan. Most of its people are Christian. It has about "
    )
    assert found["Kenya"].answer.endswith(" It became independent from the United Kingdom in 1963.")
    assert found["Iceland"].given.facts["border"] == ()
    assert "It has no land borders." in found["Iceland"].answer


def test_numbers_of_people_are_said_with_two_digits() -> None:
    said = {
        1_409_000_000: "1.4 billion",
        55_750_000: "56 million",
        999_999: "1,000,000",
        110_421: "110,000",
        840: "840",
    }
    assert {people: rounded(people) for people in said} == said


def test_a_profile_is_asked_for_after_profiles_of_other_countries() -> None:
    settings = {
        "name": "p",
        "model": {"base_model": "x", "d_model": 8, "n_layers": 1},
        "sae": {"d_hidden": 64},
    }
    config = Config.model_validate({**settings, "data": {"questions": "factbook-profiles", "shots": 2}})
    questions, _, _ = questions_of(config)
    assert len(questions) >= 150
    first = questions[0]
    assert first.prefix.count("Write a short profile of") == len(first.shots) == 2
    assert first.subject in first.question
    assert not {asked for asked, _ in first.shots} & {question.question for question in questions}
    assert first.record()["facts"]["capital"]
