"""`import ghosttrack as gt`: what a notebook does with a run, held against the run's files and against what it published."""

import hashlib
import html
import json
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer

import ghosttrack as gt
from ghosttrack.api import run as api_run
from ghosttrack.api.run import RunNotice
from ghosttrack.common.config.load import CONFIG_FOLDER, load_config
from ghosttrack.common.engine.manifest import digest_line
from ghosttrack.common.errors import ConfigError, DataError, MissingInputError
from tests.commands import python
from tests.pipeline import RESULTS, Pipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(stub_run: Pipeline) -> gt.Run:
    return gt.open("demo-stub", root=stub_run.root)


@pytest.fixture(scope="module")
def published(stub_run: Pipeline) -> list[dict]:
    path = stub_run.root / RESULTS / "detection/hallucination_scores.json"
    return json.loads(path.read_text())["questions"]


def test_importing_and_opening_load_nothing_heavy(stub_run: Pipeline, tmp_path: Path) -> None:
    code = (
        "import sys; import ghosttrack as gt; assert not {'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)\n"
        f"run = gt.open('demo-stub', root={str(stub_run.root)!r}); print(run)\n"
        "assert not {'torch', 'transformers', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = python("-c", code, cwd=tmp_path)
    assert re.fullmatch(r"<Run demo-stub: \d+ questions, 4 layers of miniature>\n", done.stdout)


def test_it_says_what_was_run_not_what_the_file_says_now(run: gt.Run, stub_run: Pipeline) -> None:
    config = load_config("demo", [f"paths.root={stub_run.root}"], stub=True, environ={})
    own = api_run._config_as_run("demo-stub", str(stub_run.root), None, run._entries.values())
    assert own.detection == config.detection
    for key in ("top_k_features", "associator", "ladder", "max_new_tokens"):
        assert getattr(own.tracking, key) == getattr(config.tracking, key)
    assert own.layers == config.layers
    changed = gt.open("demo-stub", root=stub_run.root, overrides=["tracking.top_k_features=5"])
    assert changed.config.tracking.top_k_features == config.tracking.top_k_features


def test_parameters_on_record_that_are_no_keys_are_left_and_wrong_values_one_error() -> None:
    config = load_config("demo", environ={})
    made: Any = SimpleNamespace(parameters={"model": 5, "model.d_model.x": 1, "seed.x": 1})
    assert api_run._config_as_run("demo", ".", config, [made]) == config
    wrong: Any = SimpleNamespace(parameters={"seed": {"x": 1}, "model.d_model": [1]})
    with pytest.raises(ConfigError, match="does not make a whole configuration"):
        api_run._config_as_run("demo", ".", config, [wrong])


def test_a_configuration_says_in_which_folder_it_was_run(
    stub_run: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (CONFIG_FOLDER / "model_configs/demo.yaml").read_text()
    (tmp_path / "demo-stub.yaml").write_text(
        f"{settings}\nname: demo-stub\npaths: {{root: {stub_run.root}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("demo-stub.yaml", tmp_path / "demo-stub.yaml"):
        assert gt.open(name).root == stub_run.root
    with pytest.raises(MissingInputError):
        gt.open("demo-stub.yaml", root=tmp_path)


def test_questions_and_scores_are_those_of_the_files(run: gt.Run, published: list[dict]) -> None:
    scored = [record for record in published if record["score"] is not None]
    assert len(run.questions) == len(run) == len(published)
    assert set(run.scores.index) == {record["id"] for record in scored}
    for record in scored:
        row = run.scores.loc[record["id"]]
        assert row["probability"] == record["score"]
        assert row["wrong"] == record["label"]
        assert (row["low"], row["high"]) == tuple(record["interval"])
    assert run.scores["probability"].is_monotonic_decreasing
    assert run.questions.loc[published[0]["id"], "answer"] == published[0]["answer"]


def test_a_question_has_its_rows_of_every_table(run: gt.Run, stub_run: Pipeline) -> None:
    number = 7
    question = run.question(number)
    folder = stub_run.root / RESULTS / "tracking"
    for table, name in ((question.tracks, "tracks"), (question.lens, "lens"), (question.layers, "layers")):
        whole = pd.read_parquet(folder / f"{name}.parquet")
        own = whole[whole["question"] == number].drop(columns="question").reset_index(drop=True)
        assert len(own) > 0
        pd.testing.assert_frame_equal(table[own.columns], own)
    tokenizer = Tokenizer.from_file(str(stub_run.root / "data/cache/demo-stub/model/tokenizer.json"))
    assert question.candidates["text"].tolist()[:5] == [
        tokenizer.decode([token]) for token in question.candidates["token"].tolist()[:5]
    ]
    assert run.question(question.id).prompt == question.prompt


def test_a_question_is_drawn_and_told(run: gt.Run, tmp_path: Path) -> None:
    question = run.question(run.scores.index[0])
    question.plot().savefig(tmp_path / "picture.png")
    picture = matplotlib.image.imread(tmp_path / "picture.png")[..., :3]
    assert (picture.std(axis=2) > 0.1).mean() > 0.002  # there is colour in it
    assert question.answer in question.sentence
    assert f"{question.probability:.2f}" in question.sentence
    assert "data:image/png" in question._repr_html_()
    for explained in [each for each in run if each.reason][:6]:
        assert explained.wrong
        assert html.escape(str(explained.reason)) in explained._repr_html_()
        lines = {
            str(line.get_label()).partition(":")[0]: line.get_ydata()
            for line in explained.plot().axes[0].lines
        }
        assert lines["said"][-1] == max(line[-1] for line in lines.values())  # what is said leads at the end
        assert ("right" in lines) == explained._reason["right"]
    names = [each.get_text().replace(r"\$", "$") for each in question.plot().axes[1].get_yticklabels()]
    known = set(question.tracks["label"].dropna())
    assert names
    assert all(
        name.startswith("no label, ") or any(label.startswith(name[:23]) for label in known) for name in names
    )
    assert len(repr(question)) < 250


def test_what_it_was_made_with(run: gt.Run) -> None:
    sae = run.sae(2)
    assert (sae.layer, sae.d_hidden) == (2, 128)
    assert "AUROC" in run.report.text
    assert run.report.figures["name"] == "demo-stub"
    with pytest.raises(DataError, match="has layers 0-3, no SAE of layer 9"):
        run.sae(9)


def test_errors_name_what_there_is(run: gt.Run, stub_run: Pipeline) -> None:
    with pytest.raises(DataError, match="did you mean"):
        run.question(run.questions.index[3] + "x")
    with pytest.raises(MissingInputError, match=r"no run 'demo' \(there: .*demo-stub"):
        gt.open("demo", root=stub_run.root)
    for name in ("a\0", "\ud800", "../demo-stub", ""):
        with pytest.raises(MissingInputError, match="has no run"):
            gt.open(name, root=stub_run.root)
    with pytest.raises(DataError, match="not by a float"):
        run.question(1.5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a question is a text"):
        run.ask(None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="half of a surrogate pair"):
        run.ask("\ud800?")
    for layer in (True, 1.0):
        with pytest.raises(DataError, match="no SAE of layer"):
            run.sae(layer)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not by a bool"):
        run.question(True)
    with pytest.raises(DataError, match="nothing is taken out"):
        run.question(0).without()
    for latents in ([0], [(0,)]):
        with pytest.raises(DataError, match="a latent is named by its layer and its number"):
            run.question(0).without(latents=latents)  # type: ignore[arg-type]
    for wrong in ({"factor": float("nan")}, {"latents": [(0, 1.5)]}, {"position": 10**30}):
        with pytest.raises(DataError, match="number"):
            run.question(0).without(0, **wrong)  # type: ignore[arg-type]


def files_of(root: Path) -> set[Path]:
    return set((root / ".store").rglob("*")) | set((root / "results").rglob("*"))


def test_asking_again_gives_the_published_score_and_publishes_nothing(
    run: gt.Run, stub_run: Pipeline, published: list[dict]
) -> None:
    lines = (stub_run.root / "data/cache/demo-stub/questions/questions.jsonl").read_text().splitlines()
    query = {record["id"]: record["query"] for record in map(json.loads, lines)}
    wanted = [record for record in published if record["split"] == "test"][:3]
    wanted += [record for record in published if record["split"] == "grouped"][:1]
    before = files_of(stub_run.root)
    rows = [
        {
            "prompt": query[record["id"]],
            "relation": record["relation"],
            "subject": run.question(record["id"])._answer.subject,
        }
        for record in wanted
    ]
    with pytest.warns(RunNotice, match="was fitted on this question"):
        table = run.detector.score(rows)
    assert files_of(stub_run.root) == before
    assert table["answer"].tolist() == [record["answer"] for record in wanted]
    assert table["in_fit"].tolist() == [False, False, False, True]
    np.testing.assert_allclose(
        table["probability"][:3], [record["score"] for record in wanted[:3]], atol=1e-3
    )


def test_a_new_question_has_all_that_a_question_of_the_run_has(run: gt.Run) -> None:
    asked = run.ask("The capital of Norway is")
    assert asked.prompt == "The capital of Norway is"
    assert asked.wrong is None
    assert 0 <= asked.probability <= 1
    assert set(asked.tracks["layer"]) <= set(run.layers)
    assert asked.candidates.iloc[0]["text"] == asked.tokens["text"].iloc[0]
    assert asked.plot().axes
    again = run.detector.score(["The capital of Norway is"])
    assert again["probability"][0] == asked.probability


def test_every_question_has_its_row_also_one_that_cannot_be_asked(run: gt.Run) -> None:
    """The rows after it would stand beside their neighbours' questions."""
    rows = [
        {"prompt": "The capital of Norway is", "id": np.int64(7)},
        {"prompt": " "},
        {"prompt": "The capital of Peru is"},
    ]
    with pytest.warns(
        RunNotice, match="question 2 is not asked: give exactly one of 'question' and 'prompt'"
    ):
        table = run.detector.score(rows)
    assert table["question"].tolist() == [row["prompt"] for row in rows]
    assert table["probability"].isna().tolist() == [False, True, False]
    frame = run.detector.score(pd.DataFrame([rows[0], rows[2]]))
    assert frame["answer"].tolist() == table["answer"].dropna().tolist()
    assert run.ask("挪威的首都是哪里？").prompt == "Q: 挪威的首都是哪里？\nA:"


def test_an_answer_that_says_nothing_has_no_score_and_says_so(run: gt.Run) -> None:
    asked = run.ask("Who painted the harbour at night?")  # the miniature has learnt no such questions
    assert asked.prompt == "Q: Who painted the harbour at night?\nA:"
    assert not any(letter.isalnum() for letter in asked.answer)
    assert (asked.probability, asked.verdict) == (None, None)
    assert asked.sentence.endswith("It has no score: the answer says nothing.")


def test_a_track_is_taken_out_of_a_question_of_the_run_and_of_a_new_one(run: gt.Run) -> None:
    question = run.question(0)
    rows = question.tracks.query("position == 0")
    track = int(rows.loc[rows["effect"].abs().idxmax(), "track"])
    taken = question.without(track)
    assert len(taken.candidates) == len(question.candidates.query("position == 0"))
    change = taken.candidates["change"]
    assert abs(change).max() > 1e-3
    assert taken.changed == (taken.answer != question.answer)
    whole = question.without(track, factor=1.0)  # all of it is left
    assert (whole.answer, whole.changed) == (question.answer, False)
    np.testing.assert_allclose(whole.candidates["change"], 0, atol=1e-4)
    new = run.ask(question.prompt)
    same = new.without(int(new.tracks.query("position == 0")["track"].iloc[0]), factor=1.0)
    assert not same.changed
    with pytest.raises(DataError, match="track 99999"):
        question.without(99999)


def test_an_answer_is_accounted_for_by_layer_and_by_head(run: gt.Run) -> None:
    question = run.question(0)
    last = len(question.tokens) - 1
    for position in (-1, 0, last):
        account, heads = question.account(position=position), question.heads(position=position)
        assert account.index.tolist() == run.layers
        held = account[["constant", "tracks", "untracked", "sae_bias", "sae_error"]].sum(axis=1)
        sources = [f"attention_{name}" for name in heads.columns]
        came = account[["constant", "carried", *sources, "attention_bias", "mlp"]].sum(axis=1)
        np.testing.assert_allclose(held, account["total"], atol=1e-3)
        np.testing.assert_allclose(came, account["total"], atol=1e-3)
        # every layer is tracked, so that each has one block's heads
        np.testing.assert_allclose(heads.groupby("block").sum(), account[sources], atol=1e-3)
        assert heads.index.get_level_values("head").nunique() > 1
    standing = question.candidates.query("position == @last")["logprob"].to_numpy()
    assert account["total"].iloc[-1] == pytest.approx(standing[0] - standing[1], abs=1e-3)
    emitted = question.candidates.query("position == 0")["text"].iloc[0]
    assert question.account(emitted, 3).equals(question.account(0, 3))
    with pytest.raises(DataError, match="'no such' is no candidate"):
        question.heads("no such")
    for ask in (question.account, question.heads):
        for position in (99, -2):
            with pytest.raises(
                DataError, match=rf"position {position} of .* is not tracked; tracked are -1, 0, 1"
            ):
                ask(position=position)


def test_tracks_say_where_each_activation_came_from(run: gt.Run) -> None:
    for question in (run.question(0), run.question(len(run) - 1)):
        tracks = question.tracks
        moved = [name for name in tracks if name.startswith("moved_")]
        shares = tracks[["own", "carried", "error", "bias", *moved, "written"]].sum(axis=1)
        np.testing.assert_allclose(shares, 1, atol=0.05)
        begins = tracks["link"].isna()
        assert tracks["birth"].notna().equals(begins)
        assert (tracks["own"][begins] == 0).all()
    assert "birth" not in run.ask(question.prompt).tracks  # of a new question no account is made


def test_streaming_says_what_asking_says_token_by_token(run: gt.Run) -> None:
    record = run.question(3)
    given = {"relation": record._answer.relation, "subject": record._answer.subject}
    streamed = list(run.stream(record.text, **given))
    asked = run.ask(record.text, **given)
    assert "".join(token.text for token in streamed).strip() == asked.answer == record.answer
    np.testing.assert_allclose([token.risk for token in streamed], asked.tokens["risk"], atol=1e-3)


def test_a_half_finished_run_shows_what_is_there(stub_run: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(stub_run.root, tmp_path / "root", symlinks=True)
    current = tmp_path / "root/.store/current/demo-stub"
    for stage in ("detect", "evaluate", "report"):
        shutil.rmtree(current / stage)
    with pytest.warns(
        RunNotice, match="not finished: detect/all, detect/tokens, evaluate/all, report/all have no result"
    ):
        half = gt.open("demo-stub", root=tmp_path / "root")
    assert half.missing == ["detect/all", "detect/tokens", "evaluate/all", "report/all"]
    assert half.question(0).probability is None
    assert len(half.question(0).tracks) > 0
    with pytest.raises(MissingInputError, match="no detect/all yet; `ghosttrack run demo-stub` makes it"):
        _ = half.scores
    shutil.rmtree(current / "track")
    with pytest.warns(RunNotice):
        less = gt.open("demo-stub", root=tmp_path / "root")
    assert less.questions["question"].str.len().min() > 0


def test_a_run_of_another_version_gives_a_notice(stub_run: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    contracts = api_run.load_contracts()
    older = [c.model_copy(update={"version": 1000}) if c.stage == "track" else c for c in contracts]
    monkeypatch.setattr(api_run, "load_contracts", lambda: older)
    with pytest.warns(RunNotice, match="results of track were made by version .* this is version 1000"):
        gt.open("demo-stub", root=stub_run.root)


def test_files_of_different_runs_give_a_notice(stub_run: Pipeline, tmp_path: Path) -> None:
    """As after a partial copy: each is what its own manifest says."""
    shutil.copytree(stub_run.root, tmp_path / "root", symlinks=True)
    result = tmp_path / "root/.store/current/demo-stub/track/answers"
    file, manifest = result / "generations.jsonl", result / "manifest.json"
    content, recorded = file.read_bytes(), manifest.read_text()
    for path in (file, manifest, result / "manifest.json.sha256"):
        path.chmod(0o644)
    other = content.replace(b"0", b"1")
    file.write_bytes(other)
    recorded = recorded.replace(
        hashlib.sha256(content).hexdigest(), digest := hashlib.sha256(other).hexdigest()
    )
    assert digest in recorded
    manifest.write_text(recorded)
    (result / "manifest.json.sha256").write_bytes(digest_line(recorded.encode()).encode())
    with pytest.warns(RunNotice, match="detect/all was made from another track/answers/generations.jsonl"):
        gt.open("demo-stub", root=tmp_path / "root")


def test_a_run_that_is_up_to_date_is_opened_at_once(stub_run: Pipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RunNotice)
        assert gt.run("demo", root=stub_run.root, stub=True).missing == []
