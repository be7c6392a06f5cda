"""Features of contexts by hand, and what fixed weights and the distance from what was fitted do."""

import dataclasses

import numpy as np
import pytest

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.maths.metrics import auroc
from ghosttrack.stages.detect import anchored
from ghosttrack.stages.detect.anchored import counted, fit_anchored, fit_novelty, known, known_inside
from ghosttrack.stages.detect.columns import Columns
from ghosttrack.stages.detect.crossval import dealt
from ghosttrack.stages.detect.features.contexts import context_features
from ghosttrack.stages.detect.features.tokens import improbability


def table(rows):
    """rows: (question, context, hypothesis, evidence, total, shows, greedy), answers of one token."""
    names = ("question", "context", "hypothesis", "evidence", "total", "shows", "greedy")
    columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    return {**columns, "n_tokens": np.ones(len(rows), dtype=np.uint16)}


TWO = table([
    (0, 0, 0, -0.5, np.log(0.6), False, True), (0, 0, 1, -1.0, np.log(0.2), False, False),
    (0, 1, 0, -2.0, np.log(0.1), False, False), (0, 1, 1, -0.4, np.log(0.3), False, True),
    (0, 2, 0, -0.2, np.log(0.4), True, True), (0, 2, 1, -3.0, np.log(0.1), False, False),
    (1, 0, 0, -1.5, np.log(0.5), False, True),
])  # fmt: skip


def test_features_are_those_worked_out_by_hand():
    features = context_features(TWO, 2)
    first, alone = (dict(zip(features.names, row, strict=True)) for row in features.values)
    assert first["contexts.anchor"] == pytest.approx(-(np.exp(-2.0) + np.exp(-0.2)) / 2)
    assert first["contexts.anchor_logarithms"] == pytest.approx(1.1)
    assert first["contexts.anchor_unshown"] == pytest.approx(-np.exp(-2.0))  # context 2 shows the answer
    assert first["contexts.inflation"] == pytest.approx(0.6)
    assert first["contexts.agreement"] == 0.5
    posterior = np.array([[0.75, 0.25], [0.25, 0.75], [0.8, 0.2]])
    mean = posterior.mean(axis=0)

    def entropy(p):
        return -(p * np.log(p)).sum()

    assert first["contexts.standing"] == pytest.approx(mean[0])
    assert first["contexts.entropy"] == pytest.approx(entropy(mean))
    assert first["contexts.disagreement"] == pytest.approx(
        entropy(mean) - np.mean([entropy(p) for p in posterior])
    )
    assert first["contexts.churn"] == pytest.approx(np.mean([abs(p - mean).sum() / 2 for p in posterior]))
    assert alone["contexts.anchor"] == pytest.approx(-np.exp(-1.5))  # no other context: its own probability
    assert alone["contexts.entropy"] == alone["contexts.churn"] == 0.0


def test_a_context_in_which_the_model_is_lost_does_not_decide():
    """Planted: own log-probabilities tell wrong answers; of four contexts that show nothing new one finds nothing likely."""
    rng, n = np.random.default_rng(0), 400
    wrong = np.arange(n) % 2
    own = -rng.exponential(1 + wrong)
    lost = -rng.exponential(20, n)
    rows = []
    for question in range(n):
        found = [own[question], *(own[question] + rng.normal(0, 0.3, 3)), lost[question]]
        rows += [(question, context, 0, value, value, False, True) for context, value in enumerate(found)]
    features = context_features(table(rows), n)
    score = dict(zip(features.names, features.values.T, strict=True))
    alone, anchor, logarithms = (
        auroc(wrong, values)
        for values in (-own, score["contexts.anchor"], score["contexts.anchor_logarithms"])
    )
    assert anchor > alone - 0.02
    assert logarithms < alone - 0.05


def test_an_answer_that_every_context_shows_is_read_in_all_of_them():
    shown = {name: values[:6].copy() for name, values in TWO.items()}
    shown["shows"][:] = True
    features = context_features(shown, 1)
    found = dict(zip(features.names, features.values[0], strict=True))
    assert found["contexts.anchor_unshown"] == found["contexts.anchor"]


def test_an_answer_of_many_tokens_is_as_improbable_as_four_of_them():
    assert improbability(np.array([-1.0, -4.0, -8.0, -800.0]), np.array([1, 4, 8, 800])) == pytest.approx(
        -np.exp([-1.0, -4.0, -4.0, -4.0])
    )
    long = {**TWO, "n_tokens": np.where(TWO["question"] == 0, 8, 1)}
    found = context_features(long, 2)
    assert found.values[0, found.names.index("contexts.anchor")] == pytest.approx(
        -(np.exp(-1.0) + np.exp(-0.1)) / 2
    )


