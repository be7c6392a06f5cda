from types import SimpleNamespace

import numpy as np
import pytest

from stages.evaluate.baselines import baselines, fitted_on_other_folds, learn_sign, relation_prior


def answer(logprobs, entropies, relation="r"):
    return SimpleNamespace(
        logprobs=logprobs, entropies=entropies, tokens=["t"] * len(logprobs), relation=relation
    )


def test_scores_are_higher_for_less_likely_answers():
    sure, unsure = answer([-0.1, -0.2], [0.1, 0.1]), answer([-0.1, -3.0, -2.0], [0.5, 2.0, 1.0])
    labels = np.array([0.0, 1.0] * 4)
    found = {m.name: m for m in baselines([sure, unsure] * 4, labels, np.repeat([0, 1], 4))}
    assert found["logprob_mean"].score[:2] == pytest.approx([0.15, 1.7])
    assert found["logprob_min"].score[:2] == pytest.approx([0.2, 3.0])
    assert found["token_entropy"].score[:2] == pytest.approx([0.1, 3.5 / 3])
    assert found["answer_length"].score[:2].tolist() == [2, 3]
    for method in found.values():
        if method.name != "relation_identity":
            assert (method.predicted == labels).all()
            assert (method.probability[labels == 1] > method.probability[labels == 0].max()).all()


def test_the_sign_is_learned_on_the_other_folds():
    labels = np.array([0, 1, 0, 1, 0, 1.0])
    score = np.array([5.0, 1, 6, 2, 7, 3])
    np.testing.assert_array_equal(learn_sign(score, labels, np.array([0, 0, 1, 1, 2, 2])), -score)


def test_relation_prior_is_counted_on_the_other_folds():
    relation = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1.0])
    folds = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    found = relation_prior(relation, labels, folds)
    assert found.probability[0] == pytest.approx((1 + 2 * 0.5) / 4)  # fold 1: one of two wrong, half overall
    assert found.probability[2] == pytest.approx((2 + 2 * 0.5) / 4)  # fold 0: two of two wrong


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_labels_of_a_fold_do_not_reach_its_own_results(fold):
    rng = np.random.default_rng(0)
    labels, folds = rng.integers(0, 2, 90).astype(float), np.arange(90) % 3
    score, relation = rng.normal(size=90) + labels, rng.integers(0, 4, 90)
    inside = folds == fold
    other = np.where(inside, 1 - labels, labels)
    for function in (
        lambda y: fitted_on_other_folds("x", "", score, y, folds),
        lambda y: relation_prior(relation, y, folds),
    ):
        first, second = function(labels), function(other)
        np.testing.assert_array_equal(first.probability[inside], second.probability[inside])
        np.testing.assert_array_equal(first.predicted[inside], second.predicted[inside])
