"""Reasons add up to the account, runs and kinds against what they mean, and every wrong answer has its sentence."""

import numpy as np
import pytest

from ghosttrack.common.formats.account import ACCOUNT, STATE, STEP
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.reasons import KINDS, REASONS
from ghosttrack.common.maths.parting import parting
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.association import Association, fit
from ghosttrack.stages.track.explanations import (
    judge_account,
    judge_answers,
    judge_causal_links,
    judge_predictions,
    predictive,
)
from ghosttrack.stages.track.reasons import reason, runs, sentence, shortest_run, written
from ghosttrack.stages.track.scenes import SCENES, plant, scores
from tests.stages.track.tiny_run import TinyRun


def test_runs_and_the_shortest_half():
    assert runs(np.array([True, True, False, True])) == [(0, 1), (3, 3)]
    assert shortest_run(np.array([0.1, 3.0, -1.0, 2.0, 0.5])) == (1, 1)
    assert shortest_run(np.array([1.0, 1.0, 1.0, 1.0])) == (0, 1)
    assert shortest_run(np.array([1.0, 1.0, -5.0, 1.0, 1.0])) == (0, 1)  # losses are no part of it
    assert shortest_run(np.array([-1.0, -0.5])) == (0, 1)


def account_of(differences, mover="mlp"):
    """Of two candidates and as many layers as differences; one writer does all, the norm's scale doubles at each layer."""
    n = len(differences)
    zeros = {name: np.zeros((n, 2)) for name in (*STATE, *STEP, "constant", "raw", "logit")}
    for layer, value in enumerate(differences):
        zeros["raw"][layer] = zeros["tracks"][layer] = [value + 1, 1]
        before = zeros["tracks"][layer - 1] / 2 if layer else np.zeros(2)
        zeros["carried"][layer] = before
        zeros[mover][layer] = zeros["tracks"][layer] - before
    return zeros


def test_what_layers_write_adds_up_at_the_last_scale():
    found = written(account_of([-1.0, -2.0, 4.0]), 0, 1)
    assert found.by_layer.sum() + found.start + found.constant == pytest.approx(4.0)
    assert found.by_layer[0].sum() == pytest.approx(-1.0 / 4)
    assert found.ahead.tolist() == [-1, -2, 4]


def test_kinds_are_what_their_names_say():
    texts, layers = [" Lyon", " Paris"], [3, 4, 5]
    override = reason(account_of([-1.0, -2.0, 4.0]), [1], layers, texts)
    assert (override["kind"], override["led"], override["overtaken"]) == (
        "recall_override",
        [[3, 4]],
        {"layer": 5, "by": "mlp"},
    )
    assert reason(account_of([1.0, 2.0, 4.0]), [], layers, texts)["kind"] == "unknown_subject"
    assert (
        reason(account_of([1.0, 2.0, 4.0], "attention_examples"), [1], layers, texts)["kind"]
        == "prior_default"
    )
    assert reason(account_of([1.0, 2.0, 4.0], "attention_subject"), [1], layers, texts)["kind"] == "other"
    said = sentence(
        {**override, "smallest_set": {"size": 2, "says": " Paris", "right": True, "control_says": None}}
    )
    for words in ("“Lyon” beat the right answer “Paris” by 4.0 logits.", "What spoke for it was mostly the MLPs (+4.0).", "“Lyon” is ahead of “Paris” from layer 5 on, put there by the MLPs.",
                  "Without its 2 strongest tracks the answer begins with “Paris”, as a right answer does; without as much of other latents it stays as it is."):  # fmt: skip
        assert words in said
    nothing = {"size": 1, "says": " Rome", "right": False, "control_says": " Nice"}
    assert sentence({**override, "smallest_set": nothing}).endswith(
        "strongest track the answer begins with “Rome”, as no right answer does; but without as much of other latents it changes too, to “Nice”."
    )
    unknown = sentence(reason(account_of([1.0, 2.0, 4.0]), [], layers, texts))
    assert "beat its rival “Paris” by 4.0 logits; no right answer was among the candidates." in unknown
    assert "“Paris” is ahead of it at no layer; half of what the layers wrote for “Lyon” came " in unknown


def test_a_sentence_says_after_what_and_names_no_source_of_nothing():
    found = reason(account_of([-1.0, -2.0, 4.0]), [1], [3, 4, 5], [" 9", " 8"])
    found["written"]["attention_bias"] = 1e-6
    said = sentence({**found, "position": 2, "after": " 19"})
    assert said.startswith(
        "After “19”, “9” beat the right answer “8” by 4.0 logits. What spoke for it was mostly the MLPs (+4.0). “9” is ahead of “8” from layer 5 on"
    )
    assert "by 0.012 logits. " in sentence({**found, "difference": 0.0123})
    assert sentence({**found, "emitted": "\n"}).startswith("A line break beat the right answer")
    found["written"] = {
        "before": 0.5,
        "mlp": -4.2,
        "attention_subject": 3.0,
        "attention_examples": 1.5,
        "attention_question": 0.1,
    }
    assert (
        "What spoke for it was mostly attention to the subject (+3.0) and attention to the worked examples (+1.5); against it, the MLPs (−4.2)."
        in sentence(found)
    )
    given = sentence({**found, "difference": -0.5})
    assert given.startswith(
        "“9” was given, though at the last layer that was read it is behind the right answer “8” by 0.5 logits."
    )


