"""Posteriors of links against what is known to be true."""

import numpy as np
import pytest

from ghosttrack.stages.track import validation
from ghosttrack.stages.track.associate.record import Tracks, empty_tracks
from ghosttrack.stages.track.association import Scans
from ghosttrack.stages.track.link_calibration import Judged, by_posterior, judge, judged, reliability
from ghosttrack.stages.track.scenes import SCENES, Planted, Scene, plant

Tracked = tuple[Scene, dict[str, Tracks]]
FROM_POSTERIOR = 0.1
"""Of the share of links that are right, in a bin of a tenth."""


@pytest.fixture(scope="module")
def planted() -> list[Tracked]:
    """Seeds are others than those on which the model of association was chosen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ASSOCIATORS", ("nearest", "marginals", "hypotheses"))
        return [validation.scene_tracks(name, 300, 40, seed) for name in SCENES for seed in (300, 301)]


def test_links_are_right_where_both_ends_are_one_feature() -> None:
    """Against a loop over every link of a scene, with links dealt at random."""
    scene = plant(Planted(clutter=2.0, n_layers=6), 5, seed=1)
    tracks, random = empty_tracks(scene.scans), np.random.default_rng(0)
    n, layers, k = scene.scans.latents.shape
    active, expected = scene.scans.activations > 0, []
    for problem in range(n):
        for layer in range(1, layers):
            for rank in np.flatnonzero(active[problem, layer]).tolist():
                before = int(random.choice(np.flatnonzero(active[problem, layer - 1])))
                tracks.previous[problem, layer, rank] = (layer - 1) * k + before
                tracks.posterior[problem, layer, rank] = random.random()
                ends = [(layer - 1, before), (layer, rank)]
                paths = [int(scene.path_of[at][scene.scans.latents[problem, at, r]]) for at, r in ends]
                there = all(
                    path in scene.truth[problem][at].numbers
                    for path, (at, _) in zip(paths, ends, strict=True)
                )
                expected.append(
                    (problem, float(tracks.posterior[problem, layer, rank]), there and paths[0] == paths[1])
                )
    found = judged(scene, tracks)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
    assert 0 < found.right.mean() < 1


def test_reliability_of_what_is_right_as_often_as_it_says_and_of_what_is_not() -> None:
    random = np.random.default_rng(3)
    posterior, problem = random.random(20_000), np.repeat(np.arange(200), 100)
    honest = reliability(Judged(problem, posterior, random.random(20_000) < posterior), seed=0)
    sure = reliability(Judged(problem, posterior, random.random(20_000) < posterior**3), seed=0)
    assert sum(each["links"] for each in honest["bins"]) == honest["links"] == 20_000
    assert honest["error"][0] < 0.02
    assert sure["error"][1] > 0.2
    tenths = [(posterior >= low / 10) & (posterior < (low + 1) / 10) for low in range(10)]
    by_hand = [posterior[mine].mean() for mine in tenths]
    assert [each["posterior"] for each in honest["bins"]] == pytest.approx(by_hand, abs=1e-4)
    by_chance = np.sqrt(
        2 / np.pi * np.array([(posterior * (1 - posterior))[mine].sum() for mine in tenths[1:9]])
    )
    assert honest["doubtful_by_chance"] == pytest.approx(by_chance.sum() / honest["doubtful_links"], abs=1e-4)
    assert judge(honest, "marginals").passed is True
    assert judge(sure, "marginals").passed is False
    certain = Judged(problem, np.where(posterior < 0.99, 0.99, posterior), random.random(20_000) < 0.99)
    few = reliability(certain, seed=0)
    assert few["error"][0] < 0.02
    assert judge(few, "marginals").passed is None


@pytest.mark.parametrize("off", [0.0, 0.06])
def test_the_bias_of_few_links_is_taken_off(off: float) -> None:
    """400 links whose posteriors are off by a known distance, drawn again and again."""
    random, problem = np.random.default_rng(1), np.repeat(np.arange(40), 10)
    found = []
    for _ in range(60):
        posterior = random.uniform(0.15, 0.85, 400)
        found.append(reliability(Judged(problem, posterior, random.random(400) < posterior + off), seed=0))
    error, debiased = (
        np.mean([each[f"doubtful_{kind}"][0] for each in found]) for kind in ("error", "debiased")
    )
    assert abs(debiased - off) < 0.65 * abs(error - off)
    low, high = np.array([each["doubtful_debiased"][1:] for each in found]).T
    assert (low <= off).mean() > 0.8
    if off:
        assert ((low <= off) & (off <= high)).mean() > 0.75
    else:  # what exact posteriors of so many links have is foretold
        assert np.mean([each["doubtful_by_chance"] for each in found]) == pytest.approx(error, rel=0.1)


def test_scenes_are_counted_on() -> None:
    one = Judged(np.array([0, 1]), np.array([0.5, 0.6]), np.array([True, False]))
    both = Judged.joined([one, one])
    assert both.problem.tolist() == [0, 1, 2, 3]
    assert both.right.tolist() == [True, False] * 2


def test_no_link_is_no_figure() -> None:
    empty = Judged(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=bool))
    found = reliability(empty, seed=0)
    assert (found["links"], found["bins"]) == (0, [])
    assert (
        by_posterior(
            np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.float32)
        )
        == []
    )


def test_links_by_thirds_of_their_posterior() -> None:
    posterior = np.array([0.9, 0.1, 0.5], dtype=np.float32)
    rows = by_posterior(
        posterior, np.array([3, 1, 2], dtype=np.float32), np.array([1, 2, 2], dtype=np.float32)
    )
    assert [row["posterior"] for row in rows] == pytest.approx([0.1, 0.5, 0.9])
    assert [row["stronger"] for row in rows] == [0, 0, 1]
    assert [row["drop_linked"] for row in rows] == [1, 2, 3]


def test_planted_scenes_have_links_to_judge() -> None:
    for name in SCENES:
        scene, ways = validation.scene_tracks(name, 12, 3, seed=0)
        assert len(judged(scene, ways["nearest"]).right) > 0
        assert judged(scene, ways["nearest"]).right.mean() > judged(scene, ways["random"]).right.mean()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["nearest", "marginals", "hypotheses"])
def test_doubtful_links_are_right_as_often_as_they_say(planted: list[Tracked], way: str) -> None:
    """Features that neither the model of association nor its constants were fitted to, 80 problems in each scene."""
    found = Judged.joined([judged(scene, ways[way]) for scene, ways in planted])
    bins = {each["low"]: each for each in reliability(found, seed=0)["bins"]}
    for low in (0.5, 0.6, 0.7, 0.8):
        assert bins[low]["links"] > 80
        assert bins[low]["right"] == pytest.approx(bins[low]["posterior"], abs=FROM_POSTERIOR)


def test_scans_without_a_link_have_none() -> None:
    scene = plant(Planted(n_layers=3), 1, seed=0)
    quiet = scene._replace(scans=Scans(scene.scans.latents, np.zeros_like(scene.scans.activations)))
    assert len(judged(quiet, empty_tracks(quiet.scans)).right) == 0
