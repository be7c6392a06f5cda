import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from ghosttrack.common.maths.metrics import rank_metrics
from ghosttrack.stages.evaluate.curves import GRID, curves
from ghosttrack.stages.evaluate.scorecard import Sample
from ghosttrack.stages.evaluate.scores import Scores


@pytest.fixture(params=[False, True], ids=["distinct", "ties"])
def drawn(request):
    """Curves of one method, its labels and scores."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400).astype(float)
    score = rng.normal(size=400) + 1.5 * labels
    score = np.round(score, 1) if request.param else score
    sample = Sample.of(labels, ["r"] * 400, list(range(400)), 200, 0.95, seed=0)
    p = 1 / (1 + np.exp(-score))
    scores = Scores(p[None], p[None], (p[None] > 0.5).astype(int))
    return curves(sample, {"m": scores}), labels, score, p


def test_roc_is_that_of_scikit_learn(drawn):
    found, labels, score, _ = drawn
    [curve] = found.roc
    fpr, tpr, _ = roc_curve(labels, score, drop_intermediate=False)
    inner = [x for x in GRID[1:-1] if np.abs(fpr - x).min() > 1e-9]
    expected = np.interp(inner, fpr, tpr)
    assert np.interp(inner, curve.x, curve.y) == pytest.approx(expected, abs=1e-4)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(labels, score), abs=0.01)


def test_precision_at_each_recall_is_that_of_scikit_learn(drawn):
    found, labels, score, _ = drawn
    [curve] = found.precision_recall
    precision, recall, _ = precision_recall_curve(labels, score)
    for x, y in zip(curve.x, curve.y, strict=True):
        first = np.flatnonzero(recall >= x - 1e-9)[-1]  # recall falls along scikit-learn's curve
        assert y == pytest.approx(precision[first], abs=1e-4)


def test_risk_at_each_coverage_is_counted(drawn):
    found, labels, score, _ = drawn
    [curve] = found.risk_coverage
    for x, y in zip(curve.x, curve.y, strict=True):
        threshold = np.sort(score)[int(np.ceil(x * 400 - 1e-9)) - 1]
        assert y == pytest.approx(labels[score <= threshold].mean(), abs=1e-4)
    assert np.mean(curve.y) == pytest.approx(rank_metrics(labels, score, np.ones((1, 400))).aurc[0], abs=0.01)


def test_reliability_is_the_share_wrong_of_each_bin(drawn):
    found, labels, score, p = drawn
    [curve] = found.reliability
    assert 10 <= len(curve.x) <= 15
    assert curve.x == sorted(curve.x)
    if len(np.unique(score)) == 400:
        order = np.argsort(p)
        bins = np.array_split(order, 15)
        assert curve.x == pytest.approx([p[b].mean() for b in bins], abs=0.03)
    assert np.average(curve.y, weights=np.ones(len(curve.y))) == pytest.approx(labels.mean(), abs=0.06)


def test_bands_hold_their_curve(drawn):
    for kind in ("roc", "precision_recall", "risk_coverage", "reliability"):
        [curve] = getattr(drawn[0], kind)
        for low, y, high in zip(curve.low, curve.y, curve.high, strict=True):
            assert low - 0.02 <= y <= high + 0.02, kind
