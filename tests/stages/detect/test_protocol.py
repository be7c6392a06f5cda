import time

import numpy as np
import pytest

from ghosttrack.common.errors import DataError, LabelError
from ghosttrack.common.formats.answers import Answer
from ghosttrack.stages.detect.protocol.exclusions import exclusions, unscored
from ghosttrack.stages.detect.protocol.folds import assert_groups_whole, grouped_folds
from ghosttrack.stages.detect.protocol.groups import components, question_groups, refuse_conflicts
from ghosttrack.stages.detect.protocol.splits import LabelledRows, all_splits
from tests.stages.detect.synthetic import plan


def test_groups_stay_whole_and_classes_balanced():
    rng = np.random.default_rng(0)
    labels, groups = (rng.random(500) < 0.3).astype(int), rng.integers(0, 150, 500)
    folds = grouped_folds(labels, groups, 5, seed=0)
    assert all(len(set(folds[groups == group])) <= 1 for group in range(150))
    shares = [labels[folds == fold].mean() for fold in range(5)]
    assert max(shares) - min(shares) < 0.1
    assert np.array_equal(folds, grouped_folds(labels, groups, 5, seed=0))
    assert not np.array_equal(folds, grouped_folds(labels, groups, 5, seed=1))


def test_a_split_group_is_noticed():
    with pytest.raises(AssertionError):
        assert_groups_whole([0, 1, 1], [7, 7, 8])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones(40), "no correct answers among 40"),
        (np.zeros(40), "no wrong answers among 40"),
        (np.r_[np.ones(3), np.zeros(37)], "only 3 wrong answers"),
    ],
)
def test_classes_that_cannot_be_learned_are_refused(labels, message):
    with pytest.raises(LabelError, match=message):
        grouped_folds(labels, np.arange(40), 5, seed=0)


def test_a_group_that_spans_everything_is_refused():
    labels = np.arange(40) % 2
    with pytest.raises(DataError, match=r"1 group\(s\), fewer than 5 folds"):
        grouped_folds(labels, np.zeros(40), 5, seed=0)
    with pytest.raises(LabelError, match="one group holds too much"):
        grouped_folds(np.r_[np.ones(36), np.zeros(4)], np.r_[np.arange(36) % 6, np.full(4, 9)], 4, seed=0)


def answer(number, relation="r", subject="s", gold="g", prompt=None, **rest):
    return Answer(
        id=str(number), relation=relation, subject=subject, group=f"own {number}", prompt=prompt or f"question {number}",
        question=prompt or f"question {number}", query=prompt or f"question {number}",
        answer="a", gold=gold, tokens=[], logprobs=[], entropies=[], **{"label": 0, **rest},
    )  # fmt: skip


def test_components_agree_with_a_search_of_the_graph():
    rng = np.random.default_rng(0)
    keys = [rng.integers(0, 60, rng.integers(0, 3)).tolist() for _ in range(80)]
    found = components(keys)
    for row in range(80):
        reached, frontier = {row}, [row]
        while frontier:
            now = frontier.pop()
            for other in range(80):
                if other not in reached and set(keys[now]) & set(keys[other]):
                    reached.add(other)
                    frontier.append(other)
        assert reached == set(np.flatnonzero(found == found[row]).tolist())
    assert found[0] == 0


def test_groups_join_subjects_texts_and_facts_read_both_ways():
    answers = [
        answer(0, "capital", "Fiji", "Suva"),
        answer(1, "currency", "the Fiji", "dollar"),  # the same subject
        answer(2, "capital_of", "Suva", "Fiji"),  # the fact of 0 read backwards
        answer(3, "capital", "Peru", "Suva"),  # an equal answer alone joins nothing
        answer(4, "border", "Peru", "Chile", prompt="Who borders?"),
        answer(5, "border", "Chile", "Peru"),  # the inverse in one relation joins nothing
        answer(6, "x", "Malta", "y", prompt="who borders"),  # the text of 4
        answer(7, "leader", "Siam", "Rama", aliases=["Rama X", "Rama the Tenth"]),
        answer(8, "led", "Rama the Tenth", "Siam"),  # the fact of 7, by another of its names
    ]
    groups = question_groups(answers)
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4] == groups[6]
    assert groups[7] == groups[8]
    assert len({groups[0], groups[3], groups[5], groups[7]}) == 4


def groups_of(asked):
    """asked: question, gold and what else there is of each."""
    return question_groups(
        [answer(n, subject="", prompt=text, gold=gold, **rest) for n, (text, gold, rest) in enumerate(asked)]
    ).tolist()


def test_own_questions_that_ask_nearly_the_same_for_one_answer_share_a_group_and_others_do_not():
    shakespeare, same, choice = "William Shakespeare", "Shakespeare", {"aliases": ["B"]}
    paraphrases = [
        ("Who wrote Hamlet?", shakespeare, {}),
        ("Who was the author of Hamlet?", same, {"aliases": [shakespeare]}),
        ("谁写了哈姆雷特", "莎士比亚", {}),
        ("是谁写了哈姆雷特的", "莎士比亚", {}),
    ]
    others = [
        ("Who wrote Macbeth?", shakespeare, {}),
        ("Who wrote Hamlet?!", "Thomas Kyd", {"relation": "claimed"}),
        ("Is 7 a prime number?", "yes", {}),
        ("Is 11 a prime number?", "yes", {}),
        ("In which country is Lyon?", "France", {}),
        ("In which country is Nice?", "France", {}),
        ("Which of these is a bird in Peru?", "condor", choice),
        ("Which of these is a bird?", "emu", choice),
    ]
    found = groups_of([*paraphrases, *others])
    assert found[:4] == [0, 0, 1, 1]
    assert found[5] == 0  # the text of the first
    assert len(set(found[4:])) == len(others)


