import numpy as np
import pytest
from scipy.optimize import minimize

from ghosttrack.common.maths.calibration import fit_platt


def test_platt_finds_the_maximum_likelihood_with_smoothed_targets():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = 40 + 3 * (rng.normal(size=200) + labels)
    n1, n0 = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def loss(beta):
        z = beta[0] * (scores - 40) + beta[1]
        return np.sum(np.logaddexp(0, z) - target * z)

    best = minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    expected = 1 / (1 + np.exp(-(best[0] * (scores - 40) + best[1])))
    np.testing.assert_allclose(fit_platt(scores, labels)(scores), expected, atol=1e-5)


def test_probabilities_rise_with_wrongness_whatever_the_sign_of_the_score():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100)
    scores = rng.normal(size=100) + labels
    np.testing.assert_allclose(
        fit_platt(-scores, labels)(-scores), fit_platt(scores, labels)(scores), atol=1e-9
    )


@pytest.mark.parametrize("scores", [np.zeros(10), np.r_[np.zeros(5), np.ones(5)]])
def test_constant_and_separating_scores_give_finite_probabilities(scores):
    p = fit_platt(scores, np.r_[np.zeros(5), np.ones(5)])(scores)
    assert ((p > 0) & (p < 1)).all()


def test_beyond_the_scores_it_was_fitted_on_a_probability_grows_no_further():
    labels = np.tile([0, 1], 20)
    scores = 0.5 + 0.001 * labels + 0.0005 * np.sin(np.arange(40))  # all alike, as of answers of one form
    platt = fit_platt(scores, labels)
    np.testing.assert_array_equal(platt.bounded(scores), platt(scores))
    inside = platt(scores)
    assert platt.bounded([-3, 0, 1, 9]).tolist() == [inside.min(), inside.min(), inside.max(), inside.max()]
    assert platt([9]) > inside.max()
