"""The closed-form fits against slow and independent readings of the same."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge

from ghosttrack.common.maths.metrics import auroc
from ghosttrack.stages.detect.evidence import AnsweredQuestion
from ghosttrack.stages.detect.fitted.habits import NAMES, count_habits, fit_habits
from ghosttrack.stages.detect.fitted.latents import fit_latents, telling_columns
from ghosttrack.stages.detect.fitted.linear import STRENGTHS, fit_additive, fit_linear, fit_logistic
from ghosttrack.stages.detect.fitted.probes import fit_probes, place_means
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges
from ghosttrack.stages.detect.permutation import permutation_control
from ghosttrack.stages.detect.protocol.splits import Fold
from tests.stages.detect.synthetic import placed


def problem(n=240, d=20, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    values = rng.normal(size=(n, d))
    values[:, :3] += strength * labels[:, None]
    return values, labels, np.arange(n) // 2 % 4


@pytest.mark.parametrize("d", [20, 600])  # fewer and more columns than rows
def test_ridge_and_its_held_out_scores_are_those_of_fits_without_the_fold(d):
    values, labels, inner = problem(d=d)
    z = Standardiser.fit(values)(values)
    shuffled = np.random.default_rng(1).permutation(labels)
    found = fit_ridges(z, np.stack([labels, shuffled], axis=1), inner, (0.1, 1.0))
    for number, penalty in enumerate((0.1, 1.0)):
        for column, y in enumerate((labels, shuffled)):
            for fold in range(4):
                train = inner != fold
                # columns are standardised once: no centring again, so the intercept is the mean label
                model = Ridge(alpha=penalty * train.sum(), fit_intercept=False)
                model.fit(z[train].astype(float), y[train] - y[train].mean())
                expected = z[~train] @ model.coef_ + y[train].mean()
                np.testing.assert_allclose(found.held_out[number, ~train, column], expected, atol=2e-3)
            whole = Ridge(alpha=penalty * len(y), fit_intercept=False).fit(z.astype(float), y - y.mean())
            np.testing.assert_allclose(found.weights[number, :, column], whole.coef_, atol=2e-3)


def test_missing_values_count_as_the_mean_and_constant_columns_as_nothing():
    values, labels, inner = problem()
    holed = values.copy()
    holed[::5, 0] = np.nan
    standardiser = Standardiser.fit(holed)
    kept = ~np.isnan(holed[:, 0])
    assert standardiser.mean[0] == pytest.approx(holed[kept, 0].mean(), abs=1e-5)
    assert 1 / standardiser.rate[0] == pytest.approx(holed[kept, 0].std(), rel=1e-4)
    constant = np.concatenate([holed, np.full((240, 1), 7.0), np.full((240, 1), np.nan)], axis=1)
    model, held_out = fit_linear(constant, labels, inner)
    assert np.isfinite(model.score(constant)).all()
    assert model.weights[-2:].tolist() == [0, 0]
    assert auroc(labels, held_out) > 0.8


def test_held_out_scores_know_nothing_of_their_own_labels():
    values, labels, inner = problem(strength=0.0)
    states = np.random.default_rng(0).normal(size=(240, 4, 2, 12)).astype(np.float16)
    asked = [AnsweredQuestion(f"r{i % 3}", "", "", "", "", f"a{i}", [], [], [], [], "") for i in range(240)]
    latents = csr_matrix((values > 1) * values)
    none = np.zeros((240, 2), dtype=np.int64), np.zeros((240, 2))
    for scores in (
        fit_linear(values, labels, inner)[1],
        fit_probes(placed(states), labels, inner)[1][:, 0],
        fit_latents(latents, labels, inner)[1],
        fit_habits(asked, *none, labels, inner)[1][:, 1],
    ):
        assert 0.3 < auroc(labels, scores) < 0.7


def test_probes_find_the_cell_that_knows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300).astype(float)
    states = rng.normal(size=(300, 4, 3, 10)).astype(np.float16)
    states[:, 2, 1] += labels[:, None]
    states[::9, 0] = np.nan  # a subject that is not in the prompt
    probes, held_out = fit_probes(placed(states), labels, np.arange(300) % 3)
    assert probes.best == 2 * 3 + 1
    assert probes.cell_name(probes.best, [0, 5, 9]) == "first, layer 5"
    assert probes.auroc[probes.best] > 0.9
    assert np.isfinite(held_out).all()
    scores = probes.score(placed(states))
    assert (scores[::9, :3] == 0).all()
    np.testing.assert_allclose(place_means(scores, 3)[:, 2], scores[:, 6:9].mean(axis=1), rtol=1e-5)


def test_telling_latents_are_those_that_correlate():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200).astype(float)
    dense = rng.random((200, 30)) * (rng.random((200, 30)) < 0.3)
    dense[:, 4] += labels * (rng.random(200) < 0.8)
    dense[:, 9] = 0
    dense[0, 9] = 5  # active once
    expected = np.array([abs(np.corrcoef(dense[:, c], labels)[0, 1]) for c in range(30)])
    expected[9] = -1
    assert telling_columns(csr_matrix(dense), labels, 6).tolist() == sorted(np.argsort(-expected)[:6])


def test_habits_count_training_rows_alone():
    def item(relation, said):
        return AnsweredQuestion(relation, "", "", "", "", said, [], [], [], [], "")

    asked = [item("a", "x"), item("a", "x"), item("a", "y"), item("b", "x")]
    tokens = np.array([[1, 2], [1, 3], [2, 1], [1, 9]])
    logprobs = np.log([[0.5, 0.3], [0.7, 0.2], [0.6, 0.3], [0.9, 0.05]])
    habits = count_habits(asked, tokens, logprobs, np.array([1.0, 1.0, 0.0, 0.0]))
    assert habits.by_both["a\tx"] == [2, 2]
    assert habits.by_answer["x"] == [3, 2]
    assert habits.chances["a"]["1"] == pytest.approx((0.5 + 0.7 + 0.3) / 3)
    columns = habits.columns([item("a", "x"), item("unseen", "z")], tokens[:2], logprobs[:2])
    assert columns[0, NAMES.index("surprise")] == pytest.approx(np.log(0.5 / (0.5 + 1e-5)))
    assert columns[0, NAMES.index("answer_wrong_in_relation")] > columns[0, NAMES.index("relation_wrong")]
    # half of all rows are wrong
    assert columns[1, NAMES.index("relation_wrong")] == pytest.approx(0, abs=1e-9)


def test_the_additive_model_is_the_mean_of_its_penalties_and_its_contributions_add_up():
    values, labels, inner = problem()
    model, held_out = fit_additive(values, labels, inner)
    x = np.nan_to_num(Standardiser.fit(values)(values)).astype(np.float64)
    fits = [LogisticRegression(C=c, max_iter=1000, tol=1e-8).fit(x, labels) for c in STRENGTHS]
    wanted = np.mean([each.decision_function(x) for each in fits], axis=0)
    np.testing.assert_allclose(model.score(values), wanted, atol=2e-3)
    np.testing.assert_allclose(model.contributions(values).sum(axis=1) + model.intercept, model.score(values))
    own = inner == 0
    np.testing.assert_array_equal(held_out[own], fit_logistic(values[~own], labels[~own]).score(values[own]))


def test_shuffled_labels_are_not_found_and_real_ones_are():
    values, labels, _ = problem(n=400)
    relation = np.arange(400) % 4
    fold_of = np.arange(400) // 2 % 4
    folds = [
        Fold(np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f), np.zeros(300, dtype=int))
        for f in range(4)
    ]
    found = permutation_control(values, labels, relation, folds, 100, seed=0)
    assert 0.47 < np.mean(found.auroc) < 0.53
    assert found.observed > max(found.auroc)
    assert found.p_value == pytest.approx(1 / 101)


def test_shuffled_labels_stand_at_chance_where_features_name_the_relation():
    """With few questions a relation, the rest of its labels tell the held-out ones' opposite."""
    rng = np.random.default_rng(0)
    relation, fold_of = np.arange(320) % 16, np.arange(320) // 16 % 5
    labels = rng.integers(0, 2, 320).astype(float)
    values = np.concatenate([np.eye(16)[relation], rng.normal(size=(320, 4))], axis=1)
    folds = [
        Fold(np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f), np.zeros(256, dtype=int))
        for f in range(5)
    ]
    found = permutation_control(values, labels, relation, folds, 100, seed=0)
    assert 0.48 < np.mean(found.auroc) < 0.52
