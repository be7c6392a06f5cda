import json
import re
from types import SimpleNamespace

import jsonschema
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, roc_auc_score

from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.final_report import Comparison, Figure, FinalReport
from ghosttrack.common.formats.scores import TRANSFER
from ghosttrack.stages.evaluate.findings import contexts_sentence
from ghosttrack.stages.evaluate.parts import read_sae
from tests.stages.evaluate import scored


@pytest.fixture
def folder(evaluated):
    return evaluated / "evaluate" / "out"


@pytest.fixture
def report(folder) -> FinalReport:
    return FinalReport.model_validate_json((folder / "final_report.json").read_text())


@pytest.fixture
def records(evaluated):
    questions = json.loads((evaluated / "detect/hallucination_scores.json").read_text())["questions"]
    return [record for record in questions if record["label"] is not None]


def rows_of(evaluated, method, split="grouped"):
    """[(labels, scores, decisions)] of each repeat."""
    table = pd.read_parquet(evaluated / "detect/scores.parquet")
    table = table[(table["method"] == method) & (table["split"] == split)].sort_values("question")
    return [rows for _, rows in table.groupby("repeat")]


def test_the_file_is_what_its_schema_says(folder):
    jsonschema.validate(
        json.loads((folder / "final_report.json").read_text()), FinalReport.model_json_schema()
    )


def test_figures_are_those_of_the_published_scores(evaluated, report, records):
    labels = [record["label"] for record in records]
    grouped = report.split("grouped")
    full = next(m for m in grouped.methods if m.name == "full")
    repeats = rows_of(evaluated, "full")
    assert full.figures.auroc.value == pytest.approx(
        np.mean([roc_auc_score(labels, r["score"]) for r in repeats])
    )
    assert full.figures.auroc.low < full.figures.auroc.value < full.figures.auroc.high
    c = grouped.confusion
    expected = np.mean([confusion_matrix(labels, r["predicted"]) for r in repeats], axis=0)
    found = [[c.right_called_right, c.right_called_wrong], [c.wrong_called_right, c.wrong_called_wrong]]
    np.testing.assert_allclose(found, expected)
    assert (report.data.n_wrong, report.data.n_labelled) == (sum(labels), len(labels))
    assert sum(report.data.excluded.values()) + len(labels) == report.data.n_questions
    assert report.data.unexplained == 0


def test_every_method_stands_in_every_split(report):
    assert [split.split for split in report.splits] == ["grouped", "test", "relations"]
    expected = [method["name"] for method in scored.METHODS if method["kind"] != "early"]
    for split in report.splits:
        assert sorted(m.name for m in split.methods) == sorted(expected)
        kinds = [m.kind for m in split.methods]
        assert kinds == sorted(kinds, key=["detector", "baseline", "rung"].index)
        assert split.best_baseline["auroc"] == "logprob_mean"
    assert report.main_methods == ["full", "logprob_mean", "tracks", "white_box", "relation_prior"]
    assert report.split("test").n < report.split("grouped").n
    assert report.split("grouped").repeats == 2


def test_the_headline_says_what_was_found(report):
    assert re.search(
        r"tracks \+ white box\) beats the best single method without tracks, logprob mean: AUROC 0\.\d+ against 0\.\d+, paired "
        r"difference \+0\.\d+ \[\+0\.\d+, \+0\.\d+\]; within relations .*; with relations held out ",
        report.headline.detector,
    )
    assert report.headline.tracking.startswith("Tracks add to the other signals. Differences of AUROC: ")
    assert report.headline.helps is True
    for part in ("over random association", "over no association", "tracks added to white box"):
        assert part in report.headline.tracking


