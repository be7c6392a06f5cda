import numpy as np
import pytest

from ghosttrack.common.formats.final_report import Figure
from ghosttrack.common.maths.bootstrap import centred, group_weights
from ghosttrack.stages.evaluate.scorecard import figure, verdict


def test_groups_are_drawn_whole_and_as_often_as_there_are_groups():
    groups = ["b", "a", "a", "c", "b"]
    weights = group_weights(groups, 500, seed=0)
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    np.testing.assert_array_equal(weights, group_weights(groups, 500, seed=0))
    assert (weights[0] == 1).all()  # the sample itself
    drawn = np.random.default_rng(0).multinomial(3, np.full(3, 1 / 3), size=500)
    np.testing.assert_array_equal(weights[1:], drawn[:, [1, 0, 0, 2, 1]])


def test_the_interval_of_a_mean_is_that_of_theory():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    weights = group_weights(np.arange(400), 4000, seed=1)
    found = figure(np.append(values.mean(), weights @ values / 400), 0.95)
    width = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - width, abs=0.01)
    assert found.high == pytest.approx(values.mean() + width, abs=0.01)


def test_clustered_rows_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(size=40), 10)
    weights = [group_weights(g, 2000, seed=1) for g in (np.arange(400), np.repeat(np.arange(40), 10))]
    alone, clustered = (np.std(w @ values / w.sum(axis=1)) for w in weights)
    assert clustered == pytest.approx(alone * np.sqrt(10), rel=0.15)


def test_undefined_figures_are_null_and_undefined_resamples_left_out():
    nan = float("nan")
    assert figure(np.full(10, nan), 0.95) == Figure(value=None, low=None, high=None)
    assert figure(np.array([1.0, nan, 1.0, 1.0]), 0.95).low == 1.0
    assert figure(np.array([1.0, nan, nan, 1.0]), 0.95) == Figure(value=1.0, low=None, high=None)


def test_centred_figures_lie_about_their_value_and_stay_positive():
    assert centred(np.array([0.02, 0.03, 0.05, 0.07])).tolist() == pytest.approx([0.02, 0.0, 0.02, 0.04])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.02, "better"), (-0.02, -0.01, "worse"), (-0.01, 0.01, "no clear difference"), (0.0, 0.01, "no clear difference"),
     (None, None, "undefined")],
)  # fmt: skip
def test_a_verdict_is_whether_the_interval_excludes_zero(low, high, said):
    assert verdict(Figure(value=0.0, low=low, high=high)) == said
