"""The stage from files to files: what comes in badly is handled and counted; shards and processes change no byte."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import expand, task_key
from ghosttrack.common.errors import ConfigError, DataError, MissingInputError, ModelMismatchError
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.track import (
    run_account,
    run_answers,
    run_contexts,
    run_tracks,
    run_validation,
    stability,
)
from ghosttrack.stages.track.generate import Ends
from tests.commands import python
from tests.stages.extract import corpora
from tests.stages.track.test_outputs import PlainUnpickler
from tests.stages.track.tiny_run import QUESTIONS, TinyRun, contract, sae, silent
from tests.tiny_models import save_large_model

ALL = ("answers", "association", "all")


def positions_of(run: TinyRun) -> int:
    return len(pd.read_parquet(run.entry("answers").file("positions.parquet")))


def left_out(run: TinyRun, unit: str = "all") -> dict[str, int]:
    counts: dict[str, int] = run.metrics(unit)["left_out"]
    return counts


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    run = TinyRun(tmp_path_factory.mktemp("plain") / "root", twin=True).give()
    return run.track(
        *ALL,
        "account",
        "shown",
        "contexts",
        "independent",
        "asked_answers",
        "asked_contexts",
        "asked",
        "asked_account",
    )


def test_every_unit_of_tracks_counts_what_it_leaves_out_and_tracks_what_there_is(plain: TinyRun) -> None:
    for unit in ("all", "independent", "asked"):
        counts = left_out(plain, unit)
        assert (counts["subject_not_found"], counts["empty_answer"]) == (2, 0)
        assert counts["scans_without_active_latent"] == 0
        assert counts["active_beyond_top_k"] == left_out(plain)["active_beyond_top_k"] > 0
    tracks = plain.table("all", "tracks.parquet")
    assert plain.metrics("all")["tracks"] < len(tracks)  # some last
    assert plain.metrics("answers")["subject_not_found"] == 2


def test_clusters_have_the_tokens_they_promote_and_contexts_of_their_latents(plain: TinyRun) -> None:
    folder = plain.entry("shown").path
    content = PlainUnpickler(io.BytesIO((folder / "semantic_clusters.pkl").read_bytes())).load()
    snapshot = plain.store.current(plain.config.name, "prepare", "model")
    assert snapshot
    model = load_language_model(snapshot.path, "float32")
    centred = isinstance(model.final_norm, torch.nn.LayerNorm)
    gain = model.final_norm.weight.detach().double().numpy()  # type: ignore[union-attr]
    unembedding = model.unembedding.detach().double().numpy()[: len(model.tokenizer)]
    contexts = plain.table("association", "excerpts.parquet")
    best = contexts[contexts["rank"] == 0].set_index(["layer", "latent"])
    tracks = plain.table("all", "tracks.parquet")
    seen = set(zip(tracks.layer.tolist(), tracks.latent.tolist(), strict=True))
    members = [tuple(pair) for cluster in content["clusters"] for pair in cluster["members"].tolist()]
    assert len(members) == len(set(members)) == plain.metrics("shown")["latents_in_clusters"]
    assert set(members) == seen
    assert left_out(plain, "shown")["active_latents_without_cluster"] == 0
    for cluster in content["clusters"]:
        direction = cluster["centroid"] - centred * cluster["centroid"].mean()
        most = int(np.argmax(unembedding @ (gain * direction)))
        assert cluster["tokens"][0] == model.tokenizer.decode([most])
        assert cluster["contexts"]
        for context in cluster["contexts"]:
            pair = (context["layer"], context["latent"])
            assert pair in {tuple(member) for member in cluster["members"].tolist()}
            assert (context["before"], context["token"], context["after"]) == tuple(
                best.loc[pair, ["before", "token", "after"]]
            )


def test_the_first_token_of_a_sequence_is_never_tracked(plain: TinyRun) -> None:
    positions = plain.table("answers", "positions.parquet")
    with_subject = set(positions.question[positions.position == -1])
    assert with_subject == {0, 3, 4}  # a prefix moves the subject of 4 off the first token
    tracks = plain.table("all", "tracks.parquet")
    assert set(tracks.question[tracks.position == -1]) == with_subject
    assert set(tracks.question) == set(range(len(QUESTIONS)))


def test_a_prompt_of_the_first_token_alone_is_refused(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root").give([("", "a", "a")])
    with pytest.raises(DataError, match="'q0': the prompt 'a' is shorter than two tokens"):
        run.track("answers")


def test_an_empty_answer_is_counted_and_its_prompt_is_tracked(
    plain: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = plain.entry("answers").file("generations.jsonl").read_text().splitlines()
    first = [json.loads(line)["token_ids"][0] for line in answers]

    monkeypatch.setattr(run_answers, "ends_of", lambda _, model, __: Ends(model, [], [first[0]]))
    run = TinyRun(tmp_path / "root").give().track(*ALL)
    empty = first.count(first[0])
    assert left_out(run)["empty_answer"] == empty > 0
    assert run.metrics("answers")["excluded"]["empty"] >= empty
    tracks = run.table("all", "tracks.parquet")
    assert set(tracks.position[tracks.question == 0]) == {-1, 0}


def test_a_layer_without_active_latents_is_counted_and_the_others_are_tracked(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root").give(saes={1: silent(1)}).track(*ALL)
    assert left_out(run)["scans_without_active_latent"] == positions_of(run)
    tracks = run.table("all", "tracks.parquet")
    assert set(tracks.layer) == {0, 2}
    assert run.table("all", "layers.parquet").query("layer == 1").n_active.eq(0).all()


def test_active_latents_beyond_top_k_and_tracks_beyond_the_cap_are_counted(tmp_path: Path) -> None:
    run = (
        TinyRun(tmp_path / "root", top_k_features=3, strongest_tracks=2)
        .give()
        .track(*ALL, "account", "shown")
    )
    counts, layers = left_out(run), run.table("all", "layers.parquet")
    assert counts["active_beyond_top_k"] == (layers.n_active - 3).clip(lower=0).sum() > 0
    tracks = run.table("all", "tracks.parquet")
    assert tracks.groupby(["question", "position", "layer"]).size().max() == 3
    named = run.metrics("shown")["tracks_in_trajectories"]
    assert named == 2 * positions_of(run)
    assert left_out(run, "shown")["weaker_than_trajectories_hold"] == run.metrics("all")["tracks"] - named > 0


def test_more_tracks_than_can_be_numbered_are_refused(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root", top_k_features=11_000).give()
    with pytest.raises(ConfigError, match=r"33,000 tracks.*lower tracking\.top_k_features"):
        run.track(*ALL)


def test_a_missing_sae_in_the_middle_is_named(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root").give(saes={1: None})
    with pytest.raises(MissingInputError, match="sae_train/layer_1"):
        run.track(*ALL)


def test_a_layer_left_out_of_the_middle_is_skipped_over(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root", layers=[0, 2]).give().track(*ALL)
    tracks = run.table("all", "tracks.parquet")
    assert set(tracks.layer) == {0, 2}
    assert tracks.link.notna().any()


def test_a_wider_sae_is_followed_and_one_of_another_model_is_refused(plain: TinyRun, tmp_path: Path) -> None:
    wider = TinyRun(tmp_path / "wider").give(saes={1: sae(1, 80)}).track(*ALL)
    assert wider.table("all", "tracks.parquet").query("layer == 1").latent.max() >= 64
    activations = torch.load(wider.entry("all").file("feature_activations.pt"), weights_only=True)
    assert activations["shape"][1] == 80
    narrow = torch.nn.functional.normalize(torch.ones(64, 5), dim=1)
    other = sae(1)
    other.W_enc, other.W_dec = narrow.T.contiguous(), narrow
    other.b_dec, other.mean = torch.zeros(5), torch.zeros(5)
    run = TinyRun(tmp_path / "other").give(saes={1: other})
    with pytest.raises(ModelMismatchError, match="width 5; the model's d_model is 32"):
        run.track(*ALL)
    swapped = TinyRun(tmp_path / "swapped").give(saes={1: sae(2)})
    with pytest.raises(ModelMismatchError, match="SAE of layer 2, not of layer 1"):
        swapped.track(*ALL)


def test_every_answer_is_read_again_in_every_context(plain: TinyRun) -> None:
    table = plain.table("contexts", "contexts.parquet")
    answers = [
        json.loads(line) for line in plain.entry("answers").file("generations.jsonl").read_text().splitlines()
    ]
    own = table[(table.context == 0) & (table.hypothesis == 0)].set_index("question")
    for number, answer in enumerate(answers):
        assert own.evidence[number] == pytest.approx(sum(answer["logprobs"]), abs=1e-3)
        assert (own.text[number], own.greedy[number]) == (answer["answer"], True)
    assert table.groupby("question").context.nunique().tolist() == [3] * len(QUESTIONS)
    assert (table.groupby(["question", "context"]).greedy.sum() == 1).all()
    assert plain.metrics("contexts")["contexts"] == 2
    asked = plain.table("asked_contexts", "contexts.parquet")
    np.testing.assert_array_equal(asked.to_numpy(), table.to_numpy())


def test_the_account_of_new_questions_is_that_of_the_same_questions_in_a_run(plain: TinyRun) -> None:
    own, asked = (plain.table(unit, "account.parquet") for unit in ("account", "asked_account"))
    assert len(own) > 0
    pd.testing.assert_frame_equal(asked, own)


def test_contexts_that_were_killed_go_on_after_their_finished_shards(
    tmp_path: Path, plain: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = TinyRun(tmp_path / "killed", twin=True, shard_questions=2).give().track("answers")
    done: list[int] = []
    do_shard = run_contexts._do_shard
    monkeypatch.setattr("ghosttrack.common.engine.side_by_side.MOST", 1)  # so that what is done is seen here

    def dies(*arguments: Any) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        do_shard(*arguments)
        done.append(arguments[6])

    monkeypatch.setattr(run_contexts, "_do_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.track("contexts")
    monkeypatch.setattr(run_contexts, "_do_shard", lambda *a: done.append(a[6]) or do_shard(*a))
    killed.track("contexts")
    assert sorted(done) == [0, 1, 2]
    found, expected = (run.table("contexts", "contexts.parquet") for run in (killed, plain))
    assert found.drop(columns=["evidence", "total"]).equals(expected.drop(columns=["evidence", "total"]))
    np.testing.assert_allclose(found[["evidence", "total"]], expected[["evidence", "total"]], atol=1e-4)


def test_a_run_that_was_killed_goes_on_after_its_finished_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tracks, "QUESTIONS_A_SHARD", 2)
    whole = TinyRun(tmp_path / "whole").give().track(*ALL)
    killed = TinyRun(tmp_path / "killed").give().track("answers", "association")
    follow_states, calls = run_tracks.follow_states, []

    def dies_in_the_third(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return follow_states(*arguments, **settings)

    monkeypatch.setattr(run_tracks, "follow_states", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        killed.track("all")
    killed.track("all")
    assert len(calls) == 4  # two before, one that died, and that one again
    assert killed.digests("all") == whole.digests("all")
    assert killed.metrics("all") == whole.metrics("all")


def test_what_is_only_shown_makes_nothing_be_tracked_again(plain: TinyRun) -> None:
    others = plain.config.tracking.model_copy(update={"strongest_tracks": 3, "clusters": 4})
    other = plain.config.model_copy(update={"tracking": others})
    for unit, changes in (("all", False), ("account", False), ("shown", True)):
        keys = [
            task_key(each, {})
            for config in (plain.config, other)
            for each in expand(contract("track"), config)
            if each.name == unit
        ]
        assert (keys[0] != keys[1]) == changes, unit


def test_at_the_last_layer_the_emitted_token_leads(plain: TinyRun) -> None:
    shown = json.loads(plain.entry("shown").file("hypothesis_trajectories.json").read_text())
    places = [place for each in shown["questions"] for place in each["positions"] if place["position"] >= 0]
    assert places
    assert all(place["leader"][-1] == 0 and place["margin"][-1] >= 0 for place in places)


def test_a_long_answer_is_taken_apart_a_few_positions_at_a_time(
    plain: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_account, "POSITIONS_AT_A_TIME", 2)
    few = TinyRun(tmp_path / "root", twin=True).give().track(*ALL, "account")
    for file in ("account.parquet", "origins.parquet"):
        whole, parts = plain.table("account", file), few.table("account", file)
        assert len(whole) == len(parts) > 2
        for name in whole:
            of_whole, of_parts = (np.stack(table[name].tolist()) for table in (whole, parts))
            np.testing.assert_allclose(of_whole, of_parts, rtol=1e-3, atol=1e-3, err_msg=name)


def test_validation_asks_whether_the_twins_tell_the_same_of_an_answer(
    plain: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_validation, "SCENE_PROBLEMS", (30, 10))
    monkeypatch.setattr(stability, "LEAST_PROBLEMS", 2)
    plain.track("causes", "validation")
    [found] = [
        verdict
        for verdict in json.loads(plain.entry("validation").file("validation.json").read_text())["verdicts"]
        if "trained apart" in verdict["question"]
    ]
    assert "a rank correlation of 1.00" in found["words"]  # these twins are the same


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    alone, together = (TinyRun(tmp_path / name, shard_questions=2).give() for name in ("alone", "together"))
    alone.track(*ALL, "contexts")
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(together.config.model_dump(mode="json", exclude={"name"})))
    units = [f"--unit={unit}" for unit in (*ALL, "contexts")]
    command = ("-m", "ghosttrack.stages.track", "--config", file, *units, "--processes", "2")
    python(*command, cwd=corpora.STAGES.parent)
    for unit in ALL:
        assert alone.digests(unit) == together.digests(unit)
    assert together.entry("answers").manifest.predicate.resource_usage["processes"] == 2


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("auto", np.float16), ("float16", np.float16), ("bfloat16", np.float32), ("float32", np.float32)],
)
def test_states_of_answers_are_stored_as_the_configuration_says(
    tmp_path: Path, dtype: str, stored: type
) -> None:
    run = TinyRun(tmp_path / "root")
    settings = run.config.model_dump(mode="json", exclude_unset=True)
    run.config = Config.model_validate(
        {**settings, "extract": {**settings.get("extract", {}), "dtype": dtype}}
    )
    run.give().track("answers")
    assert np.load(run.entry("answers").file("states.npy")).dtype == stored


def test_states_too_large_for_float16_are_stored_as_float32_and_tracked(tmp_path: Path) -> None:
    run = TinyRun(tmp_path / "root", shard_questions=2).give(
        saes={layer: replace(sae(layer), scale=3e-6) for layer in range(3)},
        write_model=lambda out: save_large_model(out, 1e6),
    )
    run.track(*ALL)
    states = np.load(run.entry("answers").file("states.npy"))
    assert states.dtype == np.float32
    assert 65_504 < np.abs(states).max() < np.inf
    positions, generations = (
        run.table("answers", "positions.parquet"),
        run.entry("answers").file("generations.jsonl"),
    )
    first = json.loads(generations.read_text().splitlines()[0])
    model = load_language_model(run.store.current(run.config.name, "prepare", "model").path, "float32")  # type: ignore[union-attr]
    text = torch.tensor([[*model.tokenizer(first["prompt"])["input_ids"], *first["token_ids"]]])
    own = positions[(positions.question == 0) & (positions.position > 0)]
    length = text.shape[1] - len(first["token_ids"])
    whole: dict[int, torch.Tensor] = {}
    model.read_blocks(
        text,
        torch.arange(text.shape[1])[None],
        run.config.layers,
        lambda layer, read: whole.update({layer: read[0].clone()}),
    )
    for row, position in zip(own.index, own.position, strict=True):
        for place, layer in enumerate(run.config.layers):
            expected = whole[layer][length + position - 1].numpy()
            np.testing.assert_allclose(
                states[row, place], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
            )
