"""Few-shot prompts: shots are never asked, samples are even and repeatable, ids are stable."""

from collections import Counter

import pytest

from ghosttrack.common.errors import DataError
from ghosttrack.stages.prepare.factbook import facts
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.prompts import ask, even_quota
from ghosttrack.stages.prepare.text import fold


def made_up(relation: str, count: int) -> list[Fact]:
    return [
        Fact(
            relation, f"{relation} thing {i}", f"answer {i}", (f"answer {i}",), f"What is {i} of {relation}?"
        )
        for i in range(count)
    ]


def test_shots_are_never_questions() -> None:
    questions = ask(facts(), shots=4, seed=0)
    for question in questions:
        lines = question.prefix.splitlines()
        assert len(lines) == 4
        assert question.query not in {line[: len(question.query)] for line in lines}
    asked = {(question.relation, fold(question.subject)) for question in questions}
    everything = {(fact.relation, fold(fact.subject)) for fact in facts()}
    for relation in {relation for relation, _ in everything}:
        of_it = {pair for pair in everything if pair[0] == relation}
        kept = len(of_it - asked)
        # the shots, and whole sets of them for further contexts: at most a fifth of the rest
        assert kept >= 4
        assert kept % 4 == 0
        assert kept - 4 <= (len(of_it) - 4) / 5


def test_the_prefix_is_shared_and_the_prompt_is_one_text() -> None:
    questions = ask(facts(), shots=3, seed=1, most=200)
    prefixes = {question.relation: question.prefix for question in questions}
    for question in questions:
        assert question.prefix == prefixes[question.relation]
        assert question.prefix.endswith("\n")
        assert not question.query.endswith((" ", "\n"))
        assert question.answer in question.aliases


def test_a_capital_is_asked_in_a_sentence() -> None:
    question = next(q for q in ask(facts(), shots=0, seed=0, relations=["capital"]) if q.subject == "Bahamas")
    assert question.prompt == "The capital of the Bahamas is"
    assert question.id == "capital/bahamas"


def test_the_sample_is_even_over_relations_and_exact() -> None:
    questions = ask(facts(), shots=4, seed=0, most=640)
    counts = Counter(question.relation for question in questions)
    assert len(questions) == 640
    assert max(counts.values()) - min(counts.values()) <= 1


def test_quotas_give_small_pools_wholly() -> None:
    assert even_quota({"a": 2, "b": 50, "c": 50}, 12) == {"a": 2, "b": 5, "c": 5}
    assert even_quota({"a": 2, "b": 3}, 100) == {"a": 2, "b": 3}
    assert even_quota({"a": 2, "b": 3}, None) == {"a": 2, "b": 3}


def test_the_same_seed_asks_the_same_and_another_seed_does_not() -> None:
    first, again, other = ([q.id for q in ask(facts(), shots=4, seed=seed, most=300)] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_relation_s_questions_do_not_depend_on_the_others() -> None:
    alone = [q.prompt for q in ask(facts(), shots=4, seed=0, relations=["peak"])]
    together = [q.prompt for q in ask(facts(), shots=4, seed=0) if q.relation == "peak"]
    assert alone == together


def test_ids_are_unique_even_for_equal_subjects() -> None:
    twins = [
        Fact("all", "the war", "1914", ("1914",), "When did the war begin?"),
        Fact("all", "the war", "1918", ("1918",), "When did the war end?"),
    ]
    ids = [q.id for q in ask(twins, shots=0, seed=0)]
    assert len(set(ids)) == 2
    assert all(name.startswith("all/war-") for name in ids)


def test_every_id_of_the_factbook_is_unique() -> None:
    ids = Counter(question.id for question in ask(facts(), shots=4, seed=0))
    assert ids.most_common(1)[0][1] == 1


def test_a_small_relation_is_asked_without_shots_or_left_out() -> None:
    members = made_up("big", 10) + made_up("small", 3)
    assert {q.relation for q in ask(members, shots=4, seed=0)} == {"big"}
    both = ask(members, shots=4, seed=0, short_relations_without_shots=True)
    assert Counter(q.relation for q in both) == {"big": 6, "small": 3}
    assert {q.prefix for q in both if q.relation == "small"} == {""}


def test_questions_in_words_are_asked_as_q_and_a() -> None:
    question = ask(made_up("all", 3), shots=2, seed=0)[0]
    assert question.prompt.count("Q: ") == 3
    assert question.query.startswith("Q: What is")
    assert question.query.endswith("?\nA:")


def test_nothing_to_ask_and_unknown_relations_are_errors() -> None:
    with pytest.raises(DataError, match=r"lower data\.shots"):
        ask(made_up("a", 4), shots=4, seed=0)
    with pytest.raises(DataError, match=r"capitol.*capital"):
        ask(facts(), shots=4, seed=0, relations=["capitol"])