def test_what_hypotheses_add_is_said_of_every_split_within_relations_and_on_other_data(report):
    def split(*gains, origin=None):
        comparisons = [
            Comparison(about="contexts", method="anchored", against="full", metric=metric, verdict="better",
                       difference=Figure(value=gain, low=gain - 0.01, high=gain + 0.01))
            for metric, gain in gains
        ]  # fmt: skip
        return SimpleNamespace(comparisons=comparisons, origin=origin)

    splits = {
        "grouped": split(("auroc", 0.02), ("auroc_within_relation", 0.04)),
        "relations": split(("auroc", 0.03)),
        TRANSFER: split(("auroc", 0.11), origin="facts"),
    }
    assert contexts_sentence({"full": report.methods[0]}, splits) == (
        "Hypotheses, the candidate answers read again in other contexts, change the AUROC of tracks + white box of one prompt by "
        "+0.020 [+0.010, +0.030] on all questions (better); +0.040 [+0.030, +0.050] on questions of one relation (better); "
        "+0.030 [+0.020, +0.040] on relations held out (better); +0.110 [+0.100, +0.120] on another data set, the detector of "
        "facts as it is (better)."
    )
    assert report.headline.contexts == ""  # nothing was read in another context


def test_a_negative_is_said_as_plainly(tmp_path, monkeypatch):
    monkeypatch.setitem(scored.STRENGTH, "ladder_marginals", 0.5)
    monkeypatch.setitem(scored.STRENGTH, "full", 0.6)
    out = scored.evaluate(tmp_path, scored.write(tmp_path / "detect"))
    headline = FinalReport.model_validate_json((out / "final_report.json").read_text()).headline
    assert "does worse than the best single method without tracks" in headline.detector
    assert headline.tracking.startswith("Tracks add nothing to the other signals. ")
    assert "(worse)" in headline.tracking
    assert headline.helps is False


def test_without_a_ladder_nothing_is_claimed(tmp_path):
    few = [m for m in scored.METHODS if m["name"] in ("full", "logprob_mean")]
    out = scored.evaluate(tmp_path, scored.write(tmp_path / "detect", methods=few, splits={"grouped": 1}))
    report = FinalReport.model_validate_json((out / "final_report.json").read_text())
    assert report.headline.helps is None
    assert "was not measured" in report.headline.tracking
    assert "Relations held out: not scored." in report.absent
    assert report.early_warning == []
    assert (out / "ablation.png").stat().st_size > 0


def test_expectations_say_met_or_not(evaluated, report, tmp_path):
    met = {e.metric: e.met for e in report.expectations if e.source == "reference page"}
    assert met == {"Reconstruction loss": True, "Active latents": True, "AUROC": True, "F1": True}
    assert {e.metric for e in report.expectations if e.source == "this project"} == {
        "AUROC within relations", "AUROC, relations held out", "Calibration error (ECE)", "AUROC, labels permuted",
    }  # fmt: skip
    out = scored.evaluate(tmp_path, evaluated / "detect", l0=120.0, mse=0.3)
    other = FinalReport.model_validate_json((out / "final_report.json").read_text())
    assert [e.met for e in other.expectations][:2] == [False, False]


def test_early_warning_has_a_point_a_method(report):
    assert [(p.before_answer, p.layer, round(p.depth, 3)) for p in report.early_warning] == [
        (True, 0, 0.167), (True, 1, 0.333), (False, 0, 0.167), (False, 1, 0.333),
    ]  # fmt: skip
    for shallow, deep in (report.early_warning[:2], report.early_warning[2:]):
        assert shallow.auroc.value < deep.auroc.value


def test_error_types_are_set_against_all_right_answers(evaluated, report, records):
    [unknown] = [e for e in report.error_types if e.name == "unknown_subject"]
    kept = np.array([r["label"] == 0 or r["error_type"] == "unknown_subject" for r in records])
    labels = np.array([r["label"] for r in records])[kept]
    repeats = rows_of(evaluated, "full")
    expected = np.mean([roc_auc_score(labels, r["score"][kept]) for r in repeats])
    assert unknown.n == labels.sum()
    assert unknown.auroc.value == pytest.approx(expected)
    assert unknown.found.value == pytest.approx(
        np.mean([r["predicted"][kept][labels == 1].mean() for r in repeats])
    )
    assert sum(e.share for e in report.error_types) == pytest.approx(1)


