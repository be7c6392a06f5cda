"""Tracks of SAEs that were trained apart, compared: against brute force, and on tables that agree and that do not."""

import numpy as np
import pytest
from scipy import stats

from ghosttrack.stages.track.stability import by_layer, judge_stability

LAYERS = [2, 5, 8, 11, 14, 17]
QUESTIONS = 40


def nodes(seed: int, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Three a layer at most; the last question has none."""
    shape, some = np.random.default_rng(seed), np.random.default_rng(99)
    question, place, _ = (each.ravel() for each in np.indices((QUESTIONS - 1, len(LAYERS), 3)))
    kept = shape.random(len(question)) < 0.7
    effect = shape.normal(size=len(question)) + noise * some.normal(size=len(question))
    columns = {"question": question, "layer": np.array(LAYERS)[place], "effect": effect}
    return {name: values[kept].astype("f4" if name == "effect" else "i4") for name, values in columns.items()}


def test_effects_by_layer_are_those_of_a_plain_loop() -> None:
    table = nodes(1)
    sums = by_layer(table, QUESTIONS, LAYERS)
    for question in range(QUESTIONS):
        rows = np.flatnonzero(table["question"] == question)
        for place, layer in enumerate(LAYERS):
            assert sums[question, place] == pytest.approx(
                sum(table["effect"][row] for row in rows if table["layer"][row] == layer), abs=1e-5
            )


def test_what_agrees_passes_and_what_does_not_fails() -> None:
    table = nodes(1)
    like, unlike = nodes(1, noise=0.1), nodes(2)
    agreeing = judge_stability(table, like, QUESTIONS, LAYERS)
    assert agreeing.passed
    first, second = (by_layer(each, QUESTIONS, LAYERS) for each in (table, like))
    expected = np.mean(
        [stats.spearmanr(*rows).statistic for rows in zip(first[:-1], second[:-1], strict=True)]
    )
    assert f"rank correlation of {expected:.2f}" in agreeing.words
    assert f"{QUESTIONS - 1} answers" in agreeing.words
    assert judge_stability(table, unlike, QUESTIONS, LAYERS).passed is False
    few = {name: values[unlike["question"] < 3] for name, values in unlike.items()}
    assert judge_stability(table, few, QUESTIONS, LAYERS).passed is None