def test_verdicts_on_explanations():
    assert judge_account(np.float32([1e-6]), np.array([True])).passed is True
    assert judge_account(np.float32([1e-2]), np.array([True])).passed is False
    assert judge_account(np.float32([1e-6]), np.array([True, False])).passed is False
    above = judge_account(np.float32([1e-6]), None)  # layers above the last that was read
    assert above.passed is True
    assert "further layers above" in above.words
    good = {
        "slope": 0.9,
        "slope_interval": [0.8, 1],
        "rank_correlation": 0.8,
        "rank_interval": [0.7, 0.9],
        "n": 9,
    }
    assert judge_predictions(good).passed is True
    assert judge_predictions({**good, "slope": 0.4}).passed is False
    assert judge_predictions(None).passed is None
    rows = {"kind": np.array(["set"] * 40), "size": np.full(40, 1), "changed": np.arange(40) < 30, "margin": np.arange(40) / 10,
            "control_changed": np.arange(40) < 3}  # fmt: skip
    verdict = judge_answers(rows, np.ones(40, bool))
    assert verdict.passed is True
    assert "is reached" in verdict.words
    assert (
        "of those that lead by at most 1.9 logits 100% [84%, 100%] change, 15% [5%, 36%] under"
        in verdict.words
    )
    others = {**rows, "control_changed": np.arange(40) < 5}  # one in eight, where one in ten is allowed
    assert judge_answers(others, np.ones(40, bool)).passed is False
    assert judge_answers({**rows, "control_changed": rows["changed"]}, np.ones(40, bool)).passed is False
    assert judge_answers(rows, np.zeros(40, bool)).passed is None
    assert judge_answers({**rows, "size": np.full(40, 2)}, np.ones(40, bool)).passed is None


def test_links_by_causal_shares_find_planted_features():
    """Encoders are the decoders here, so that a feature that lasts carries its whole activation on."""
    scene = plant(SCENES["all"], 240, 0)
    gains = [(decoder, decoder) for decoder in scene.decoders]
    layers = range(len(scene.decoders))
    association = fit(scene.scans.of(slice(0, 200)), scene.decoders, layers, 0, gains=gains)
    assert association.kind == "causal"
    test = scene._replace(scans=scene.scans.of(slice(200, 240)), truth=scene.truth[200:])
    found = {
        name: np.array(scores(test, follow(test.scans, association, name, test.decoders, seed=0)))[
            :, 0
        ].mean()
        for name in ("nearest", "marginals", "hypotheses", "random")
    }
    assert all(found[name] < 0.8 * found["random"] for name in ("nearest", "marginals", "hypotheses")), found
    tracks = follow(test.scans, association, "nearest", test.decoders, seed=0)
    dealt = follow(test.scans, association, "random", test.decoders, seed=0, given=tracks)
    own, other = (predictive(test.scans, each, association) for each in (tracks, dealt))
    verdict = judge_causal_links(own, other, other - 1, 0)
    assert verdict.passed is True
    assert "are more" in verdict.words
    assert "links by cosine stay" in judge_causal_links(own, other, own, 0).words


def test_what_causal_links_are_fitted_to_is_kept(tmp_path):
    scene = plant(SCENES["dropout"], 60, 0)
    gains = [(decoder, decoder) for decoder in scene.decoders]
    association = fit(scene.scans, scene.decoders, range(len(scene.decoders)), 0, gains=gains)
    association.save(tmp_path / "a.pt")
    again = Association.load(tmp_path / "a.pt")
    assert again.kind == "causal"
    one, other = (
        follow(scene.scans, each, "nearest", scene.decoders, seed=0) for each in (association, again)
    )
    np.testing.assert_array_equal(one.previous, other.previous)
    cosine = (scene.decoders[0] @ scene.decoders[1].T).numpy()
    problem, rank = np.nonzero(one.previous[:, 1] >= 0)
    k = scene.scans.latents.shape[2]
    before = scene.scans.latents[problem, 0, one.previous[problem, 1, rank] % k]
    np.testing.assert_allclose(
        one.link[problem, 1, rank], cosine[before, scene.scans.latents[problem, 1, rank]], rtol=1e-4
    )


def test_every_wrong_answer_has_its_reason(tmp_path):
    run = TinyRun(tmp_path / "root", causes=4).give()
    run.track("answers", "association", "all", "account", "causes", "reasons")
    lines = REASONS.read(run.entry("reasons").file(REASONS.name))
    account = ACCOUNT.read(run.entry("account").file(ACCOUNT.name))
    assert len(lines) == run.metrics("reasons")["wrong_answers"] > 0
    answers = GENERATIONS.read(run.entry("answers").file(GENERATIONS.name))
    for line in lines:
        assert line["kind"] in KINDS
        said, golds = (
            answers[line["question"]],
            [normalise(gold) for gold in answers[line["question"]]["aliases"]],
        )
        assert line["position"] == parting(said["tokens"], golds)
        assert line["after"] == "".join(said["tokens"][: line["position"]])
        assert line["sentence"].endswith(".")
        total = sum(line["written"].values()) + line["constant"]
        assert total == pytest.approx(line["difference"], abs=1e-2)
        rows = (account["question"] == line["question"]) & (account["position"] == line["position"])
        last = account["raw"][rows][-1]
        assert any(
            line["difference"] == pytest.approx(float(last[0] - other), abs=1e-3) for other in last[1:]
        )
