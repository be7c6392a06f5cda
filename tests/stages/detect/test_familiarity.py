"""Unfamiliar questions, token risks, and an interval that holds its probability."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ghosttrack.stages.detect.explain import Reference, _interval
from ghosttrack.stages.detect.familiarity import FALSE_ALARMS, NEIGHBOUR, PROMPT, fit_familiarity
from ghosttrack.stages.detect.token_risk import fit_token_risk
from tests.stages.detect.synthetic import placed

WIDTH, LAYERS = 24, 3


def states_of(centres: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """[count · n_centres, 4, n_layers, d] with noise round each centre at the prompt's end."""
    states = np.zeros((count * len(centres), 4, LAYERS, WIDTH), np.float16)
    noise = random.normal(size=(len(states), WIDTH))
    states[:, PROMPT, LAYERS // 2] = np.repeat(centres, count, axis=0) + noise
    return states


@pytest.fixture(scope="module")
def centres() -> np.ndarray:
    return 4 * np.random.default_rng(1).normal(size=(9, WIDTH))


def test_false_alarms_are_as_promised_and_another_relation_is_found(centres: np.ndarray) -> None:
    random = np.random.default_rng(2)
    fitted = fit_familiarity(placed(states_of(centres[:8], 60, random)), np.arange(480), 0)
    own = fitted.unfamiliar(placed(states_of(centres[:8], 250, random))).mean()
    assert abs(own - FALSE_ALARMS) < 0.02
    assert fitted.unfamiliar(placed(states_of(centres[8:], 250, random))).mean() > 0.95


def test_the_p_value_is_that_of_the_nearest_neighbours_of_another_library(centres: np.ndarray) -> None:
    random = np.random.default_rng(3)
    train, asked = states_of(centres[:4], 30, random), states_of(centres[2:6], 10, random)
    groups = np.repeat(np.arange(60), 2)
    fitted = fit_familiarity(placed(train), groups, 0)
    here = train[:, PROMPT, LAYERS // 2].astype(np.float64)
    mean, spread = here.mean(axis=0), here.std(axis=0)

    def unit(rows: np.ndarray) -> np.ndarray:
        scaled = (rows[:, PROMPT, LAYERS // 2].astype(np.float64) - mean) / spread
        return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)

    def kth(search: NearestNeighbors, row: np.ndarray, skip: int = 0) -> float:
        return search.kneighbors(row[None], NEIGHBOUR + skip)[0][0, -1] ** 2 / 2

    known = unit(train)
    own = [kth(NearestNeighbors().fit(known[groups != groups[row]]), known[row]) for row in range(len(train))]
    expected = [
        (1 + sum(distance >= far for distance in own)) / (1 + len(own))
        for far in (kth(NearestNeighbors().fit(known), row) for row in unit(asked))
    ]
    np.testing.assert_allclose(fitted.p_value(placed(asked)), expected, atol=2.1 / len(train))


def test_a_token_s_risk_hangs_on_nothing_after_it() -> None:
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, 300).astype(float)
    logprobs = [(-random.exponential(0.2 + 2 * label, random.integers(1, 6))).tolist() for label in labels]
    entropies = [(-np.array(values)).tolist() for values in logprobs]
    risk = fit_token_risk(logprobs, entropies, labels)
    whole = risk([-0.1, -3.0, -0.1], [0.1, 3.0, 0.1])
    np.testing.assert_array_equal(risk([-0.1, -3.0], [0.1, 3.0]), whole[:2])
    assert whole[1] > whole[0]
    means = [risk(a, b).mean() for a, b in zip(logprobs, entropies, strict=True)]
    assert np.mean(means) == pytest.approx(labels.mean(), abs=0.03)  # calibrated in the large


def test_a_token_unlike_all_that_were_seen_is_judged_as_the_last_of_them() -> None:
    alike = [[-0.7 - 0.001 * (row % 2)] for row in range(40)]
    entropies = [[0.69 + 0.001 * (row % 3)] for row in range(40)]
    risk = fit_token_risk(alike, entropies, np.arange(40) % 2.0)
    seen = [risk(a, b)[0] for a in alike[:2] for b in entropies[:3]]
    for far in (risk([-9.0], [4.0])[0], risk([-0.001], [0.01])[0]):
        assert min(seen) - 1e-9 <= far <= max(seen) + 1e-9


@pytest.mark.parametrize("count", [12, 60, 2000])
def test_an_interval_holds_its_probability(count: int) -> None:
    random = np.random.default_rng(count)
    probability = np.sort(random.random(count))
    wrong = (random.random(count) < 0.5 * probability).astype(float)  # badly calibrated on purpose
    reference = Reference(None, [], probability, wrong, [], None)  # type: ignore[arg-type]
    for asked in (0.0, 0.01, 0.5, 0.997, 1.0):
        low, high = _interval(reference, asked)
        assert 0 <= low <= asked <= high <= 1
