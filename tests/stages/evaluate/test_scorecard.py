import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from ghosttrack.common.formats.final_report import Figures, MethodCard
from ghosttrack.stages.evaluate import scorecard
from ghosttrack.stages.evaluate.scores import Scores


def card(name, kind="detector", signals=("tracks",), rung=None):
    return MethodCard(
        name=name, title=name, kind=kind, description="", signals=list(signals), rung=rung, layer=None,
        before_answer=False,
    )  # fmt: skip


def scored(*scores):
    score = np.array(scores)
    p = 1 / (1 + np.exp(-score))
    return Scores(p, p**2, (p > 0.5).astype(int))


def measure(sample, *scores, **kind):
    return scorecard.measure(sample, scored(*scores), card("m", **kind))


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
    values = {"good": measure(sample, good), "bad": measure(sample, bad)}
    found = scorecard.compare(sample, values, "detector", "good", "bad", "auroc")
    slow = [
        roc_auc_score(sample.labels, good, sample_weight=w)
        - roc_auc_score(sample.labels, bad, sample_weight=w)
        for w in sample.weights[1:]
    ]
    assert found.difference.low == pytest.approx(np.quantile(slow, 0.05), abs=1e-9)
    assert found.difference.high == pytest.approx(np.quantile(slow, 0.95), abs=1e-9)
    assert found.verdict == "better"
    assert scorecard.compare(sample, values, "detector", "bad", "good", "auroc").verdict == "worse"
    assert (
        scorecard.compare(sample, values, "detector", "bad", "bad", "auroc").verdict == "no clear difference"
    )
    assert scorecard.best(["bad", "good"], values, "auroc") == "good"


def test_figures_are_those_of_the_sample(sample):
    score = np.random.default_rng(1).normal(size=240) + sample.labels
    method, values = scored(score), measure(sample, score)
    figures = scorecard.method_report(sample, card("m"), values).figures
    assert figures.auroc.value == pytest.approx(roc_auc_score(sample.labels, score))
    assert figures.f1.value == pytest.approx(f1_score(sample.labels, method.predicted[0]))
    assert figures.brier.value == pytest.approx(brier_score_loss(sample.labels, method.probability[0]))
    assert figures.ece.value < figures.ece_before.value
    inside = [
        roc_auc_score(sample.labels[sample.relation == r], score[sample.relation == r]) for r in range(3)
    ]
    assert figures.auroc_within_relation.value == pytest.approx(np.mean(inside))
    for name in Figures.model_fields:
        figure = getattr(figures, name)
        assert figure.low <= figure.value <= figure.high, name


def test_repeats_are_averaged_inside_each_resample(sample):
    """Not pooled: a question does not count once a repeat, and the interval does not shrink with their number."""
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=240) + sample.labels for _ in range(2))
    both, alone, twice = measure(sample, first, second), measure(sample, first), measure(sample, first, first)
    expected = (alone.by_name["auroc"] + measure(sample, second).by_name["auroc"]) / 2
    np.testing.assert_allclose(both.by_name["auroc"], expected, atol=1e-12)
    for name, column in alone.by_name.items():
        np.testing.assert_allclose(twice.by_name[name], column, atol=1e-12, err_msg=name)


def test_the_quick_way_for_rankings_is_the_same(sample):
    score = np.round(np.random.default_rng(1).normal(size=240) + sample.labels, 1)
    quick, whole = (
        function(sample, scored(score, -score), card("m"))
        for function in (scorecard.measure_ranking, scorecard.measure)
    )
    for name in scorecard.METRICS:
        np.testing.assert_allclose(quick.by_name[name], whole.by_name[name], atol=1e-12)


def test_pooled_auroc_can_come_from_relations_alone(sample):
    """A score that knows only the relation has an AUROC of one half inside each."""
    labels = (sample.relation > 0).astype(float)
    labels[::7] = 1 - labels[::7]
    score = sample.relation + 1e-3 * np.random.default_rng(0).normal(size=240)  # what each fold left out
    values = measure(sample._replace(labels=labels), score, signals=["relation"])
    assert values.by_name["auroc"][0] > 0.7
    assert (values.by_name["auroc_within_relation"] == 0.5).all()


def test_relations_with_one_class_have_no_auroc(sample):
    one_sided = sample._replace(labels=np.where(sample.relation == 1, 1.0, sample.labels))
    values = measure(one_sided, np.random.default_rng(0).normal(size=240))
    assert np.isnan(values.by_relation[:, 1]).all()
    assert np.isfinite(values.by_relation[0, 0])
    assert np.isfinite(values.by_name["auroc_within_relation"][0])


def test_a_part_of_the_sample_keeps_its_resamples(sample):
    rows = sample.relation != 1
    part = sample.only(rows)
    assert part.relations == ["r0", "r2"]
    assert part.relation.max() == 1
    np.testing.assert_array_equal(part.weights, sample.weights[:, rows])


def test_every_question_of_the_issue_is_compared(sample):
    cards = {
        each.name: each
        for each in (
            card("all", signals=["tracks", "lens"]), card("all_otherwise", signals=["tracks", "lens"]), card("tracks"), card("lens", "baseline", ["lens"]),
            card("none", "rung", rung="none"), card("random", "rung", rung="random"),
            card("marginals", "rung", rung="marginals"),
        )
    }  # fmt: skip
    rng = np.random.default_rng(0)
    values = {name: measure(sample, rng.normal(size=240) + sample.labels) for name in cards}
    found = scorecard.comparisons(sample, values, cards, dict.fromkeys(scorecard.METRICS, "lens"))
    assert {(each.about, each.method, each.against) for each in found} == {
        ("detector", "all", "lens"), ("detector", "all_otherwise", "lens"), ("detector", "tracks", "lens"),
        ("association", "marginals", "none"), ("association", "marginals", "random"), ("increment", "all", "lens"),
    }  # fmt: skip
    assert len(found) == 2 * 6