def test_answers_of_another_data_set_that_are_less_likely_by_many_nats_do_not_outweigh_the_trained_score():
    """Planted: the trained score tells them, and the anchor tells nothing about answers whose log-probabilities are spread
    ten times as widely as those that it was standardised by."""
    rng, n = np.random.default_rng(1), 2000
    wrong = np.arange(n) % 2
    trained = rng.normal(size=n) + wrong
    here, there = -rng.exponential(1 + wrong), -rng.exponential(10, n)

    def score(anchor):
        return fit_anchored(anchor(here), trained).score(anchor(there), trained, 0.0)

    probability = score(lambda v: improbability(v, np.ones(n)))
    logarithm = score(lambda v: -v)
    assert auroc(wrong, probability) > auroc(wrong, trained) - 0.03
    assert auroc(wrong, logarithm) < auroc(wrong, trained) - 0.1


def test_a_table_of_other_questions_or_with_nan_is_refused():
    with pytest.raises(CorruptInputError, match="these 3 questions"):
        context_features(TWO, 3)
    with pytest.raises(NumericError, match="question 1 "):
        context_features({**TWO, "evidence": np.where(TWO["question"] == 1, np.nan, TWO["evidence"])}, 2)


def test_the_trained_part_counts_less_the_farther_an_answer_is_from_what_was_fitted():
    rng = np.random.default_rng(0)
    values, inner = rng.normal(size=(200, 4)), np.arange(200) % 4
    novelty = fit_novelty(values, inner)
    near, far, farther = (float(novelty.weight(values[:1] + shift)[0]) for shift in (0.0, 3.0, 6.0))
    assert near > far > farther > 0
    assert np.mean(novelty.weight(rng.normal(size=(200, 4))) == 1.0) > 0.8
    joint = fit_anchored(values[:, 0], values[:, 1])
    z = [(column - column.mean()) / column.std() for column in values.T[:2]]
    joint = dataclasses.replace(joint, fitted_to=10**15)
    np.testing.assert_allclose(joint.score(values[:, 0], values[:, 1], 0.0, 0.5), 0.5 * z[0] + 0.5 * z[1])


def test_the_anchor_gives_way_as_far_as_the_relation_is_known_and_the_answer_is_like_what_was_fitted():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 2))
    joint = fit_anchored(values[:, 0], values[:, 1])
    z = [(column - column.mean()) / column.std() for column in values.T]
    score = joint.score(values[:, 0], values[:, 1], np.full(200, 0.75), np.full(200, 0.5))
    # 200 answers were fitted to: with none the anchor would stand alone, with 50 half of it would
    np.testing.assert_allclose(score, 0.8 * (0.25 * (0.5 * z[0] + 0.5 * z[1]) + 0.75 * z[1]) + 0.2 * z[0])
    counts = counted(["border", "", "capital", "border", ""])
    assert counts == {"border": 2, "capital": 1}
    # Thirty answers halve it; where no relation is named, or none like it was trained on, it stands whole.
    np.testing.assert_allclose(known(["border", "river"], {"border": 30}), [0.5, 0])
    np.testing.assert_allclose(known(["border", "", "river", "capital"], counts), [2 / 32, 0, 0, 1 / 31])


def test_a_training_answer_s_relation_is_known_by_the_other_inner_folds_alone():
    relations, inner = ["a", "a", "a", "b", "b", "a"], np.array([0, 0, 1, 1, 1, 2])
    expected = [2 / 32, 2 / 32, 3 / 33, 0, 0, 3 / 33]
    np.testing.assert_allclose(known_inside(relations, inner), expected)


def test_dealt_rows_stay_in_their_relation_and_none_keeps_its_own():
    key = np.array(["a", "b"])[np.arange(31) % 2]
    order = dealt(key, np.random.default_rng(0))
    assert sorted(order) == list(range(31))
    assert (key[order] == key).all()
    assert (order != np.arange(31)).all()
    assert (dealt(np.zeros(5), np.random.default_rng(0)) != np.arange(5)).all()


def test_all_columns_of_a_signal_are_dealt_together_and_no_others():
    values = np.arange(12.0).reshape(3, 4)
    columns = Columns(values, ["a", "b", "c", "d"], ["text", "contexts", "text", "contexts"])
    order = np.array([2, 0, 1])
    found = columns.dealt("contexts", order)
    np.testing.assert_array_equal(found.of(["contexts"]), values[order][:, [1, 3]])
    np.testing.assert_array_equal(found.of(["text"]), values[:, [0, 2]])
    np.testing.assert_array_equal(columns.values, np.arange(12.0).reshape(3, 4))


def test_distances_to_many_training_answers_are_taken_in_parts_to_some_of_them(monkeypatch):
    values, inner = np.random.default_rng(0).normal(size=(300, 6)), np.arange(300) % 4
    asked = np.random.default_rng(1).normal(size=(50, 6)) * 2
    whole = fit_novelty(values, inner)
    assert len(whole.place) == 300
    expected = whole.weight(asked)
    monkeypatch.setattr(anchored, "ROWS_AT_ONCE", 16)
    np.testing.assert_allclose(fit_novelty(values, inner).weight(asked), expected, rtol=1e-5)
    monkeypatch.setattr(anchored, "MOST_KEPT", 100)
    some = fit_novelty(values, inner)
    np.testing.assert_array_equal(some.place, whole.place[::3])
    assert np.corrcoef(some.weight(asked), expected)[0, 1] > 0.9
