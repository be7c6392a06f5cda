"""States by place keep the type they are stored in, whose numbers may be too large for float16."""

from pathlib import Path

import numpy as np
import pytest

from ghosttrack.common.errors import NumericError
from ghosttrack.common.formats.answers import Answer
from ghosttrack.stages.detect import evidence
from ghosttrack.stages.detect.evidence import AnsweredQuestion, PlacedStates, states_by_place


@pytest.mark.parametrize(("kind", "largest"), [(np.float16, 60_000), (np.float32, 1e7)])
def test_states_keep_type_and_numbers(kind: type, largest: float) -> None:
    states = np.full((3, 2, 4), largest, dtype=kind)
    found = states_by_place(np.array([0, 0, 1]), np.array([0, 1, 0]), states, 2)
    assert isinstance(found.stored, np.ndarray)
    assert found.stored.dtype == kind
    for place in (1, 2, 3):
        assert (found.at(place, 1)[0] == kind(largest)).all()
    for place in (0, 2, 3):
        assert np.isnan(found.at(place, 0)[1]).all()


def test_states_of_a_file_are_those_of_memory_and_stay_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "QUESTIONS_AT_A_TIME", 3)
    question, position = np.repeat(np.arange(8), 3)[1:], np.tile([-1, 0, 1], 8)[1:]
    states = np.random.default_rng(0).normal(size=(len(question), 5, 4)).astype(np.float16)
    np.save(tmp_path / "states.npy", states)
    held = states_by_place(question, position, states, 8)
    placed = states_by_place(question, position, tmp_path / "states.npy", 8, tmp_path / "placed.npy")
    assert placed.stored == tmp_path / "placed.npy"
    assert placed.shape == held.shape == (8, 4, 5, 4)
    some = np.array([6, 0, 3])
    for place in range(4):
        for layer in range(5):
            np.testing.assert_array_equal(placed.at(place, layer), held.at(place, layer))
            expected = states[question.searchsorted(some) + min(place, 2) - (some == 0), layer]
            here = placed.of(some).at(place, layer)
            absent = (some == 0) & (place == 0)  # question 0 has no subject
            assert np.isnan(here[absent]).all()
            np.testing.assert_array_equal(here[~absent], expected[~absent].astype(np.float32))
    assert PlacedStates(placed.stored, some).of(np.array([1])).rows.tolist() == [0]


def test_states_that_are_not_finite_are_refused() -> None:
    states = np.full((1, 2, 4), np.inf, dtype=np.float32)
    with pytest.raises(NumericError, match="question 0"):
        states_by_place(np.array([0]), np.array([0]), states, 1)


@pytest.mark.parametrize(
    ("prefix", "query", "closing", "n_shots", "form"),
    [
        ("", "Spain's capital is", "", 0, "a sentence to complete without worked examples"),
        (
            "Peru's capital is Lima\n",
            "Spain's capital is",
            "",
            1,
            "a sentence to complete after worked examples",
        ),
        ("<user>", "Which is it?", "<model>", 0, "a question in a chat without worked examples"),
        (
            "<user>Which?<model>It<user>",
            "Which is it?",
            "<model>",
            1,
            "a question in a chat after worked examples",
        ),
    ],
)
def test_the_form_of_a_prompt_tells_worked_examples_from_what_a_template_says(
    prefix: str, query: str, closing: str, n_shots: int, form: str
) -> None:
    answer = Answer(
        id="1", relation="capital", group="1", prompt=prefix + query + closing, question=query, query=query, answer="Madrid",
        gold="Madrid", label=0, tokens=[], logprobs=[], entropies=[], n_shots=n_shots,
    )  # fmt: skip
    assert AnsweredQuestion.of(answer).form == form
