import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from stages.evaluate import scorecard
from stages.evaluate.baselines import Method


def method(name, score, constant=False):
    p = 1 / (1 + np.exp(-score))
    return Method(name, "detector", "", score, p, (p > 0.5).astype(int), constant)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 240).astype(float)
    relation = rng.integers(0, 3, 240)
    return scorecard.Sample.of(
        labels, [f"r{i}" for i in relation], (np.arange(240) // 2).tolist(), 300, 0.9, seed=0
    )


def test_differences_are_paired_resample_by_resample(sample):
    rng = np.random.default_rng(1)
    good, bad = rng.normal(size=240) + 2 * sample.labels, rng.normal(size=240)
    values = {name: scorecard.measure(sample, method(name, s)) for name, s in (("good", good), ("bad", bad))}
    found = scorecard.compare(sample, values, "good", "bad", "auroc")
    slow = [
        roc_auc_score(sample.labels, good, sample_weight=w)
        - roc_auc_score(sample.labels, bad, sample_weight=w)
        for w in sample.weights
    ]
    assert found.difference.low == pytest.approx(np.quantile(slow, 0.05), abs=1e-9)
    assert found.difference.high == pytest.approx(np.quantile(slow, 0.95), abs=1e-9)
    assert found.verdict == "better"
    assert scorecard.compare(sample, values, "bad", "good", "auroc").verdict == "worse"
    assert scorecard.compare(sample, values, "bad", "bad", "auroc").verdict == "not told apart"
    assert scorecard.best(["bad", "good"], values, "auroc") == "good"


def test_figures_are_those_of_the_sample(sample):
    score = np.random.default_rng(1).normal(size=240) + sample.labels
    m = method("m", score)
    figures = scorecard.method_report(sample, m, scorecard.measure(sample, m)).figures
    assert figures.auroc.value == pytest.approx(roc_auc_score(sample.labels, score))
    assert figures.f1.value == pytest.approx(f1_score(sample.labels, m.predicted))
    inside = [
        roc_auc_score(sample.labels[sample.relation == r], score[sample.relation == r]) for r in range(3)
    ]
    assert figures.auroc_within_relation.value == pytest.approx(np.mean(inside))
    for name in type(figures).model_fields:
        figure = getattr(figures, name)
        assert figure.low <= figure.value <= figure.high


def test_pooled_auroc_can_come_from_relations_alone(sample):
    """A score that knows only the relation has an AUROC of one half inside each."""
    labels = (sample.relation > 0).astype(float)
    labels[::7] = 1 - labels[::7]
    only_relation = sample._replace(labels=labels)
    values = scorecard.measure(only_relation, method("m", sample.relation.astype(float), constant=True))
    assert values.by_name["auroc"][0] > 0.7
    assert (values.by_name["auroc_within_relation"] == 0.5).all()


def test_relations_with_one_class_have_no_auroc(sample):
    labels = np.where(sample.relation == 1, 1.0, sample.labels)
    one_sided = sample._replace(labels=labels)
    values = scorecard.measure(one_sided, method("m", np.random.default_rng(0).normal(size=240)))
    rows = {row.relation: row for row in scorecard.relation_reports(one_sided, {"m": values})}
    assert rows["r1"].auroc["m"].value is None
    assert rows["r0"].auroc["m"].value is not None
    assert np.isfinite(values.by_name["auroc_within_relation"][0])
