"""What is known of each answer, arranged by question: everything that features may be made of, and nothing else.

No gold answer, alias or label is in here; `Data` has all of it that fits may draw on. Arrays over places have four entries a question (`PLACES`); a question without
such a position (its subject is not in the prompt, its answer has no tokens) has NaN there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.files import take_room
from ghosttrack.common.foreign import whole
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

QUESTIONS_AT_A_TIME = 512
"""Whose states are moved."""


class FeatureTable(NamedTuple):
    """values: [n_questions, n_features], NaN where a question lacks what the feature is read from."""

    values: Floats | Singles
    names: list[str]

    def narrow(self) -> "FeatureTable":
        """In float32."""
        return FeatureTable(self.values.astype(np.float32), self.names)


def joined(tables: Sequence[FeatureTable]) -> FeatureTable:
    return FeatureTable(
        np.concatenate([table.values for table in tables], axis=1),
        [name for table in tables for name in table.names],
    )


def from_columns(columns: dict[str, Sequence[float] | Floats]) -> FeatureTable:
    """A table of named columns of equal length."""
    return FeatureTable(
        np.stack([np.asarray(c, dtype=np.float64) for c in columns.values()], axis=1), list(columns)
    )


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
    asked = "a sentence to complete" if answer.query == answer.question else "a question"
    if answer.chat:  # what stands before it is the template's too
        asked, shown = "a question in a chat", bool(answer.n_shots)
    else:
        shown = bool(answer.prefix)
    return f"{asked} {'after' if shown else 'without'} worked examples"


def place_rows(question: Ints, position: Ints, n_questions: int) -> Ints:
    """Row of each question's places in a table sorted by question and position, [n_questions, 4]; −1 where absent.

    Raises CorruptInputError for a table that is not, or speaks of questions that do not exist.
    """
    step = np.diff(question)
    known = not len(question) or 0 <= question.min() <= question.max() < n_questions
    if not known or (step < 0).any() or ((step == 0) & (np.diff(position) <= 0)).any():
        raise CorruptInputError(
            f"a table of answers is not sorted by questions 0 to {n_questions - 1} and position; run track again"
        )
    rows = np.full((n_questions, len(PLACES)), -1, dtype=np.int64)
    numbers = np.arange(len(question))
    for place, wanted in enumerate((-1, 0, 1)):
        found = position == wanted
        rows[question[found], place] = numbers[found]
    answers = position > 0
    rows[question[answers], 3] = numbers[answers]  # the last one written is the last position
    return rows


def by_place(
    table: pd.DataFrame, file: str, names: Sequence[str], n_questions: int, layers: list[int], kind: type
) -> dict[str, NDArray[Any]]:
    """Columns of a table with a row a layer of every position, as [n_questions, 4, n_layers] of a kind of number; NaN where a
    place is absent. Raises CorruptInputError, NumericError naming the file."""
    depth = len(layers)
    if len(table) % depth or (table["layer"].to_numpy().reshape(-1, depth) != layers).any():
        raise CorruptInputError(
            f"{file} does not have the layers {layers} at every position; run track again"
        )
    question, position = (table[name].to_numpy(dtype=np.int64)[::depth] for name in ("question", "position"))
    rows = place_rows(question, position, n_questions)
    result = {}
    for name in names:
        values = table[name].to_numpy(dtype=kind).reshape(-1, depth)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise NumericError(
                f"{file}: {name} of question {question[np.argmin(finite)]} is not finite; run track again"
            )
        result[name] = np.where(rows[..., None] >= 0, values[rows], kind(np.nan))
    return result


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
    if isinstance(stored, np.ndarray):
        return stored
    with whole(stored, "run track again", "array of states"):
        return np.load(stored, mmap_mode=mode, allow_pickle=False)


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


def first_candidates(table: pd.DataFrame, n_questions: int) -> tuple[Ints, Floats]:
    """The candidates for the first answer token: tokens and log-probabilities, [n_questions, m].

    Raises CorruptInputError, NumericError.
    """
    first = table[table["position"] == 0]
    question, count = first["question"].to_numpy(), len(first) // max(n_questions, 1)
    if not np.array_equal(question, np.arange(n_questions).repeat(count)):
        raise CorruptInputError(
            "candidates.parquet does not have position 0 of every question; run track again"
        )
    tokens = first["token"].to_numpy(dtype=np.int64).reshape(n_questions, count)
    logprobs = first["logprob"].to_numpy(dtype=np.float64).reshape(n_questions, count)
    finite = np.isfinite(logprobs).all(axis=1)
    if not finite.all():
        raise NumericError(
            f"candidates.parquet: logprob of question {np.argmin(finite)} is not finite; run track again"
        )
    return tokens, logprobs


@dataclass(frozen=True)
class Data:
    """n questions, in the order of generations.jsonl or a part of it."""

    asked: list[AnsweredQuestion]
    layers: list[int]
    tables: dict[str, FeatureTable]  # signal → features; the ladder's as "rung/<name>"
    states: PlacedStates
    latents: csr_matrix  # [n, n_layers · d_hidden]
    tokens: Ints  # [n, m] candidates for the first answer token
    logprobs: Floats  # [n, m]

    def __len__(self) -> int:
        return len(self.asked)

    def of(self, rows: Ints | Sequence[int]) -> "Data":
        """The same of some questions."""
        rows = np.asarray(rows, dtype=np.int64)
        return Data(
            [self.asked[row] for row in rows],
            self.layers,
            {name: FeatureTable(table.values[rows], table.names) for name, table in self.tables.items()},
            self.states.of(rows),
            self.latents[rows],
            self.tokens[rows],
            self.logprobs[rows],
        )
