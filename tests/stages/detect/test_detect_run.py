import csv
import json

import numpy as np
import pandas as pd
import pytest

from common.contract import load_contract
from common.errors import CorruptInputError, LabelError, NumericError
from stages.detect.run import run
from tests.stages.detect import synthetic


def detect(folder, lines, table, **changes):
    settings = synthetic.config(**changes)
    unit = synthetic.write_track_unit(folder / "track", lines, table)
    run(synthetic.job("detect", settings, folder, {"track/all": unit}))
    return synthetic.published(folder)


@pytest.fixture(scope="module")
def made_up():
    lines, wrong = synthetic.answers(60)
    return lines, synthetic.tracks(lines, wrong, synthetic.config().layers)


def test_every_question_has_a_record_and_every_labelled_one_a_score(finished_run):
    out = synthetic.published(finished_run / "detect")
    scores = json.loads((out / "hallucination_scores.json").read_text())
    assert [record["id"] for record in scores["questions"]] == [f"q{i}" for i in range(160)]
    for record in scores["questions"]:
        if record["label"] is not None:
            assert 0 <= record["score"] <= 1
            assert record["predicted"] == int(record["score"] >= record["threshold"])
        else:
            assert record["excluded"] in ("empty", "echo")
            assert (record["score"] is None) == (record["excluded"] == "empty")
    folds = {record["group"]: set() for record in scores["questions"]}
    for record in scores["questions"]:
        folds[record["group"]].add(record["fold"])
    assert all(len(each) == 1 for each in folds.values())


def test_the_files_agree_and_are_those_of_the_contract(finished_run):
    out = synthetic.published(finished_run / "detect")
    [unit] = load_contract(synthetic.ROOT / "stages" / "detect").units
    assert sorted(path.name for path in out.iterdir()) == sorted(unit.writes)
    scores = json.loads((out / "hallucination_scores.json").read_text())["questions"]
    with (out / "classifications.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [record["id"] for record in scores]
    assert all(
        float(row["score"]) == record["score"]
        for row, record in zip(rows, scores, strict=True)
        if row["score"]
    )
    metrics = json.loads((out / "detection_metrics.json").read_text())
    assert (
        metrics["n_wrong"] + metrics["n_right"] + sum(metrics["excluded"].values())
        == metrics["n_questions"]
        == 160
    )
    assert metrics["detectors"]["tracks"]["auroc"] > 0.8
    assert len(metrics["detectors"]["tracks"]["folds"]) == 4
    assert list(pd.read_parquet(out / "features.parquet")["id"]) == [record["id"] for record in scores]


def test_features_see_neither_gold_nor_label(tmp_path, made_up):
    lines, table = made_up
    rng = np.random.default_rng(0)
    labels = rng.permutation([line["label"] for line in lines if line["label"] is not None]).tolist()
    changed = [
        line
        | {"gold": "else", "aliases": ["else"]}
        | ({} if line["label"] is None else {"label": int(labels.pop())})
        for line in lines
    ]
    first = detect(tmp_path / "a", lines, table) / "features.parquet"
    second = detect(tmp_path / "b", changed, table) / "features.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(first), pd.read_parquet(second), check_exact=True)


def test_the_same_input_gives_the_same_bytes(tmp_path, made_up):
    first, second = (detect(tmp_path / name, *made_up) for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("label", "missing"), [(1, "correct"), (0, "wrong")])
def test_one_class_only_is_refused(tmp_path, made_up, label, missing):
    lines, table = made_up
    one_class = [line | {"label": None if line["label"] is None else label} for line in lines]
    with pytest.raises(LabelError, match=f"no {missing} answers"):
        detect(tmp_path, one_class, table)


def test_a_labelled_question_without_tracks_is_named(tmp_path, made_up):
    lines, table = made_up
    labelled = next(i for i, line in enumerate(lines) if line["label"] is not None)
    with pytest.raises(
        NumericError, match=f"question 'q{labelled}' has a label but no finite tracks feature"
    ):
        detect(tmp_path, lines, table[table.question != labelled])


def test_a_truncated_table_is_named(tmp_path, made_up):
    lines, table = made_up
    unit = synthetic.write_track_unit(tmp_path / "track", lines, table)
    path = unit / "tracks.parquet"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CorruptInputError, match=r"tracks\.parquet cannot be read"):
        run(synthetic.job("detect", synthetic.config(), tmp_path, {"track/all": unit}))


def test_a_table_without_a_column_is_named(tmp_path, made_up):
    lines, table = made_up
    with pytest.raises(CorruptInputError, match=r"tracks\.parquet.*link"):
        detect(tmp_path, lines, table.drop(columns="link"))
