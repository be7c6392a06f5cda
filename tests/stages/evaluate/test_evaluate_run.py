import json
import shutil

import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from common.contract import load_contract
from common.errors import CorruptInputError
from stages.evaluate.run import read_sae, run
from stages.evaluate.schema import FinalReport
from tests.stages.detect import synthetic


@pytest.fixture
def report(finished_run) -> FinalReport:
    path = synthetic.published(finished_run / "evaluate") / "final_report.json"
    return FinalReport.model_validate_json(path.read_text())


def evaluate(finished_run, folder, **changes):
    """evaluate again, on copies that a test may damage first."""
    settings = synthetic.config(**changes)
    units = {
        "track/all": finished_run / "track",
        "detect/all": folder / "detect",
        **synthetic.write_sae_quality(folder / "sae", settings.layers, l0=120.0, mse=0.3),
    }
    if not (folder / "detect").exists():
        shutil.copytree(synthetic.published(finished_run / "detect"), folder / "detect")
    run(synthetic.job("evaluate", settings, folder / "evaluate", units))
    return synthetic.published(folder / "evaluate")


def test_figures_are_those_of_the_published_scores(finished_run, report):
    path = synthetic.published(finished_run / "detect") / "hallucination_scores.json"
    records = [r for r in json.loads(path.read_text())["questions"] if r["label"] is not None]
    labels, scores = [r["label"] for r in records], [r["score"] for r in records]
    tracks = next(m for m in report.methods if m.name == "tracks")
    assert tracks.figures.auroc.value == pytest.approx(roc_auc_score(labels, scores))
    assert tracks.figures.auroc.low < tracks.figures.auroc.value < tracks.figures.auroc.high
    c = report.confusion
    assert [[c.right_called_right, c.right_called_wrong], [c.wrong_called_right, c.wrong_called_wrong]] == (
        confusion_matrix(labels, [r["predicted"] for r in records]).tolist()
    )
    assert report.data.n_wrong == sum(labels)
    assert sum(report.data.excluded.values()) + len(labels) == report.data.n_questions


def test_every_baseline_stands_beside_the_detector(report):
    kinds = {method.name: method.kind for method in report.methods}
    assert kinds == {"tracks": "detector"} | dict.fromkeys(
        ("logits", "logprob_mean", "logprob_min", "token_entropy", "answer_length", "relation_identity"),
        "baseline",
    )
    aurocs = {m.name: m.figures.auroc.value for m in report.methods if m.kind == "baseline"}
    assert report.best_baseline == max(aurocs, key=aurocs.__getitem__)
    assert report.comparisons[0].baseline == report.best_baseline
    assert {c.metric for c in report.comparisons} == {"auroc", "auroc_within_relation"}
    assert report.best_baseline in report.headline


def test_expectations_say_met_or_not(finished_run, tmp_path, report):
    met = {e.metric: e.met for e in report.expectations}
    assert met["Reconstruction loss"] is True
    assert met["Active features"] is True
    other = FinalReport.model_validate_json(
        (evaluate(finished_run, tmp_path) / "final_report.json").read_text()
    )
    assert {e.metric: e.met for e in other.expectations}["Reconstruction loss"] is False
    assert {e.metric: e.met for e in other.expectations}["Active features"] is False


def test_quality_of_the_saes_is_beside_the_rest(report):
    assert [layer.layer for layer in report.sae] == report.layers
    first, last = report.sae[0], report.sae[-1]
    assert (first.l0, first.fvu, first.ce_recovered, first.kl_recovered) == (64.0, 0.2, 0.9, None)
    assert (first.next_self_match, last.next_self_match) == (0.995, None)
    assert (report.sae_all_layers.ce_recovered, report.sae_all_layers.fvu_at_the_end) == (0.9, 0.4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda q: q["layers"].pop(), "of other layers"),
        (lambda q: q.update(schema_version=9), "schema version 9"),
        (lambda q: q["layers"][0].pop("fvu"), "not a file of SAE quality .*'fvu'"),
        (lambda q: q["layers"][0].update(l0=None), "not a file of SAE quality"),
        (lambda q: q["all_layers"].update(error_by_depth=[]), "not a file of SAE quality"),
    ],
)
def test_quality_that_does_not_fit_is_refused(tmp_path, damage, message):
    path = synthetic.write_sae_quality(tmp_path, [0, 1])["sae_train/quality"] / "sae_quality.json"
    assert len(read_sae(path, [0, 1])[0]) == 2
    quality = json.loads(path.read_text())
    damage(quality)
    path.write_text(json.dumps(quality))
    with pytest.raises(CorruptInputError, match=f"{message}.*run sae_train again"):
        read_sae(path, [0, 1])
    path.write_text("{")
    with pytest.raises(CorruptInputError, match="not a file of SAE quality"):
        read_sae(path, [0, 1])


def test_pictures_open_and_are_not_blank(finished_run):
    out = synthetic.published(finished_run / "evaluate")
    [unit] = load_contract(synthetic.ROOT / "stages" / "evaluate").units
    assert sorted(path.name for path in out.iterdir()) == sorted(unit.writes)
    for name in ("roc_curve.png", "confusion_matrix.png", "metrics.png"):
        pixels = matplotlib.image.imread(out / name)
        assert min(pixels.shape[:2]) > 600
        assert np.ptp(pixels) > 0.5


def test_the_same_input_gives_the_same_bytes(finished_run, tmp_path):
    first, second = (evaluate(finished_run, tmp_path / name) for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s["questions"].pop(), "different questions"),
        (lambda s: s["questions"][0].update(label=1 - (s["questions"][0]["label"] or 0)), "different questions or labels"),
        (lambda s: s.update(schema_version=99), "schema version 99"),
        (lambda s: s.pop("questions"), "not a file of scores"),
        (lambda s: next(q for q in s["questions"] if q["label"] is not None).update(score=None), "no score"),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit_are_refused(finished_run, tmp_path, damage, message):
    shutil.copytree(synthetic.published(finished_run / "detect"), tmp_path / "detect")
    path = tmp_path / "detect" / "hallucination_scores.json"
    scores = json.loads(path.read_text())
    damage(scores)
    path.write_text(json.dumps(scores))
    with pytest.raises(CorruptInputError, match=message):
        evaluate(finished_run, tmp_path)
