"""All associators through their one interface, on planted scenes and on what may come in badly."""

import numpy as np
import pytest
import torch

from ghosttrack.common.errors import DataError, NumericError
from ghosttrack.stages.track.associate.follow import BLOCK, follow
from ghosttrack.stages.track.association import Association, Scans, fit
from ghosttrack.stages.track.scenes import SCENES, plant, scores

MODELS = ("nearest", "marginals", "hypotheses")
EVERY = ("none", "random", "feature_id", *MODELS)


@pytest.fixture(scope="module")
def scene():
    return plant(SCENES["all"], 420, seed=0)


@pytest.fixture(scope="module")
def association(scene):
    return fit(scene.scans.of(slice(0, 300)), scene.decoders, range(len(scene.decoders)), seed=0)


@pytest.fixture(scope="module")
def tracked(scene, association):
    held_out = scene.scans.of(slice(300, 420))
    return held_out, {way: follow(held_out, association, way, scene.decoders, seed=0) for way in EVERY}


@pytest.mark.parametrize("way", EVERY)
def test_tracks_are_one_to_one_and_skip_a_layer_at_most(tracked, way):
    scans, found = tracked[0], tracked[1][way]
    k, active = scans.latents.shape[2], scans.activations > 0
    np.testing.assert_array_equal(found.track >= 0, active)
    np.testing.assert_array_equal(np.isnan(found.link), found.previous < 0)
    for problem in range(len(scans.latents)):
        links = found.previous[problem][found.previous[problem] >= 0]
        assert len(links) == len(set(links.tolist()))
        assert active[problem].ravel()[links].all()
        layer, rank = np.nonzero(found.previous[problem] >= 0)
        start = found.previous[problem, layer, rank] // k
        assert set((layer - start).tolist()) <= {1, 2}
        flat = found.track[problem].ravel()
        np.testing.assert_array_equal(flat[links], found.track[problem, layer, rank])
        born = found.track[problem][active[problem] & (found.previous[problem] < 0)]
        np.testing.assert_array_equal(born, np.arange(len(born)))
    for name in ("posterior", "existence", "discarded"):
        values = getattr(found, name)
        assert ((values >= 0) & (values <= 1 + 1e-6)).all()
    assert (found.entropy >= 0).all()


@pytest.mark.parametrize("way", EVERY)
def test_links_have_the_cosine_of_their_decoder_rows(scene, tracked, way):
    scans, found = tracked[0], tracked[1][way]
    k = scans.latents.shape[2]
    for problem, layer, rank in np.argwhere(found.previous >= 0)[::97].tolist():
        start, before = divmod(int(found.previous[problem, layer, rank]), k)
        u = scene.decoders[start][scans.latents[problem, start, before]].double()
        v = scene.decoders[layer][scans.latents[problem, layer, rank]].double()
        assert found.link[problem, layer, rank] == pytest.approx(float(u @ v), abs=1e-5)


def test_random_keeps_births_lengths_and_layers_of_the_tracks_it_is_given(tracked):
    scans, found = tracked
    active = scans.activations > 0
    given, dealt = found["nearest"], found["random"]
    np.testing.assert_array_equal(given.previous < 0, dealt.previous < 0)

    def layers_of_tracks(tracks, problem):
        layer, _ = np.nonzero(active[problem])
        numbers = tracks.track[problem][active[problem]]
        return sorted(tuple(layer[numbers == number]) for number in np.unique(numbers))

    for problem in range(0, len(active), 7):
        assert layers_of_tracks(given, problem) == layers_of_tracks(dealt, problem)
    assert (given.previous != dealt.previous).mean() > 0.01


def test_feature_id_follows_the_number_and_none_nothing(scene, association):
    latents = np.array([[[3, 5], [5, 9], [9, 3], [5, 3]]])
    scans = Scans(latents, np.ones(latents.shape, dtype=np.float32))
    decoders = scene.decoders[:4]
    few = Scans(scene.scans.latents[:50, :4], scene.scans.activations[:50, :4])
    association = fit(few, decoders, range(4), seed=0)
    same = follow(scans, association, "feature_id", decoders, seed=0).previous
    assert same.tolist() == [[[-1, -1], [1, -1], [3, 0], [2, 5]]]
    assert (follow(scans, association, "none", decoders, seed=0).previous == -1).all()


@pytest.mark.parametrize("way", EVERY)
def test_runs_are_alike_to_the_bit_and_problems_do_not_touch(scene, association, tracked, way):
    scans, found = tracked[0], tracked[1][way]
    again = follow(scans, association, way, scene.decoders, seed=0)
    for one, other in zip(again, found, strict=True):
        np.testing.assert_array_equal(one, other)
    if way != "random":  # dealt by one stream of random numbers
        part = follow(scans.of(slice(40, 47)), association, way, scene.decoders, seed=0)
        for one, other in zip(part, found, strict=True):
            np.testing.assert_array_equal(one, other[40:47])


def test_hypotheses_beat_nearest_neighbour_on_clutter_and_dropouts(scene, tracked):
    scans, found = tracked
    held_out = scene._replace(scans=scans, truth=scene.truth[300:])
    gospa = {way: np.array([each.gospa for each in scores(held_out, found[way])]) for way in EVERY}
    better = gospa["nearest"] - gospa["hypotheses"]
    assert better.mean() > 4 * better.std() / np.sqrt(len(better))
    assert gospa["nearest"].mean() < 0.7 * min(gospa["random"].mean(), gospa["feature_id"].mean())


