"""Each of the four questions, where the answer is known to be yes and where it is known to be no."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ghosttrack.common.models.held_out import held_out_text
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.track import validation
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.associate.record import empty_tracks, number_tracks
from ghosttrack.stages.track.association import Scans, fit
from ghosttrack.stages.track.run_validation import words
from ghosttrack.stages.track.scenes import SCENES, Scene, plant
from ghosttrack.stages.track.validation import Drops, LinkTrials, Verdict
from tests.stages.sae_train.spliced import corpus, identity_sae
from tests.tiny_models import N_LAYERS, save_random_model

HARD = ("dropout", "clutter", "all")


def scenes(many: np.ndarray, one: np.ndarray, dealt: np.ndarray, smoothed: np.ndarray | None = None) -> dict:
    ways = {"hypotheses": many, "nearest": one, "random": dealt}
    ways[validation.SMOOTHED] = one if smoothed is None else smoothed
    return {name: {way: {"gospa": values.tolist()} for way, values in ways.items()} for name in HARD}


def test_several_hypotheses_pass_only_where_they_are_better_than_one_and_than_chance() -> None:
    random = np.random.default_rng(0)
    one = random.uniform(0.4, 0.6, 20)
    better, alike = one - random.uniform(0.05, 0.1, 20), one + random.normal(0, 1e-3, 20)
    assert validation.judge_scenes(scenes(better, one, one + 1)).passed
    assert not validation.judge_scenes(scenes(alike, one, one + 1)).passed
    assert not validation.judge_scenes(scenes(one, one, one + 1)).passed
    assert not validation.judge_scenes(scenes(better, one, better - 0.01)).passed
    assert not validation.judge_scenes(scenes(better, one, one + 1, smoothed=better)).passed


def test_hypotheses_add_something_to_looking_back() -> None:
    found = {name: validation.scene_scores(*validation.scene_tracks(name, 300, 40, seed=0)) for name in HARD}
    gospa = {way: np.mean([found[name][way]["gospa"] for name in HARD]) for way in found["all"]}
    assert gospa["hypotheses"] < gospa[validation.SMOOTHED] < gospa["nearest"]
    assert validation.judge_scenes(found).passed


@pytest.fixture(scope="module")
def scene() -> Scene:
    return plant(SCENES["drift"], 260, seed=0)


def test_links_of_features_foretell_activations_and_those_dealt_at_random_do_not(scene: Scene) -> None:
    scans, other = scene.scans.of(slice(0, 200)), scene.scans.of(slice(200, 260))
    association = fit(scans, scene.decoders, range(len(scene.decoders)), seed=0)
    linked = follow(other, association, "nearest", scene.decoders, seed=0)
    dealt = follow(other, association, "random", scene.decoders, seed=0, given=linked)
    found, there = validation.link_likelihoods(other, linked, association)
    chance, _ = validation.link_likelihoods(other, dealt, association)
    assert validation.judge_likelihood(found[there], chance[there]).passed
    assert not validation.judge_likelihood(chance[there], found[there]).passed
    assert not validation.judge_likelihood(found[there], found[there]).passed
    few = validation.judge_likelihood(found[there][:9], chance[there][:9])
    assert few.passed is None
    assert "9 tokens only" in few.words


def test_tracks_of_features_outlast_those_of_permuted_decoders(scene: Scene) -> None:
    layers, scans = range(len(scene.decoders)), scene.scans.of(slice(0, 200))
    shuffled = validation.permuted(scene.decoders, seed=0)
    lives = []
    for decoders in (scene.decoders, shuffled):
        tracks = follow(scans, fit(scans, decoders, layers, seed=0), "nearest", decoders, seed=0)
        lives.append(validation.weighted_life(scans, tracks))
    assert lives[0] > 5 * lives[1] >= 5
    for before, after in zip(scene.decoders, shuffled, strict=True):
        assert not torch.equal(before, after)
        assert sorted(before.tolist()) == sorted(after.tolist())


def test_life_is_the_mean_over_nodes_weighted_by_activation() -> None:
    scans = Scans(np.zeros((1, 3, 2), dtype=np.int64), np.array([[[2, 1], [3, 0], [4, 0]]], dtype=np.float32))
    tracks = empty_tracks(scans)
    tracks.previous[0, 1:, 0] = [0, 2]  # the first of each layer, three layers long; the other is seen once
    life = validation.weighted_life(scans, number_tracks(tracks, scans))
    assert life == pytest.approx((3 * 9 + 1 * 1) / 10)
    assert validation.weighted_life(scans.of(slice(0, 0)), empty_tracks(scans.of(slice(0, 0)))) == 0


@pytest.mark.parametrize(
    ("life", "permuted", "depth", "passed"),
    [
        (12.3, 1.0, 30, True),
        (8.0, 1.6, 16, True),
        (8.0, 1.7, 16, False),  # less than five times
        (7.9, 1.0, 16, False),  # five times, and not eight layers
        (7.9, 1.0, 15, True),  # of so few layers eight are not asked for
        (2.0, 1.0, 4, True),
        (1.9, 1.0, 4, False),
    ],
)  # fmt: skip
def test_tracks_must_last_long_and_longer_than_by_chance(
    life: float, permuted: float, depth: int, passed: bool
) -> None:
    assert validation.judge_life(life, permuted, depth).passed is passed


def test_a_sampled_link_has_a_control_of_like_activation_that_the_target_does_not_continue() -> None:
    latents = np.array([[[3, 5, 7], [4, 6, 8], [1, 2, 0]]])
    scans = Scans(latents, np.array([[[9, 2.1, 2], [8, 2, 0], [1, 1, 0]]], dtype=np.float32))
    tracks = empty_tracks(scans)
    tracks.previous[0, 1, 1] = 1  # 6 at layer 1 continues 5 at layer 0
    links = validation.sample_links(scans, tracks, np.array([0]), seed=0)
    assert [column.tolist() for column in vars(links).values()] == [
        [0], [0], [5], [6], [7], pytest.approx([2.1]), pytest.approx([2.0]), [1.0]
    ]  # fmt: skip


@pytest.mark.parametrize("layers", [range(N_LAYERS), [0, N_LAYERS - 1]])
def test_taking_out_what_a_latent_is_made_of_lowers_it_and_taking_out_something_else_does_not(
    tmp_path_factory: pytest.TempPathFactory, layers: Sequence[int]
) -> None:
    """With a latent for each direction, up and down, what is taken out is gone from the stream of the next tracked layer too."""
    model = load_language_model(save_random_model(tmp_path_factory.mktemp("model"), "llama"))
    text = held_out_text(corpus(), 40, 16, np.random.default_rng(0))
    row, column = (part.numpy() for part in ((text.position > 1) & text.real).nonzero(as_tuple=True))
    states: dict[int, torch.Tensor] = {}
    saes = [identity_sae(layer) for layer in layers]
    model.read_blocks(text.token, text.position, layers, states.__setitem__)
    here, later = (saes[0].encode(states[layer][row, column]) for layer in layers[:2])
    both = here.clone()
    both[later <= 0] = 0  # active at both layers
    activation, source = both.max(1)
    others = here.scatter(1, source[:, None], 0.0)
    control_activation, control = others.max(1)
    n = len(row)
    links = LinkTrials(
        np.arange(n), np.zeros(n, dtype=np.int64), source.numpy(), source.numpy(), control.numpy(),
        activation.numpy(), control_activation.numpy(), np.ones(n, dtype=np.float32),
    )  # fmt: skip
    drops = validation.ablate(model, text, row, column, saes, layers, links, tokens_at_a_time=5)
    together = validation.ablate(model, text, row, column, saes, layers, links, tokens_at_a_time=n)
    np.testing.assert_allclose(drops.linked, together.linked, atol=1e-4)
    assert validation.judge_causes(drops, links.token).passed
    assert not validation.judge_causes(Drops(drops.control, drops.linked), links.token).passed
    assert not validation.judge_causes(Drops(drops.linked, drops.linked), links.token).passed
    none = LinkTrials(**{**vars(links), "source_activation": 0 * activation.numpy()})
    unharmed = validation.ablate(model, text, row, column, saes, layers, none, tokens_at_a_time=n)
    np.testing.assert_allclose(unharmed.linked, 0, atol=1e-6)


def test_links_of_one_token_are_one_observation() -> None:
    drops = Drops(np.ones(40), np.zeros(40))
    assert validation.judge_causes(drops, np.arange(40)).passed
    assert validation.judge_causes(drops, np.arange(40) % 9).passed is None


def test_the_report_does_not_count_what_could_not_be_told_as_passed() -> None:
    verdicts = [Verdict("a", True, "."), Verdict("b", None, "."), Verdict("c", False, ".")]
    report = {"passed": 1, "failed": 1, "not_told": 1, "verdicts": [v._asdict() for v in verdicts],
              "scenes": {}, "link_posteriors": {
            "scenes": {"nearest": {"bins": [{"low": 0.6, "high": 0.7, "links": 12, "posterior": 0.65, "right": 0.5}]}},
            "interventions": [{"links": 4, "posterior": 0.9, "drop_linked": 0.2, "drop_control": 0.1, "stronger": 0.75}],
        },
        "drops": [{"what": "one track", "n": 30, "slope": 0.9, "slope_low": 0.8, "slope_high": 1.0, "rank": 0.8, "rank_low": 0.7, "rank_high": 0.9}],
        "changed": [{"size": 1, "wrong_answers": 24, "changed": [0.75, 0.55, 0.88], "control": [0.08, 0.02, 0.26], "became_right": None}],
        "causes": {"by_layer": []}}  # fmt: skip
    text = words(report)
    assert "| 1 | 24 | 75% [55%, 88%] | 8% [2%, 26%] | – |" in text
    assert "1 of 3 passed, 1 failed, 1 could not be told." in text
    assert "**not told.**" in text
