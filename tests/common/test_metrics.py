import numpy as np
import pytest
from sklearn import metrics as reference

from common import metrics


def sample(seed: int, n: int = 60, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = rng.normal(size=n) + labels
    weights = rng.integers(0, 4, (5, n)).astype(float)
    return labels, np.round(scores, 1) if ties else scores, weights


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [True, False])
def test_rank_metrics_agree_with_scikit_learn(seed, ties):
    labels, scores, weights = sample(seed, ties=ties)
    found = metrics.rank_metrics(labels, scores, weights)
    for row, w in enumerate(weights):
        assert found.auroc[row] == pytest.approx(
            reference.roc_auc_score(labels, scores, sample_weight=w), abs=1e-12
        )
        assert found.auprc_wrong[row] == pytest.approx(
            reference.average_precision_score(labels, scores, sample_weight=w), abs=1e-12
        )
        assert found.auprc_right[row] == pytest.approx(
            reference.average_precision_score(1 - labels, -scores, sample_weight=w), abs=1e-12
        )


def test_auroc_is_the_share_of_pairs_in_order():
    labels, scores, _ = sample(7)
    wrong, right = scores[labels == 1], scores[labels == 0]
    pairs = (wrong[:, None] > right) + 0.5 * (wrong[:, None] == right)
    assert metrics.auroc(labels, scores) == pytest.approx(pairs.mean(), abs=1e-12)


def test_many_resamples_give_the_same_as_few(monkeypatch):
    labels, scores, weights = sample(3)
    whole = metrics.rank_metrics(labels, scores, weights)
    monkeypatch.setattr(metrics, "_VALUES_AT_ONCE", 70)
    np.testing.assert_allclose(metrics.rank_metrics(labels, scores, weights), whole, rtol=1e-12)


def test_a_resample_without_a_class_is_undefined():
    labels = np.array([0, 0, 1, 1])
    weights = np.array([[1.0, 1, 0, 0], [1, 1, 1, 1]])
    found = metrics.rank_metrics(labels, np.arange(4.0), weights)
    assert np.isnan(found.auroc[0])
    assert found.auroc[1] == 1.0


def test_auroc_by_block_is_that_of_each_block_alone():
    labels, scores, weights = sample(5, n=90)
    blocks = np.arange(90) % 3
    labels[blocks == 2] = 1
    found = metrics.auroc_by_block(labels, scores, blocks, weights)
    for block in (0, 1):
        rows = blocks == block
        expected = reference.roc_auc_score(labels[rows], scores[rows], sample_weight=weights[1][rows])
        assert found[1, block] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[:, 2]).all()


def test_decision_metrics_agree_with_scikit_learn():
    labels, scores, weights = sample(2)
    predicted = (scores > 0.5).astype(int)
    found = metrics.decision_metrics(labels, predicted, weights)
    for row, w in enumerate(weights):
        for name, function in (
            ("precision", reference.precision_score),
            ("recall", reference.recall_score),
            ("f1", reference.f1_score),
            ("accuracy", reference.accuracy_score),
        ):
            assert getattr(found, name)[row] == pytest.approx(
                function(labels, predicted, sample_weight=w), abs=1e-12
            )


def test_brier_agrees_with_scikit_learn():
    labels, scores, weights = sample(1)
    p = 1 / (1 + np.exp(-scores))
    expected = [reference.brier_score_loss(labels, p, sample_weight=w) for w in weights]
    np.testing.assert_allclose(metrics.brier(labels, p, weights), expected, atol=1e-12)


def test_calibration_error_by_hand():
    labels = np.array([0, 0, 1, 1, 1, 0])
    p = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    expected = (2 * abs(0 - 0.15) + 2 * abs(1 - 0.5) + 2 * abs(0.5 - 0.85)) / 6
    assert metrics.expected_calibration_error(labels, p, metrics.ones(6), n_bins=3)[0] == pytest.approx(
        expected
    )


def test_bins_hold_equal_numbers_and_keep_equal_values_together():
    p = np.random.default_rng(0).random(100)
    assert set(np.bincount(metrics.equal_mass_bins(p, 10))) == {10}
    assert len(set(metrics.equal_mass_bins(np.full(50, 0.4), 10))) == 1


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_has_the_best_f1_of_all(seed):
    labels, scores, _ = sample(seed, n=25)
    found = metrics.best_f1_threshold(labels, scores)
    best = max(reference.f1_score(labels, scores >= t) for t in scores)
    assert reference.f1_score(labels, scores >= found) == pytest.approx(best)
