import numpy as np
import pytest
from sklearn import metrics as reference

from ghosttrack.common.maths import metrics


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


def copies(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each row as often as its weight says."""
    return np.repeat(values, weights.astype(int))


def selective_by_hand(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """One answer at a time, in plain loops."""
    n, wrong = len(labels), int(labels.sum())
    risks = [labels[scores <= s].mean() for s in scores]
    first_right = np.sort(labels)
    oracle = [first_right[:k].mean() for k in range(1, n + 1)]
    kept = [(np.mean(scores <= s), 1 - labels[scores <= s].mean()) for s in scores]
    return {
        "aurc": np.mean(risks),
        "e_aurc": np.mean(risks) - np.mean(oracle),
        "prr": (np.mean(risks) - wrong / n) / (np.mean(oracle) - wrong / n),
        "coverage_80": max((share for share, accuracy in kept if accuracy >= 0.8 - 1e-12), default=0),
        "coverage_90": max((share for share, accuracy in kept if accuracy >= 0.9 - 1e-12), default=0),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [True, False])
def test_selective_metrics_agree_with_counting_answer_by_answer(seed, ties):
    labels, scores, weights = sample(seed, ties=ties)
    scores = scores + labels
    found = metrics.rank_metrics(labels, scores, weights)
    for row, w in enumerate(weights):
        by_hand = selective_by_hand(copies(labels, w), copies(scores, w))
        for name, value in by_hand.items():
            assert getattr(found, name)[row] == pytest.approx(value, abs=1e-12), name


def rejection_area(quality: np.ndarray, uncertainty: np.ndarray, max_rejection: float) -> float:
    """Mean over rejections of 0 … max_rejection · n − 1 most uncertain answers of the mean quality of the rest."""
    n = len(quality)
    rejected = range(int(max_rejection * n))
    order = np.argsort(uncertainty)
    return float(np.mean([quality[order[: n - k]].mean() for k in rejected]))


@pytest.mark.parametrize("n", [60, 61])
@pytest.mark.parametrize(("name", "max_rejection"), [("prr", 1.0), ("prr_half", 0.5)])
def test_prediction_rejection_ratio_is_the_ratio_of_areas(n, name, max_rejection):
    labels, scores, _ = sample(3, n=n, ties=False)
    quality = 1.0 - labels
    area, best = (rejection_area(quality, u, max_rejection) for u in (scores, labels))
    expected = (area - quality.mean()) / (best - quality.mean())
    assert getattr(metrics.rank_metrics(labels, scores, metrics.ones(n)), name)[0] == pytest.approx(expected)


def test_selective_metrics_of_chance_and_of_an_oracle():
    labels, _, _ = sample(2, n=200)
    constant = metrics.rank_metrics(labels, np.zeros(200), metrics.ones(200))
    assert constant.aurc[0] == pytest.approx(labels.mean())
    assert [constant.prr[0], constant.prr_half[0], constant.coverage_80[0]] == pytest.approx([0, 0, 0])
    oracle = metrics.rank_metrics(labels, labels + 1e-6 * np.arange(200), metrics.ones(200))
    assert [oracle.e_aurc[0], oracle.prr[0], oracle.prr_half[0]] == pytest.approx([0, 1, 1])
    assert oracle.coverage_80[0] == pytest.approx((1 - labels.mean()) / 0.8, abs=1 / 200)


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


@pytest.mark.parametrize("ties", [True, False])
def test_auroc_by_block_is_that_of_each_block_alone(ties):
    labels, scores, weights = sample(5, n=90, ties=ties)
    blocks = np.arange(90) % 3
    labels[blocks == 2] = 1
    weights[3, (blocks == 0) & (labels == 1)] = 0
    found = metrics.auroc_by_block(labels, scores, blocks, weights)
    for block in (0, 1):
        rows = blocks == block
        expected = reference.roc_auc_score(labels[rows], scores[rows], sample_weight=weights[1][rows])
        assert found[1, block] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(found[3, 0])
    assert np.isfinite(found[3, 1])


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


def test_brier_skill_is_zero_for_the_prevalence_and_one_for_the_truth():
    labels, scores, weights = sample(1)
    p = 1 / (1 + np.exp(-scores))
    found = metrics.brier_skill(labels, p, weights)
    for row, w in enumerate(weights):
        y, q = copies(labels, w), copies(p, w)
        expected = 1 - np.mean((q - y) ** 2) / np.mean((y.mean() - y) ** 2)
        assert found[row] == pytest.approx(expected, abs=1e-12)
    assert metrics.brier_skill(labels, labels, weights) == pytest.approx(1)
    assert metrics.brier_skill(labels, np.full(60, labels.mean()), metrics.ones(60)) == pytest.approx(0)
    assert np.isnan(metrics.brier_skill(np.ones(4), np.ones(4), metrics.ones(4))).all()


def test_calibration_error_by_hand():
    labels = np.array([0, 0, 1, 1, 1, 0])
    p = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    expected = (2 * abs(0 - 0.15) + 2 * abs(1 - 0.5) + 2 * abs(0.5 - 0.85)) / 6
    assert metrics.expected_calibration_error(labels, p, metrics.ones(6), n_bins=3)[0] == pytest.approx(
        expected
    )


def test_calibration_error_by_chance_is_what_exact_probabilities_have():
    random = np.random.default_rng(0)
    p = random.beta(0.6, 0.5, 400)
    drawn = [
        metrics.expected_calibration_error(random.random(400) < p, p, metrics.ones(400))[0]
        for _ in range(2000)
    ]
    found = metrics.calibration_error_by_chance(p, metrics.ones(400))
    assert found[0] == pytest.approx(np.mean(drawn), rel=0.03)


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


def test_weights_in_bytes_give_what_floats_give(monkeypatch):
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 90), rng.random(90)
    whole = rng.integers(0, 5, (40, 90))
    asked = (metrics.rank_metrics, metrics.brier_skill, metrics.expected_calibration_error)
    expected = [measure(labels, scores, whole.astype(float)) for measure in asked]
    monkeypatch.setattr(metrics, "_FACTORS_AT_ONCE", 700)  # seven resamples at a time
    monkeypatch.setattr(metrics, "_VALUES_AT_ONCE", 500)
    for measure, floats in zip(asked, expected, strict=True):
        np.testing.assert_allclose(measure(labels, scores, whole.astype(np.uint8)), floats, rtol=1e-12)
    flagged = (scores > 0.5).astype(int)
    found = metrics.decision_metrics(labels, flagged, np.full((1, 90), 200, dtype=np.uint8))
    assert found.accuracy[0] == (labels == flagged).mean()  # 90 · 200 is no byte