def test_permuted_decoders_leave_nothing_to_follow(scene):
    random = torch.Generator().manual_seed(0)
    decoders = [rows[torch.randperm(len(rows), generator=random)] for rows in scene.decoders]
    model = fit(scene.scans.of(slice(0, 300)), decoders, range(len(decoders)), seed=0)
    for way in MODELS:
        found = follow(scene.scans.of(slice(300, 420)), model, way, decoders, seed=0)
        assert (found.previous >= 0).sum() < 0.05 * (found.track >= 0).sum()


def test_what_was_planted_is_estimated():
    planted = SCENES["dropout"]
    scene = plant(planted, 1000, seed=1)
    model = fit(scene.scans, scene.decoders, range(planted.n_layers), seed=0)
    assert float(model.noise_variance) == pytest.approx(planted.noise**2, rel=0.3)
    assert model.change_variance.mean() == pytest.approx(planted.wander**2, rel=0.2)
    assert model.drift.numpy() == pytest.approx(np.zeros(planted.n_layers - 1), abs=0.02)
    # Born in the first third of 12 layers: what survives the first steps goes on for certain.
    seen = [float(model.seen(layer, np.array(0.5))) / float(model.survival[layer]) for layer in range(1, 4)]
    assert np.mean(seen) == pytest.approx(1 - planted.dropout, abs=0.03)
    same = model.log_ratio[1].numpy()
    assert (np.diff(same, axis=1) >= -1e-9).all()
    assert (same[:, 97] > 2).all()
    assert (same[:, 60] < -2).all()


def test_detections_that_are_alike_by_chance_are_no_features():
    planted = SCENES["clutter"]
    scene = plant(planted, 600, seed=1)
    model = fit(scene.scans, scene.decoders, range(planted.n_layers), seed=0)
    assert float(model.noise_variance) == pytest.approx(planted.noise**2, rel=0.3)
    assert model.change_variance.mean() == pytest.approx(planted.wander**2, rel=0.3)
    assert model.clutter.numpy() == pytest.approx(np.full(planted.n_layers, planted.clutter), rel=0.1)
    there = [[set(layer.numbers.tolist()) for layer in problem] for problem in scene.truth]
    births, here, stays = np.zeros(planted.n_layers), np.zeros(planted.n_layers), np.zeros(planted.n_layers)
    for problem in there:
        for layer, numbers in enumerate(problem):
            births[layer] += len(numbers - (problem[layer - 1] if layer else set()))
            here[layer] += len(numbers)
            stays[layer] += len(numbers & problem[layer + 1]) if layer < planted.n_layers - 1 else 0
    assert model.births.numpy() == pytest.approx(births / len(there), rel=0.1, abs=0.03)
    # At the last pair of layers survival cannot be told from detection, and is that of the pair before.
    assert model.survival.numpy()[:-1] == pytest.approx((stays / here)[:-2], abs=0.03)


def test_an_association_model_is_read_as_it_was_written(scene, association, tracked, tmp_path):
    association.save(tmp_path / "association.pt")
    read = Association.load(tmp_path / "association.pt")
    torch.load(tmp_path / "association.pt", weights_only=True)
    found = follow(tracked[0], read, "hypotheses", scene.decoders, seed=0)
    np.testing.assert_array_equal(found.previous, tracked[1]["hypotheses"].previous)
    assert read.provenance["scans"] == 300


def empty_layer(scans, layer):
    activations = scans.activations.copy()
    activations[:, layer] = 0
    return Scans(scans.latents, activations)


@pytest.mark.parametrize("way", EVERY)
def test_a_layer_without_active_latents_is_skipped_over(scene, association, tracked, way):
    scans = empty_layer(tracked[0], 5)
    found = follow(scans, association, way, scene.decoders, seed=0)
    assert (found.track[:, 5] == -1).all()
    if way in MODELS:
        k = scans.latents.shape[2]
        assert (found.previous[:, 6] // k == 4).sum() > 50
    nothing = Scans(scans.latents, np.zeros_like(scans.activations))
    assert (follow(nothing, association, way, scene.decoders, seed=0).track == -1).all()


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_one_or_two_layers_are_enough(scene, way, n_layers):
    scans = Scans(scene.scans.latents[:60, :n_layers], scene.scans.activations[:60, :n_layers])
    model = fit(scans, scene.decoders[:n_layers], range(n_layers), seed=0)
    found = follow(scans, model, way, scene.decoders[:n_layers], seed=0)
    assert found.track.shape == scans.latents.shape


def test_no_problems_and_more_problems_than_a_block(scene, association):
    for way in EVERY:
        assert len(follow(scene.scans.of(slice(0, 0)), association, way, scene.decoders, seed=0).track) == 0
    many = scene.scans.of(np.tile(np.arange(300), 2))
    assert len(many.latents) > BLOCK
    found = follow(many, association, "hypotheses", scene.decoders, seed=0)
    np.testing.assert_array_equal(found.previous[:300], found.previous[300:])


def test_saes_of_unequal_width_are_followed_and_of_another_model_refused(scene):
    wider = [torch.cat([rows, -rows[:7]]) if layer % 2 else rows for layer, rows in enumerate(scene.decoders)]
    scans = scene.scans.of(slice(0, 200))
    found = follow(scans, fit(scans, wider, range(len(wider)), seed=0), "nearest", wider, seed=0)
    assert (found.previous >= 0).any()


def test_bad_input_is_refused(scene):
    with pytest.raises(DataError, match="at least two"):
        fit(scene.scans.of(slice(0, 1)), scene.decoders, range(len(scene.decoders)), seed=0)
    broken = scene.scans.of(slice(0, 10))
    broken = Scans(broken.latents, np.where(broken.activations > 1, np.float32(np.inf), broken.activations))
    with pytest.raises(NumericError, match="NaN"):
        fit(broken, scene.decoders, range(len(scene.decoders)), seed=0)
