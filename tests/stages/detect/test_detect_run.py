import csv
import dataclasses
import json
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.errors import (
    CorruptInputError,
    DataError,
    LabelError,
    ModelMismatchError,
    NumericError,
)
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.reasons import KINDS
from ghosttrack.common.maths.metrics import auroc
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.detect.crossval import fit_side
from ghosttrack.stages.detect.detector import keep, load, save
from ghosttrack.stages.detect.error_types import error_types
from ghosttrack.stages.detect.evidence import FeatureTable
from ghosttrack.stages.detect.explain import competition_of
from ghosttrack.stages.detect.features.tokens import token_features
from ghosttrack.stages.detect.opening import OpenedRun
from ghosttrack.stages.detect.protocol.groups import question_groups
from ghosttrack.stages.detect.protocol.splits import all_splits
from ghosttrack.stages.detect.reading import _filled, complete, pieces_of, read_data
from ghosttrack.stages.detect.run import run
from ghosttrack.stages.report.paper.numbers import numbers_of
from ghosttrack.stages.report.paper.tabulate import tables_of
from tests.stages.detect import synthetic
from tests.stages.evaluate import scored


def detect(folder, lines, table, **changes):
    settings = synthetic.config(**changes)
    unit = synthetic.write_track_unit(folder / "track", lines, table)
    run(synthetic.job("detect", settings, folder, synthetic.inputs(unit)))
    return synthetic.published(folder)


@pytest.fixture(scope="module")
def made_up():
    lines, wrong = synthetic.answers(90)
    return lines, synthetic.tracks(lines, wrong, synthetic.config().layers)


@pytest.fixture(scope="module")
def out(finished_run):
    return synthetic.published(finished_run / "detect")


@pytest.fixture(scope="module")
def scores(out):
    return pd.read_parquet(out / "scores.parquet")


def read(finished_run):
    from ghosttrack.common.formats.answers import read_answers

    folder = finished_run / "track"
    files = {file.name: file for file in folder.iterdir()}
    answers = read_answers(folder / "generations.jsonl")
    return answers, read_data(files, answers, synthetic.config().layers, 64, ["none", "random"])[0]


def test_every_question_has_a_record_and_every_labelled_one_a_score(out):
    questions = json.loads((out / "hallucination_scores.json").read_text())["questions"]
    assert [record["id"] for record in questions] == [f"q{i}" for i in range(160)]
    for record in questions:
        if record["label"] is None:
            assert record["excluded"] in ("empty", "echo")
            assert record["score"] is None
        else:
            assert record["predicted"] == int(record["score"] >= record["threshold"])
            low, high = record["interval"]
            assert 0 <= low < high <= 1
            assert (
                (record["error_type"] is None)
                == (record["error_type_by_tracks"] is None)
                == (record["label"] == 0)
            )
            if record["label"]:  # that of reasons.jsonl, whatever tracks alone would say
                assert record["error_type"] == list(KINDS)[int(record["id"][1:]) % 4]


def test_contributions_add_up_and_the_nearest_right_answer_is_right_and_of_another_group(out):
    questions = {r["id"]: r for r in json.loads((out / "hallucination_scores.json").read_text())["questions"]}
    for record in questions.values():
        if record["score"] is None:
            continue
        total = sum(record["contributions"].values()) + record["rest"] + record["intercept"]
        assert total == pytest.approx(record["additive_log_odds"], abs=2e-3)
        nearest = questions[record["nearest_right"]]
        assert nearest["label"] == 0
        assert nearest["group"] != record["group"]


