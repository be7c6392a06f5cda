import datetime
from itertools import permutations

import motmetrics
import numpy as np
import pytest

from ghosttrack.stages.track.scoring import Snapshot, gospa, idf1, mota, score

CUTOFF = 1.0


def random_problem(seed, n_layers=8):
    """Objects that move, and tracks of them that are missed, false, or exchange their numbers."""
    random = np.random.default_rng(seed)
    objects = random.normal(0, 2, (5, 2))
    names = random.permutation(5)
    truth, tracks = [], []
    for layer in range(n_layers):
        objects += random.normal(0, 0.1, objects.shape)
        there = np.flatnonzero(random.random(5) < 0.9)
        if layer == 4:
            names[[0, 1]] = names[[1, 0]]
        found = there[random.random(len(there)) < 0.85]
        states = np.concatenate(
            [objects[found] + random.normal(0, 0.2, (len(found), 2)), random.normal(0, 2, (1, 2))]
        )
        truth.append(Snapshot(there, objects[there].copy()))
        tracks.append(Snapshot(np.append(names[found], 100 + layer), states))
    return truth, tracks


def accumulated(truth, tracks):
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for there, found in zip(truth, tracks, strict=True):
        distance = np.linalg.norm(there.states[:, None] - found.states[None], axis=2)
        distance[distance >= CUTOFF] = np.nan
        accumulator.update(there.numbers, found.numbers, distance)
    return motmetrics.metrics.create().compute(accumulator, metrics=["mota", "idf1"], name="x").iloc[0]


@pytest.mark.parametrize("seed", range(20))
def test_mota_and_idf1_are_those_of_motmetrics(seed):
    truth, tracks = random_problem(seed)
    expected = accumulated(truth, tracks)
    assert mota(truth, tracks, CUTOFF) == pytest.approx(expected["mota"], abs=1e-12)
    assert idf1(truth, tracks, CUTOFF) == pytest.approx(expected["idf1"], abs=1e-12)


def gospa_by_brute_force(truth, tracks):
    """The smallest value over all partial assignments, by the definition."""
    best = np.inf
    for choice in permutations([*range(len(tracks)), *[-1] * len(truth)], len(truth)):
        matched = [(row, column) for row, column in enumerate(choice) if column >= 0]
        distance = sum(np.sum((truth[row] - tracks[column]) ** 2) for row, column in matched)
        best = min(best, distance + CUTOFF**2 / 2 * (len(truth) + len(tracks) - 2 * len(matched)))
    return best


@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 4), (4, 2), (0, 2), (2, 0), (0, 0)])
def test_gospa_is_the_least_over_all_assignments(n, m):
    random = np.random.default_rng(n + 10 * m)
    for _ in range(20):
        truth, tracks = random.normal(0, 0.7, (n, 2)), random.normal(0, 0.7, (m, 2))
        assert gospa(truth, tracks, CUTOFF)[0] == pytest.approx(gospa_by_brute_force(truth, tracks))


def test_gospa_is_that_of_stone_soup():
    ospa = pytest.importorskip("stonesoup.metricgenerator.ospametric")
    from stonesoup.types.state import State

    random = np.random.default_rng(0)
    now = datetime.datetime(2000, 1, 1)
    oracle = ospa.GOSPAMetric(p=2, c=CUTOFF)
    for _ in range(20):
        truth, tracks = random.normal(0, 0.7, (5, 2)), random.normal(0, 0.7, (4, 2))
        states = [[State(row[:, None], timestamp=now) for row in rows] for rows in (tracks, truth)]
        metric = oracle.compute_gospa_metric(*states)[0].value
        squared, _, _ = gospa(truth, tracks, CUTOFF)
        assert np.sqrt(squared) == pytest.approx(metric["distance"])


def test_perfect_tracks_have_perfect_scores_and_a_switch_costs():
    truth, _ = random_problem(0)
    assert score(truth, truth, CUTOFF) == (0, 1, 1)
    swapped = [
        Snapshot(
            np.where(there.numbers < 2, 1 - there.numbers, there.numbers) if layer > 3 else there.numbers,
            there.states,
        )
        for layer, there in enumerate(truth)
    ]
    worse = score(truth, swapped, CUTOFF)
    assert worse.gospa == pytest.approx(np.sqrt(2 * CUTOFF**2 / 2 / len(truth)))
    assert worse.mota < 1
    assert worse.idf1 < 1


def test_nothing_there_and_nothing_found_is_right():
    empty = [Snapshot(np.zeros(0, dtype=np.int64), np.zeros((0, 2)))] * 3
    assert score(empty, empty, CUTOFF) == (0, 1, 1)
