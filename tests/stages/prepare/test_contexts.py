from ghosttrack.common.formats.contexts import Context, contexts_by_question
from ghosttrack.stages.prepare.contexts import (
    Spare,
    contexts_of,
    contexts_of_asked,
    examples_of,
    kinds,
    split_prompt,
    text_of,
)
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.prompts import QuestionLine, ask
from ghosttrack.stages.prepare.text import fold


def facts(count: int, relation: str = "capital") -> list[Fact]:
    return [Fact(relation, f"Land{n}", f"Town{n}", (f"Town{n}",)) for n in range(count)]


def prompt(relation: str, subject: str, text: str) -> QuestionLine:
    return QuestionLine(f"{relation}/{subject}", relation, subject, "", text, "x", ("x",))


def test_contexts_share_no_subject_with_the_questions_the_examples_or_each_other():
    known = facts(60)
    questions = ask(known, shots=4, seed=0, most=20)
    found = contexts_of(questions, Spare(known, []), 4, 4, 0)
    assert [(c.context, c.kind) for c in found] == [(n, "examples") for n in range(1, 5)]
    shown = [asked for c in found for asked, _ in c.shots]
    assert len(set(shown)) == len(shown) == 16
    assert not {asked for asked, _ in examples_of(questions[0].prefix)} & set(shown)
    assert not {question.query for question in questions} & set(shown)
    assert all(c.prefix == text_of("", c.shots) for c in found)


def test_when_all_is_asked_whole_sets_are_left_for_contexts_but_at_most_a_fifth():
    questions = ask(facts(104), shots=4, seed=0)
    assert len(questions) == 104 - 4 - 16
    assert kinds(contexts_of(questions, Spare(facts(104), []), 4, 4, 0)) == {"examples": 4}
    questions = ask(facts(30), shots=4, seed=0)
    assert len(questions) == 30 - 4 - 4
    assert kinds(contexts_of(questions, Spare(facts(30), []), 4, 4, 0)) == {
        "examples": 1,
        "halved": 1,
        "reversed": 2,
    }


def test_a_relation_without_further_facts_turns_its_own_examples_about():
    questions = ask(facts(10), shots=4, seed=0)
    assert len(questions) == 6
    found = contexts_of(questions, Spare(facts(10), []), 6, 4, 0)
    assert [c.kind for c in found] == ["reversed", "halved", "halved", "turned", "turned", "turned"]
    first = examples_of(questions[0].prefix)
    assert found[0].prefix == text_of("", first[::-1])
    assert found[1].prefix + found[2].prefix == found[4].prefix
    assert len({c.prefix for c in found}) == 6


def test_a_relation_with_one_fact_and_questions_without_examples_get_general_ones():
    lonely = [prompt("a", "X", "X is made of"), prompt("b", "Y", "Q: Who is Y?\nA:")]
    found = contexts_of(lonely, Spare([], lonely), 6, 4, 0)
    by_question = contexts_by_question(found, [question.record() for question in lonely])
    assert [[c.kind for c in each] for each in by_question] == [["general"] * 4 + ["instruction"] * 2] * 2
    assert by_question[0][0].prefix.count("\n") == 4
    assert "Q:" not in by_question[0][0].prefix
    assert by_question[1][0].prefix.startswith("Q: ")


def test_prompts_that_are_not_asked_serve_as_examples_of_their_relation():
    every = [prompt("a", f"S{n}", f"S{n} is made of") for n in range(10)]
    found = contexts_of(every[:2], Spare([], every), 2, 4, 0)
    assert kinds(found) == {"examples": 2}
    assert not any(name in c.prefix for c in found for name in ("S0 ", "S1 "))


def test_a_prompt_with_examples_of_its_own_keeps_its_question_and_turns_them_about():
    text = "France: Paris\nSpain: Madrid\nItaly:"
    question = prompt("a", "Italy", text)
    found = contexts_of([question], Spare([], [question]), 3, 4, 0)
    [[first, *_]] = contexts_by_question(found, [question.record()])
    assert (first.question, first.query, first.prefix) == (
        question.id,
        "Italy:",
        "Spain: Madrid\nFrance: Paris\n",
    )
    assert split_prompt(text) == ("France: Paris\nSpain: Madrid\n", "Italy:")
    assert split_prompt("Q: Who?\nA:") == ("", "Q: Who?\nA:")


def test_no_contexts_are_made_where_none_are_wanted():
    assert contexts_of(ask(facts(10), shots=4, seed=0), Spare(facts(10), []), 0, 4, 0) == []


def test_a_new_question_gets_its_relations_contexts_without_examples_of_its_own_subject():
    known = facts(60)
    finished = contexts_of(ask(known, shots=4, seed=0, most=20), Spare(known, []), 4, 4, 0)
    shown = finished[0].shots[0][0].removeprefix("The capital of ").removesuffix(" is")
    new = [
        QuestionLine("n0", "capital", "Nowhere", "", "The capital of Nowhere is", "", ()),
        QuestionLine("n1", "capital", shown, "", f"The capital of {shown} is", "", ()),
        QuestionLine("n2", "age", "Bob", "", "The age of Bob is", "", ()),
    ]
    own = contexts_by_question(contexts_of_asked(new, finished, 4), [question.record() for question in new])
    assert own[0] == finished
    assert len(own[1]) == 4
    assert not any(f" {fold(shown)} " in fold(c.prefix) for c in own[1])
    assert own[1][0].prefix == text_of("", finished[0].shots[1:])
    assert [c.kind for c in own[2]] == ["general"] * 4


def test_a_questions_own_contexts_go_before_those_of_its_relation():
    rows = [Context(relation="r", context=1, kind="examples", prefix="a"),
            Context(relation="r", question="q1", context=1, kind="examples", prefix="b")]  # fmt: skip
    found = contexts_by_question(
        rows, [{"id": "q0", "relation": "r"}, {"id": "q1", "relation": "r"}, {"id": "q2", "relation": "s"}]
    )
    assert [[c.prefix for c in each] for each in found] == [["a"], ["b"], []]


def test_a_line_separator_within_an_example_does_not_cut_it():
    prefix = "The capital of\u2028Spain is\x85 Madrid\nQ: Who?\u2029\nA: Ann\n"
    assert examples_of(prefix) == [
        ("The capital of\u2028Spain is\x85", "Madrid"),
        ("Q: Who?\u2029\nA:", "Ann"),
    ]
    assert examples_of("") == []
