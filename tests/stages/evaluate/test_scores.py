"""What `detect` publishes is read whole, and refused or named where it does not hold together."""

import json

import numpy as np
import pandas as pd
import pytest

from ghosttrack.common.errors import CorruptInputError, LabelError, NumericError
from ghosttrack.stages.evaluate.scores import read_detection
from tests.stages.evaluate import scored


@pytest.fixture
def folder(tmp_path):
    return scored.write(tmp_path, n=100)


def read(folder):
    return read_detection(
        folder / "hallucination_scores.json", folder / "detection_metrics.json", folder / "scores.parquet"
    )


def change_json(folder, name, change):
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_scores(folder, change):
    path = folder / "scores.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_scores_are_lined_up_by_question_and_repeat(folder):
    table = pd.read_parquet(folder / "scores.parquet")
    found = read(folder).splits["grouped"].methods["tracks"]
    for repeat in (0, 1):
        mine = table[
            (table["split"] == "grouped") & (table["repeat"] == repeat) & (table["method"] == "tracks")
        ]
        expected = mine.sort_values("question")
        for column in ("probability", "raw_probability", "predicted"):
            np.testing.assert_array_equal(getattr(found, column)[repeat], expected[column])


def test_only_labelled_questions_count(folder):
    change_scores(
        folder,
        lambda t: pd.concat([t, t[t["question"] == 0].assign(question=np.int32(49))], ignore_index=True),
    )
    found = read(folder)
    assert 49 not in found.splits["grouped"].questions.index
    assert len(found.splits["grouped"].questions) == 98


def test_what_is_not_there_is_said_and_the_rest_is_shown(folder):
    change_scores(
        folder,
        lambda t: t[
            (t["split"] != "relations") & (t["method"] != "white_box") & (t["method"] != "ladder_none")
        ],
    )
    found = read(folder)
    assert list(found.splits) == ["grouped", "test"]
    assert "white_box" not in found.splits["grouped"].methods
    assert "ladder_none" not in found.splits["grouped"].methods
    said = "\n".join(found.absent)
    assert "Semantic entropy: detection.samples is 0." in said
    assert "Relations held out: not scored." in said
    assert "Grouped cross-validation: white box was not scored." in said
    assert "Grouped cross-validation: no association was not scored." in said


def test_a_side_split_of_one_class_is_said(folder):
    def only_right(table):
        records = json.loads((folder / "hallucination_scores.json").read_text())["questions"]
        right = [i for i, record in enumerate(records) if record["label"] == 0]
        return table[(table["split"] != "test") | table["question"].isin(right)]

    change_scores(folder, only_right)
    found = read(folder)
    assert "test" not in found.splits
    assert any("split 'test' has" in sentence and "all right" in sentence for sentence in found.absent)


def test_questions_of_another_data_set_have_their_own_labels(folder):
    records = scored.questions(60, seed=5)
    change_json(folder, "hallucination_scores.json", lambda c: c.update(other_questions=records))
    other = scored.scores(records, {"transfer_2": 1, "transfer": 1, "transfer_10": 1})
    change_scores(folder, lambda t: pd.concat([t, other], ignore_index=True))
    change_json(
        folder,
        "detection_metrics.json",
        lambda c: c.update(transfers=[{"split": "transfer_2", "from": "gpt"}]),
    )
    splits = read(folder).splits
    assert list(splits)[-3:] == ["transfer", "transfer_2", "transfer_10"]
    assert splits["transfer_2"].text.title == "Other data set: detector of gpt"
    for name in list(splits)[-3:]:
        assert splits[name].label.tolist() == [r["label"] for r in records if r["label"] is not None]


def test_all_right_is_refused(folder):
    change_json(
        folder, "hallucination_scores.json",
        lambda c: [q.update(label=0) for q in c["questions"] if q["label"] is not None],
    )  # fmt: skip
    with pytest.raises(
        LabelError, match=r"scores\.parquet: split 'grouped' has 98 answers, all right.*ask more"
    ):
        read(folder)


@pytest.mark.parametrize("column", ["probability", "raw_probability"])
def test_scores_that_are_no_numbers_are_refused(folder, column):
    def damage(table):
        table.loc[(table["question"] == 7) & (table["method"] == "tracks"), column] = np.nan
        return table

    change_scores(folder, damage)
    with pytest.raises(NumericError, match="question 'q7' by 'tracks' in split 'grouped' is not finite"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("hallucination_scores.json", lambda c: c.update(schema_version=9), "schema version 9, not 3"),
        ("hallucination_scores.json", lambda c: c["questions"][0].pop("group"), "questions.0.group: Field required"),
        ("hallucination_scores.json", lambda c: c["questions"][0].update(label=2), "questions.0.label.*0 or 1"),
        ("hallucination_scores.json", lambda c: c.update(questions=c["questions"][:50]), "has question 9[0-9], but there are 50"),
        ("detection_metrics.json", lambda c: c.pop("methods"), "methods: Field required"),
        ("detection_metrics.json", lambda c: c["methods"][0].update(kind="x"), "methods.0.kind"),
        ("detection_metrics.json", lambda c: c.update(detector="white_box"), "not one of its detectors"),
        ("detection_metrics.json", lambda c: c["permutation"].pop("observed"), "permutation.observed: Field required"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other_are_refused(folder, name, damage, message):
    change_json(folder, name, damage)
    with pytest.raises(CorruptInputError, match=f"{message}.*run detect again"):
        read(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.drop(columns="raw_probability"), "not a whole scores.parquet .*raw_probability"),
        (lambda t: t.assign(split="elsewhere"), "unknown splits .'elsewhere'."),
        (lambda t: t[t["split"] != "grouped"], "no scores of detector 'full' on split 'grouped'"),
        (lambda t: t[t["method"] != "full"], "no scores of detector 'full' on split 'grouped'"),
        (lambda t: t.iloc[:0], "no scores"),
    ],
)
def test_tables_that_lack_what_is_needed_are_refused(folder, damage, message):
    change_scores(folder, damage)
    with pytest.raises(CorruptInputError, match=message):
        read(folder)


def test_files_that_cannot_be_read_are_named(folder):
    (folder / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptInputError, match=r"scores\.parquet is not a whole"):
        read(folder)
    (folder / "detection_metrics.json").write_text("{")
    with pytest.raises(CorruptInputError, match=r"detection_metrics\.json is not JSON"):
        read(folder)