def test_the_files_agree_and_are_those_of_the_contract(out, scores):
    units = [unit for unit in load_contract(synthetic.ROOT / "stages" / "detect").units if unit.name == "all"]
    assert len(units) == 2
    assert all(sorted(path.name for path in out.iterdir()) == sorted(unit.writes) for unit in units)
    questions = json.loads((out / "hallucination_scores.json").read_text())["questions"]
    with (out / "classifications.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [record["id"] for record in questions]
    metrics = json.loads((out / "detection_metrics.json").read_text())
    counted = metrics["n_wrong"] + metrics["n_right"] + sum(metrics["excluded"].values())
    assert counted == metrics["n_questions"] == 160
    assert {method["name"] for method in metrics["methods"]} == set(scores["method"])
    assert len(metrics["permutation"]["auroc"]) == 20


def test_every_split_scores_its_rows_once_a_method(scores):
    assert set(scores["split"]) == {"grouped", "test", "relations"}
    for _, part in scores.groupby(["split", "repeat"]):
        rows = {tuple(own["question"]) for _, own in part.groupby("method")}
        assert len(rows) == 1
        assert len(set(next(iter(rows)))) == len(next(iter(rows)))
    grouped = set(scores.loc[scores["split"] == "grouped", "question"])
    assert grouped.isdisjoint(scores.loc[scores["split"] == "test", "question"])


def test_tracks_that_know_the_label_are_found_and_random_ones_are_not_better(out, scores):
    questions = json.loads((out / "hallucination_scores.json").read_text())["questions"]
    grouped = scores[scores["split"] == "grouped"]
    area = {
        name: auroc([questions[q]["label"] for q in own["question"]], own["probability"])
        for name, own in grouped.groupby("method")
    }
    assert area["tracks"] > 0.75
    assert area["full"] > 0.75
    assert area["relation_prior"] > 0.6
    assert area["rung/random"] <= area["tracks"] + 0.05


def test_no_text_and_no_row_of_features_crosses_folds(finished_run, scores):
    answers, data = read(finished_run)
    rows = np.concatenate([table.values for table in data.tables.values()], axis=1)
    keys = [(answer.group, answer.prompt) for answer in answers]
    for name in ("grouped", "test"):
        part = scores[(scores["split"] == name) & (scores["method"] == "full")]
        fold = dict(zip(part["question"], part["fold"], strict=True))
        for kind in range(2):
            of_key = {}
            for question, number in fold.items():
                assert of_key.setdefault(keys[question][kind], number) == number
        prints = {}
        for question, number in fold.items():
            assert prints.setdefault(rows[question].tobytes(), number) == number


def test_no_text_that_is_asked_twice_and_no_row_of_features_is_trained_on_where_it_is_tested(finished_run):
    answers, data = read(finished_run)
    rng = np.random.default_rng(0)
    # asked again in another relation, with another subject
    copied = rng.choice(len(answers), 40, replace=False)
    again = [
        answers[row].model_copy(update={
            "id": f"again {row}", "relation": "another", "subject": f"other {row}", "group": f"other {row}",
            "prompt": answers[row].prompt.upper(), "query": answers[row].query.upper(),
            "question": answers[row].question.upper(),
        })
        for row in copied.tolist()
    ]  # fmt: skip
    both, rows = [*answers, *again], np.r_[np.arange(len(answers)), copied]
    data = data.of(rows)
    labels = np.array([np.nan if answer.label is None else answer.label for answer in both])
    prints = np.concatenate([table.values for table in data.tables.values()], axis=1)
    opened = OpenedRun(both, data, np.zeros(0), [None] * len(both), question_groups(both), labels, {})
    splits = all_splits(opened.rows, synthetic.plan(2, 3, 2, 2, 2), 0)
    assert {split.name for split in splits} == {"grouped", "test", "relations", "answers"}
    for split in splits:
        for fold in split.folds:
            for key in (lambda row: normalise(both[row].question), lambda row: prints[row].tobytes()):
                train, test = ({key(row) for row in side.tolist()} for side in (fold.train, fold.test))
                assert train.isdisjoint(test)


def test_an_early_warning_knows_neither_later_layers_nor_what_was_answered(finished_run):
    answers, data = read(finished_run)
    labels = np.array([np.nan if answer.label is None else answer.label for answer in answers])
    groups = question_groups(answers)
    opened = OpenedRun(answers, data, np.zeros(0), [None] * len(answers), groups, labels, {})
    fold = all_splits(opened.rows, synthetic.plan(1, 2, 2, 0, 0), 0)[0].folds[0]
    ids = [answers[row].id for row in fold.train]
    side = fit_side(data, labels, fold)
    detector = keep(side, data.of(fold.train), {"model": "m", "saes": "s"}, ids, groups[fold.train], 0)
    asked = data.of(fold.test)
    assert auroc(labels[fold.test], detector.score(asked)) > 0.7
    reasons = detector.explain(asked)
    assert [reason["probability"] for reason in reasons] == detector.score(asked).tolist()
    assert {reason["nearest_right"] for reason in reasons} <= {answers[row].id for row in fold.train}
    assert detector.explain(data.of([])) == []


def test_an_explanation_is_linear_in_the_features_behind_its_columns(finished_run, out):
    _, data = read(finished_run)
    detector, asked = load(out), data.of(np.flatnonzero(complete(data)))

    def log_odds(share):  # of answers with this share of the next answer's track features
        own = asked.tables["tracks"]
        mixed = (1 - share) * own.values + share * np.roll(own.values, 1, axis=0)
        tables = {**asked.tables, "tracks": FeatureTable(mixed, own.names)}
        explained = detector.explain(dataclasses.replace(asked, tables=tables))
        return np.array([reason["additive_log_odds"] for reason in explained])

    here, there = log_odds(0.0), log_odds(1.0)
    difference = np.abs(here - there).max()
    assert difference > 0.02
    off = np.abs(log_odds(0.5) - (here + there) / 2)
    assert np.quantile(off, 0.8) < max(2e-3, 0.02 * difference)  # not all: wild features are clipped


def test_row_groups_that_share_a_question_are_read_together(tmp_path, made_up):
    """As pyarrow cuts a table of more rows than it puts into one."""
    unit = synthetic.write_track_unit(tmp_path / "track", *made_up)
    _, whole = read(tmp_path)
    assert pieces_of(unit / "tracks.parquet") == [[0]]
    second_half = pq.read_table(unit / "tracks.parquet")["question"].to_numpy() >= 45
    for name in ("tracks", "ladder"):
        table = pq.read_table(unit / f"{name}.parquet")
        with pq.ParquetWriter(unit / f"{name}.parquet", table.schema) as writer:
            writer.write_table(table.filter(~second_half), row_group_size=1001)
            writer.write_table(table.filter(second_half))
    *cut, last = pieces_of(unit / "tracks.parquet")
    assert cut == [list(range(last[0]))]
    assert len(cut[0]) > 1
    _, pieced = read(tmp_path)
    for name, table in whole.tables.items():
        np.testing.assert_array_equal(table.values, pieced.tables[name].values)
    assert (whole.latents != pieced.latents).nnz == 0


def test_a_ladder_of_other_tracks_is_refused(tmp_path, made_up):
    unit = synthetic.write_track_unit(tmp_path / "track", *made_up)
    pd.read_parquet(unit / "ladder.parquet")[:-1].to_parquet(unit / "ladder.parquet", index=False)
    with pytest.raises(CorruptInputError, match=r"ladder\.parquet has other rows than .*tracks\.parquet"):
        read(tmp_path)


def test_who_led_the_competition_and_from_which_layer_on():
    found = competition_of(np.array([2.0, 2, 0, 0, 1]), [3, 4, 5, 8, 9], [" Rome", " Oslo", " Lima"])
    assert [tuple(led.values()) for led in found["leaders"]] == [
        (" Lima", 2, 3, 4), (" Rome", 0, 5, 8), (" Oslo", 1, 9, 9),
    ]  # fmt: skip
    assert (found["winner"], found["won_at"]) == (" Oslo", 9)
    assert competition_of(np.array([1.0, np.nan]), [0, 1], ["a", "b"])["won_at"] is None


def test_the_types_of_wrong_answers():
    def answer(number, said, gold, label, token, relation="r"):
        return Answer(
            id=str(number), relation=relation, group=str(number), prompt=f"q{number}", question=f"q{number}", query=f"q{number}", answer=said, gold=gold, label=label,
            tokens=[f" {said}"], token_ids=[token], logprobs=[0.0], entropies=[0.0],
        )  # fmt: skip

    answers = [
        answer(0, "Rome", "Rome", 0, 1),
        answer(1, "Rome", "Paris", 1, 1),  # the habit of its relation
        answer(2, "Oslo", "Rome", 1, 3),  # Rome led layers 0 and 1
        answer(3, "Oslo", "Rome", 1, 3),  # Rome led once only
        answer(4, "Oslo", "Lima", 1, 3),  # no candidate is right
        answer(5, "Rome", "Rome", 0, 1),
        answer(6, "Rome", "Rome", 0, 1),
    ]
    candidates = [[" Oslo", " Rome"] if number in (2, 3, 4) else [" Rome", " Oslo"] for number in range(7)]
    leader = np.array(
        [[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=float
    )
    expected = [None, "prior_default", "recall_override", "other", "unknown_subject", None, None]
    assert error_types(answers, candidates, leader) == expected


@pytest.mark.parametrize(
    ("file", "column"),
    [("layers", "margin"), ("lens", "logprob"), ("candidates", "logprob"), ("tracks", "activation")],
)
def test_a_number_that_is_not_finite_stops_the_run_and_is_named(tmp_path, made_up, file, column):
    unit = synthetic.write_track_unit(tmp_path / "track", *made_up)
    table = pd.read_parquet(unit / f"{file}.parquet")
    table.loc[3, column] = np.nan
    table.to_parquet(unit / f"{file}.parquet", index=False)
    with pytest.raises(NumericError, match=rf"question 0.*{column}|{column} of question 0"):
        read(tmp_path)


def test_the_stored_detector_gives_the_scores_it_gave_before_it_was_stored(finished_run, out, scores):
    answers, data = read(finished_run)
    detector = load(out)
    part = scores[(scores["split"] == "test") & (scores["method"] == "anchored")]
    asked = data.of(part["question"].to_numpy())
    raw = detector.raw_score(asked, detector.columns(asked))
    np.testing.assert_allclose(detector.platt(raw), part["probability"], atol=1e-5)
    within = (detector.platt.lowest <= raw) & (raw <= detector.platt.highest)
    np.testing.assert_allclose(detector.score(asked)[within], part["probability"][within], atol=1e-5)
    assert within.mean() > 0.9
    reasons = detector.explain(asked)
    trained = set(scores.loc[scores["split"] == "grouped", "question"])
    assert {reason["nearest_right"] for reason in reasons} <= {answers[q].id for q in trained}


def test_what_stands_beside_an_unfamiliar_answer_is_its_own_probability_and_not_its_length(finished_run, out):
    _, data = read(finished_run)
    asked = data.of(np.flatnonzero(complete(data)))
    alike = ([-0.7] * 4, [-2.1] + [-0.5] * 7, [-0.7] * 40)  # of one geometric mean
    longer = [
        item._replace(logprobs=each, entropies=[1.0] * len(each), token_ids=[0] * len(each))
        for each, item in zip(alike, asked.asked, strict=False)
    ]
    logits = token_features(longer, np.full((len(longer), 4), -1.0))
    made_up = dataclasses.replace(asked.of(np.arange(len(longer))), asked=longer)
    tables = {**made_up.tables, "logits": logits}
    told = [reason["baseline"] for reason in load(out).explain(dataclasses.replace(made_up, tables=tables))]
    assert told == pytest.approx([told[0]] * len(alike))
    assert 0 < told[0] < 1


def test_a_detector_refuses_another_model_other_saes_and_other_layers(finished_run, out):
    _, data = read(finished_run)
    detector = load(out)
    detector.require(detector.provenance)
    for what, message in (("model", "other files of the model"), ("saes", "other files of the SAEs")):
        with pytest.raises(ModelMismatchError, match=message):
            detector.require({**detector.provenance, what: "else"})
    with pytest.raises(ModelMismatchError, match="reads layers"):
        detector.score(dataclasses.replace(data, layers=[0, 1]))


def test_a_stored_detector_has_no_trace_of_when_and_by_which_python_it_was_written(out, tmp_path):
    save(load(out), tmp_path / "detector.json", tmp_path / "detector.npz")
    for name in ("detector.json", "detector.npz"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    entries = zipfile.ZipFile(out / "detector.npz").infolist()
    assert {(entry.create_version, entry.compress_type, entry.date_time[0]) for entry in entries} == {
        (20, 0, 1980)
    }


def test_a_damaged_detector_is_refused(out, tmp_path):
    for name in ("detector.json", "detector.npz"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    (tmp_path / "detector.json").write_text(
        (out / "detector.json").read_text().replace('"Probes"', '"Probe"')
    )
    with pytest.raises(CorruptInputError, match="not whole"):
        load(tmp_path)
    (tmp_path / "detector.json").write_text(
        (out / "detector.json").read_text().replace('"entries":', '"entries": 1, "_":')
    )
    with pytest.raises(CorruptInputError, match="not whole"):
        load(tmp_path)
    arrays = bytearray((out / "detector.npz").read_bytes())
    arrays[len(arrays) // 2] ^= 1
    for content in (b"no", b"", b"PK\x03\x04", bytes(arrays)):
        (tmp_path / "detector.npz").write_bytes(content)
        with pytest.raises(CorruptInputError, match="not a whole detector"):
            load(tmp_path)


def test_another_runs_detector_scores_these_questions_and_nothing_is_fitted_again(
    finished_run, out, tmp_path, made_up
):
    found = detect(tmp_path, *made_up, detection={
        "repeats": 1, "folds": 2, "inner_folds": 2, "relation_folds": 0, "answer_folds": 0, "permutations": 0,
        "early_points": 1, "transfer": [str(out), str(shutil.copytree(out, tmp_path / "copy"))],
    })  # fmt: skip
    scores = pd.read_parquet(found / "scores.parquet")
    metrics = json.loads((found / "detection_metrics.json").read_text())
    assert metrics["transfers"] == [
        {"split": split, "from": load(out).provenance["name"]} for split in ("transfer", "transfer_2")
    ]
    first, second = (
        scores[scores["split"] == split].drop(columns="split").reset_index(drop=True)
        for split in ("transfer", "transfer_2")
    )
    pd.testing.assert_frame_equal(first, second)
    part = scores[scores["split"] == "transfer"]
    assert set(part["method"]) == {"anchored", "full", "anchor", "logprob_sum"}
    part = part[part["method"] == "anchored"]
    from ghosttrack.common.formats.answers import read_answers

    folder = tmp_path / "track"
    files = {file.name: file for file in folder.iterdir()}
    answers = read_answers(folder / "generations.jsonl")
    data = read_data(files, answers, synthetic.config().layers, 64, ["none", "random"])[0].of(
        part["question"].to_numpy()
    )
    detector = load(out)
    raw = detector.raw_score(data, detector.columns(data))
    np.testing.assert_allclose(detector.platt(raw), part["probability"], atol=1e-6)


FAST = {"repeats": 1, "folds": 2, "inner_folds": 2, "relation_folds": 0, "answer_folds": 0, "permutations": 0,
        "early_points": 1}  # fmt: skip


def test_features_see_neither_gold_nor_label(finished_run, tmp_path):
    lines = [json.loads(line) for line in (finished_run / "track" / "generations.jsonl").open()]
    changed = [
        line | {"gold": "else", "aliases": ["else"], "label": None, "excluded": "echo"} for line in lines
    ]
    _, first = read(finished_run)
    (tmp_path / "track").mkdir()
    for path in (finished_run / "track").iterdir():
        (tmp_path / "track" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "track" / "generations.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in changed)
    )
    _, second = read(tmp_path)
    assert first.asked == second.asked
    for name, table in first.tables.items():
        np.testing.assert_array_equal(table.values, second.tables[name].values)


def test_the_same_input_gives_the_same_bytes(tmp_path, made_up):
    first, second = (detect(tmp_path / name, *made_up, detection=FAST) for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line, place: {"label": 1}, r"Every one of \d+ labelled answers is wrong, so there is nothing to detect"),
        (lambda line, place: {"label": 0}, r"Every one of \d+ labelled answers is right, so there is nothing to detect"),
        (lambda line, place: {"label": int(place > 0)}, r"1 of \d+ labelled answers are right and \d+ wrong, which is too little"),
        (lambda line, place: {"subject": "one"}, r"too little to fit and to test a detector on: .* 1 group\(s\)"),
        (lambda line, place: {"label": None, "excluded": "echo"}, r"None of 90 answers has a label \(.*echo"),
    ],
    ids=["wrong", "right", "one right", "one group", "no label"],
)  # fmt: skip
def test_where_nothing_can_be_told_apart_there_is_a_report_that_says_so(tmp_path, made_up, change, said):
    """From detection to the page: the first sentence says it, nothing is NaN, and what there is is shown."""
    lines, table = made_up
    labelled = [i for i, line in enumerate(lines) if line["label"] is not None]
    lines = [
        line if line["label"] is None else line | change(line, labelled.index(i))
        for i, line in enumerate(lines)
    ]
    out = detect(tmp_path / "detect", lines, table, detection=FAST)
    wanted = next(u for u in load_contract(synthetic.ROOT / "stages" / "detect").units if u.name == "all")
    assert sorted(path.name for path in out.iterdir()) == sorted(wanted.writes)
    assert "NaN" not in (out / "detection_metrics.json").read_text()
    assert not len(pd.read_parquet(out / "scores.parquet"))
    with pytest.raises(LabelError, match=said):
        load(out)
    page = scored.report(tmp_path, out)
    assert re.search(said, page.split("\n\n")[1])
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    assert "| relation 4 |" in page or "None of 90" in page
    report = json.loads((tmp_path / "evaluate/out/final_report.json").read_text())
    assert re.search(said, report["undefined"])
    assert {number.macro for number in numbers_of(report, None)} >= {"GTNWrong", "GTprevalence"}
    assert [table for table in tables_of(report) if table.rows]


def test_one_prompt_with_two_labels_is_refused(tmp_path, made_up):
    lines, table = made_up
    pair = [i for i, line in enumerate(lines) if line["label"] is not None][:2]
    bad = [dict(line) for line in lines]
    for number, row in enumerate(pair):
        bad[row] |= {"question": "The same question", "answer": "word", "label": number}
    with pytest.raises(LabelError, match="ask the same"):
        detect(tmp_path, bad, table, detection=FAST)


def test_too_many_questions_without_features_stop_the_run(tmp_path, made_up):
    lines, table = made_up
    labelled = [i for i, line in enumerate(lines) if line["label"] is not None][:3]
    with pytest.raises(DataError, match="no_features"):
        detect(tmp_path, lines, table[~table.question.isin(labelled)], detection=FAST)


def test_where_no_latent_is_active_there_are_no_tracks_to_count():
    table = FeatureTable(
        np.array([[np.nan, 2.0], [np.nan, 3.0]]), ["tracks.first.births", "tracks.last.births"]
    )
    silent = np.array([[False, False, True, True], [False] * 4])
    np.testing.assert_array_equal(_filled(table, silent).values, [[0.0, 2.0], [np.nan, 3.0]])


def test_a_missing_subject_is_no_trouble(finished_run):
    answers, data = read(finished_run)
    absent = [row for row, answer in enumerate(answers) if not answer.subject_found and answer.tokens]
    assert absent
    assert complete(data)[absent].all()


def test_truncated_tables_are_named(tmp_path, made_up):
    lines, table = made_up
    unit = synthetic.write_track_unit(tmp_path / "track", lines, table)
    for name in ("tracks.parquet", "lens.parquet", "states.npy", "positions.parquet"):
        path = unit / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-500])
        with pytest.raises(CorruptInputError, match=name.replace(".", r"\.")):
            run(synthetic.job("detect", synthetic.config(detection=FAST), tmp_path, synthetic.inputs(unit)))
        path.write_bytes(whole)


def test_a_table_without_a_column_is_named(tmp_path, made_up):
    lines, table = made_up
    with pytest.raises(CorruptInputError, match=r"tracks\.parquet.*effect"):
        detect(tmp_path, lines, table.drop(columns="effect"), detection=FAST)


def test_an_opening_of_the_frozen_test_is_counted_once_for_what_was_seen(tmp_path):
    job = synthetic.job("detect", synthetic.config(), tmp_path, {})
    assert [job.count_opening(*pair) for pair in (("a", "1"), ("a", "1"), ("a", "2"), ("b", "1"), ("a", "2"))] == [
        1, 1, 2, 1, 2,
    ]  # fmt: skip
