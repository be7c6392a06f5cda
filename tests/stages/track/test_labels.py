import pytest

from ghosttrack.stages.track.labels import judge, normalise


@pytest.mark.parametrize(
    ("answer", "aliases", "label", "strict"),
    [
        ("Paris", ["Paris"], 0, 0),
        ("paris.", ["Paris"], 0, 0),
        ("Paris, France", ["Paris"], 0, 1),
        ("the Netherlands", ["Netherlands"], 0, 0),
        ("São Tomé", ["Sao Tome"], 0, 0),
        ("N'Djamena", ["N'Djamena", "Ndjamena"], 0, 0),
        ("Parisian", ["Paris"], 1, 1),
        ("Lyon", ["Paris", "City of Light"], 1, 1),
        ("New York", ["York New"], 1, 1),
    ],
)
def test_right_means_a_gold_answer_in_whole_words(answer, aliases, label, strict):
    assert judge(answer, aliases)[:3] == (label, strict, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("", "empty"), (" .", "empty"), ("unknown", "refusal"), ("The capital of Ghana is", "echo")],
)
def test_answers_that_say_nothing_are_excluded_by_reason(answer, reason):
    assert judge(answer, ["Accra"], "The capital of Ghana is")[:3] == (None, None, reason)


def test_repeating_the_subject_is_wrong_unless_it_is_right():
    assert judge("Ghana", ["Accra"], "The capital of Ghana is").label == 1
    assert judge("Monaco", ["Monaco"], "The capital of Monaco is").label == 0


def test_an_answer_that_is_only_an_article_keeps_it():
    assert normalise("The") == "the"


def test_what_other_matchers_say_is_kept_beside_the_label():
    assert judge("Paris, France", ["Paris"]).matched == {"auto": 0, "exact": 1, "contains": 0, "f1": 0}
    assert judge("about 5", ["5"]).matched["number"] == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (",,,,", "empty"),
        ("/", "empty"),
        ("###", "empty"),
        ("???", "empty"),
        ("I don't know", "refusal"),
        ("Paris", "no_gold_answer"),
    ],
)
def test_an_answer_that_says_nothing_is_known_where_no_right_answer_is(answer, reason):
    assert judge(answer, []).excluded == reason


@pytest.mark.parametrize("gold", ["£", "😀", "?"])
def test_a_sign_can_be_the_right_answer(gold):
    assert judge(gold, [gold])[:3] == (0, 0, None)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("<think>Lyon?</think>Paris", 0),
        ("Lyon? No.\n</think>\n\nParis", 0),  # the prompt opened it
        ("Paris? No.\n</think>\n\nLyon", 1),
        ("<think>\nParis, or", None),
    ],
)
def test_what_is_thought_before_an_answer_is_none(answer, label):
    assert judge(answer, ["Paris"]).label == label
