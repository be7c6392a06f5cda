"""What is known of each answer, arranged by question: everything that features may be made of, and nothing else.

No gold answer, alias or label is in here. Arrays over places have four entries a question (`PLACES`); a question without
such a position (its subject is not in the prompt, its answer has no tokens) has NaN there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.files import take_room
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.common.maths.text import normalise

States = NDArray[np.float16] | Singles
"""As `track` stored them."""
Stored = Path | States
"""A file of numpy's, or what is in it."""

PLACES = ("subject", "prompt", "first", "last")
"""Last subject token, last prompt token, first and last answer token."""
BEFORE_ANSWER = ("subject", "prompt")
"""Places that are read before the first token is generated."""

LENS = ("logprob", "rival_logprob", "entropy", "rank")
QUESTIONS_AT_A_TIME = 512
"""Whose states are moved."""


class AnsweredQuestion(NamedTuple):
    """A question and its answer as a feature may see them."""

    relation: str
    subject: str
    question: str
    prefix: str  # the worked examples before the question
    answer: str
    said: str  # the answer, normalised
    token_ids: list[int]
    logprobs: list[float]
    entropies: list[float]
    samples: list[str]
    form: str  # of the prompt: whether worked examples come first, and whether a sentence is completed

    @classmethod
    def of(cls, answer: Answer) -> "AnsweredQuestion":
        return cls(
            answer.relation, answer.subject, answer.question, answer.prefix, answer.answer, normalise(answer.answer),
            answer.token_ids, answer.logprobs, answer.entropies, answer.samples,
            _form(answer),
        )  # fmt: skip


def _form(answer: Answer) -> str:
    if answer.chat:
        return "a question in a chat"
    asked = "a sentence to complete" if answer.query == answer.question else "a question"
    return f"{asked} {'after' if answer.prefix else 'without'} worked examples"


def place_rows(question: Ints, position: Ints, n_questions: int) -> Ints:
    """Row of each question's places in a table sorted by question and position, [n_questions, 4]; −1 where absent.

    Raises CorruptInputError for a table that is out of order or speaks of questions that do not exist.
    """
    if len(question) and (question.min() < 0 or question.max() >= n_questions):
        raise CorruptInputError(
            f"the table speaks of questions {question.min()} to {question.max()}, but there are {n_questions}; "
            "run track again"
        )
    step = np.diff(question)
    if (step < 0).any() or ((step == 0) & (np.diff(position) <= 0)).any():
        raise CorruptInputError("the table is not sorted by question and position; run track again")
    rows = np.full((n_questions, len(PLACES)), -1, dtype=np.int64)
    numbers = np.arange(len(question))
    for place, wanted in enumerate((-1, 0, 1)):
        found = position == wanted
        rows[question[found], place] = numbers[found]
    answers = position > 0
    rows[question[answers], 3] = numbers[answers]  # the last one written is the last position
    return rows


@dataclass(frozen=True)
class PlacedStates:
    """Block outputs of n questions at their places, read one place and layer at a time: of 100,000 questions they take 14 GB.

    stored: [4, n_layers, n_all, d_model], NaN where a place is absent; rows: [n], of n_all.
    """

    stored: Stored
    rows: Ints

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """n, 4, n_layers, d_model."""
        places, depth, _, width = _opened(self.stored).shape
        return len(self.rows), places, depth, width

    def at(self, place: int, layer: int) -> Singles:
        """[n, d_model]. place, layer: numbers among PLACES and among the run's layers."""
        return _opened(self.stored)[place, layer][self.rows].astype(np.float32)

    def of(self, rows: Ints) -> "PlacedStates":
        return PlacedStates(self.stored, self.rows[rows])


def _opened(stored: Stored, mode: Literal["r", "r+"] = "r") -> States:
    """Mapped anew each time, so that what was read of a file does not stay in memory."""
    return stored if isinstance(stored, np.ndarray) else np.load(stored, mmap_mode=mode, allow_pickle=False)


def states_by_place(
    question: Ints, position: Ints, states: Stored, n_questions: int, room: Path | None = None
) -> PlacedStates:
    """Block outputs at each question's places. states: [n_rows, n_layers, d_model]; room: a file for what may be too much for
    memory. Raises NumericError for NaN or Inf."""
    rows = place_rows(question, position, n_questions)
    kind, (_, depth, width) = _opened(states).dtype, _opened(states).shape
    shape = (len(PLACES), depth, n_questions, width)
    stored: Stored = np.empty(shape, kind) if room is None else room
    if room is not None:
        np.lib.format.open_memmap(room, mode="w+", dtype=kind, shape=shape)
        take_room(room)
    for start in range(0, n_questions, QUESTIONS_AT_A_TIME):
        result, source = _opened(stored, "r+"), _opened(states)
        for place, own in enumerate(rows[start : start + QUESTIONS_AT_A_TIME].T):
            there = np.flatnonzero(own >= 0)
            moved = np.full((len(own), depth, width), np.nan, dtype=kind)
            moved[there] = source[own[there]]
            finite = np.isfinite(moved[there]).all(axis=(1, 2))
            if not finite.all():
                bad = start + there[np.argmin(finite)]
                raise NumericError(
                    f"states of question {bad}, {PLACES[place]} are not all finite; run track again"
                )
            result[place, :, start : start + len(own)] = moved.swapaxes(0, 1)
    return PlacedStates(stored, np.arange(n_questions))


def lens_by_place(table: pd.DataFrame, n_questions: int, layers: list[int]) -> dict[str, Singles]:
    """lens.parquet as arrays over places and layers. Raises CorruptInputError, NumericError."""
    depth = len(layers)
    question, position = table["question"].to_numpy(), table["position"].to_numpy()
    if len(table) % depth or (table["layer"].to_numpy().reshape(-1, depth) != layers).any():
        raise CorruptInputError(
            f"lens.parquet does not have the layers {layers} at every position; run track again"
        )
    rows = place_rows(question[::depth].astype(np.int64), position[::depth].astype(np.int64), n_questions)
    there = rows >= 0
    result = {}
    for name in LENS:
        values = table[name].to_numpy(dtype=np.float32).reshape(-1, depth)
        if not np.isfinite(values).all():
            bad = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise NumericError(
                f"lens.parquet: {name} of question {question[bad * depth]} is not finite; run track again"
            )
        result[name] = np.full((n_questions, len(PLACES), depth), np.nan, dtype=np.float32)
        result[name][there] = values[rows[there]]
    return result


def first_candidates(table: pd.DataFrame, n_questions: int) -> tuple[Ints, Floats]:
    """The candidates for the first answer token: tokens and log-probabilities, [n_questions, m].

    Raises CorruptInputError, NumericError.
    """
    first = table[table["position"] == 0]
    count = int(first["rank"].max()) + 1 if len(first) else 0
    if (
        len(first) != n_questions * count
        or (first["question"].to_numpy() != np.arange(n_questions).repeat(count)).any()
    ):
        raise CorruptInputError(
            "candidates.parquet does not have position 0 of every question; run track again"
        )
    logprobs = first["logprob"].to_numpy(dtype=np.float64).reshape(n_questions, count)
    if not np.isfinite(logprobs).all():
        bad = int(np.argmin(np.isfinite(logprobs).all(axis=1)))
        raise NumericError(f"candidates.parquet: logprob of question {bad} is not finite; run track again")
    return first["token"].to_numpy(dtype=np.int64).reshape(n_questions, count), logprobs