def test_paraphrases_are_sought_in_a_time_that_grows_with_the_questions():
    def seconds(count):
        asked = [(f"Is number {n} of this long list the one that is meant?", "yes", {}) for n in range(count)]
        start = time.process_time()
        assert len(set(groups_of(asked))) == count
        return time.process_time() - start

    assert min(seconds(4000) for _ in range(2)) < 30 * max(seconds(500), 0.03)  # squared it would be 64


def test_one_question_with_one_answer_and_two_labels_is_refused_however_it_is_written():
    first = answer(0, prompt="Who leads?", label=0)
    refuse_conflicts([first, answer(1, prompt="Who leads?", label=0), answer(2, prompt="Who led?", label=1)])
    with pytest.raises(
        LabelError, match="'0' and '3' ask the same, but the answer 'a' is labelled 0 in one and 1"
    ):
        refuse_conflicts([first, answer(3, prompt="who leads", label=1)])


def rows_of(n=600, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n // 3, n)
    return LabelledRows(
        np.arange(n) * 2,
        (rng.random(n) < 0.4).astype(int),
        group,
        rng.integers(0, 12, n),
        rng.integers(0, 150, n),
        group,  # a text is asked within one group
    )


def test_splits_hold_out_what_they_say_and_open_the_test_once():
    rows = rows_of()
    at = {int(row): place for place, row in enumerate(rows.row)}
    splits = all_splits(rows, plan(2, 5, 3, 4, 2), seed=3)
    assert [(split.name, split.repeat) for split in splits] == [
        ("grouped", 0), ("grouped", 1), ("test", 0), ("relations", 0), ("relations", 1), ("answers", 0)
    ]  # fmt: skip
    frozen = set(next(split for split in splits if split.name == "test").folds[0].test.tolist())
    assert 0.15 < len(frozen) / 600 < 0.25
    for split in splits:
        held_out = {
            "grouped": ["group"],
            "test": ["group"],
            "relations": ["relation"],
            "answers": ["answer", "group"],
        }
        tested = [row for fold in split.folds for row in fold.test.tolist()]
        assert len(set(tested)) == len(tested)
        assert set(tested) == (frozen if split.name == "test" else set(rows.row.tolist()) - frozen)
        for fold in split.folds:
            assert not frozen & set(fold.train.tolist())
            train, test = ([at[row] for row in side.tolist()] for side in (fold.train, fold.test))
            for name in held_out[split.name]:
                values = getattr(rows, name)
                assert not set(values[train]) & set(values[test])
            inner_key = getattr(rows, held_out[split.name][0])[train]
            for number in np.unique(fold.inner):
                assert not set(inner_key[fold.inner == number]) & set(inner_key[fold.inner != number])
    for first, second in ((0, 1), (3, 4)):
        assert not np.array_equal(splits[first].folds[0].test, splits[second].folds[0].test)


def test_splits_that_cannot_be_made_are_left_out():
    rows = rows_of()
    one_relation = rows._replace(relation=np.zeros(600, dtype=int))
    assert "relations" not in {split.name for split in all_splits(one_relation, plan(1, 3, 2, 4, 0), 0)}
    decided = rows._replace(relation=rows.label * 3 + rows.row % 3)  # relations all right or all wrong
    assert {s.name for s in all_splits(decided, plan(1, 3, 2, 2, 0), 0)} >= {"grouped", "test"}
    # one of two parts is a single relation, with nothing to hold out inside
    three = rows._replace(relation=rows.row % 3)
    assert "relations" not in {split.name for split in all_splits(three, plan(1, 3, 2, 2, 0), 0)}


def test_a_text_that_two_relations_share_is_not_trained_on_where_it_is_tested():
    rows = rows_of()._replace(text=np.arange(600) % 200)
    at = {int(row): place for place, row in enumerate(rows.row)}
    for split in all_splits(rows, plan(1, 3, 2, 4, 2), 0):
        for fold in split.folds:
            train, test = ({int(rows.text[at[int(row)]]) for row in side} for side in (fold.train, fold.test))
            assert train.isdisjoint(test)
            assert len(fold.inner) == len(fold.train)


def test_no_seed_deals_the_frozen_test_anew():
    def frozen(seed):
        return (
            next(s for s in all_splits(rows_of(), plan(1, 3, 2, 0, 0), seed) if s.name == "test")
            .folds[0]
            .test
        )

    assert np.array_equal(frozen(0), frozen(7))


def test_a_new_question_whose_answer_says_nothing_or_that_lacks_a_signal_has_no_score():
    answers = [
        answer(number, label=None, excluded=why)
        for number, why in enumerate(["empty", "refusal", "no_gold_answer", None, "echo"])
    ]
    found = unscored(answers, np.array([True, True, True, False, True]))
    assert found == ["empty", "refusal", None, "no_features", None]


def test_every_exclusion_has_a_reason_and_few_may_have_none():
    answers = [answer(number) for number in range(1000)]
    answers[3] = answer(3, label=None, excluded="echo")
    there = np.ones(1000, dtype=bool)
    there[7] = False
    assert [(row, why) for row, why in enumerate(exclusions(answers, there)) if why] == [
        (3, "echo"),
        (7, "no_features"),
    ]
    for row in range(10, 16):
        answers[row] = answer(row, label=None)
    with pytest.raises(
        DataError, match=r"7 of 1000 questions have no label, or no features, without a reason"
    ):
        exclusions(answers, there)