def test_types_by_accounts_are_set_against_those_by_tracks(report, records):
    pairs = [(r["error_type"], r["error_type_by_tracks"]) for r in records if r["error_type"]]
    found = report.error_type_agreement
    assert found.n == len(pairs) == sum(n for row in found.counts.values() for n in row.values())
    assert found.same == sum(one == other for one, other in pairs)
    expected = sum(  # agreement by chance
        sum(one == kind for one, _ in pairs) * sum(other == kind for _, other in pairs) for kind in {k for p in pairs for k in p}
    ) / len(pairs) ** 2  # fmt: skip
    assert found.kappa == pytest.approx((found.same / found.n - expected) / (1 - expected))


def test_matchers_are_counted_against_the_labels_and_each_other(report, records):
    exact, number, f1 = sorted(report.matchers, key=lambda each: ["exact", "number", "f1"].index(each.name))
    labelled = [record for record in records if record["label"] is not None]
    differ = [r["id"] for r in labelled if r["matched"]["exact"] != r["label"]]
    assert (exact.n, exact.wrong_where_label_is_right, exact.right_where_label_is_wrong) == (
        len(labelled),
        len(differ),
        0,
    )
    assert exact.disagreements == differ[:20]
    assert (f1.wrong_where_label_is_right, f1.right_where_label_is_wrong, f1.disagreements) == (0, 0, [])
    assert number.n == sum("number" in r["matched"] for r in labelled)
    assert exact.differs == {
        other: sum(r["matched"]["exact"] != r["matched"][other] for r in records if other in r["matched"])
        for other in ("f1", "number")
    }
    assert (report.matching, report.matchers[-1].name) == ("auto", "f1")


def test_strict_labels_judge_the_same_scores(evaluated, report, records):
    strict = [r["strict_label"] for r in records]
    assert report.strict.kappa == pytest.approx(cohen_kappa_score([r["label"] for r in records], strict))
    assert report.strict.n_wrong == sum(strict)
    found = next(m for m in report.strict.methods if m.name == "full").figures.auroc.value
    assert found == pytest.approx(
        np.mean([roc_auc_score(strict, r["score"]) for r in rows_of(evaluated, "full")])
    )


def test_the_permutation_control_is_judged(evaluated, report):
    drawn = json.loads((evaluated / "detect/detection_metrics.json").read_text())["permutation"]["auroc"]
    assert report.permutation.mean == pytest.approx(np.mean(drawn))
    assert report.permutation.p_value == pytest.approx(1 / 51)
    assert report.permutation.met is True


def test_quality_of_the_saes_is_beside_the_rest(report):
    assert [layer.layer for layer in report.sae] == report.layers
    first, last = report.sae[0], report.sae[-1]
    assert (first.l0, first.fvu, first.ce_recovered, first.kl_recovered) == (64.0, 0.2, 0.9, None)
    assert (first.next_self_match, last.next_self_match) == (0.995, None)
    assert (report.sae_all_layers.ce_recovered, report.sae_all_layers.fvu_at_the_end) == (0.9, 0.4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda q: q.update(schema_version=9), "schema version 9"),
        (lambda q: q["layers"][0].pop("fvu"), "not a whole sae_quality.json .*fvu"),
        (lambda q: q["layers"][0].update(l0=None), "not a whole sae_quality.json"),
        (lambda q: q["all_layers"].update(error_by_depth=[]), "not a whole sae_quality.json"),
    ],
)
def test_quality_that_does_not_fit_is_refused(tmp_path, damage, message):
    path = scored.write_sae_quality(tmp_path, [0, 1]) / "sae_quality.json"
    assert len(read_sae(path)[0]) == 2
    quality = json.loads(path.read_text())
    damage(quality)
    path.write_text(json.dumps(quality))
    with pytest.raises(CorruptInputError, match=f"{message}.*run sae_train again"):
        read_sae(path)
    path.write_text("{")
    with pytest.raises(CorruptInputError, match="is not JSON"):
        read_sae(path)


def test_pictures_open_and_are_not_blank(folder):
    [unit] = load_contract(scored.ROOT / "stages" / "evaluate").units
    assert sorted(path.name for path in folder.iterdir()) == sorted(unit.writes)
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 7
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert min(pixels.shape[:2]) > 450, picture.name
        assert np.ptp(pixels) > 0.5, picture.name


def test_the_same_input_gives_the_same_bytes(evaluated, tmp_path):
    first, second = (scored.evaluate(tmp_path / name, evaluated / "detect") for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
