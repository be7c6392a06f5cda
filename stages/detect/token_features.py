"""What is known of every token of a long answer when it has been written: nothing of later tokens is in it.

A row a labelled token. Token t is written from position t − 1 and read at position t; both are known once it stands there.
Right answers are not in here, but for the labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.cells import cell_of
from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.detect.evidence import States
from ghosttrack.stages.detect.features.lens import COLUMNS as LENS_COLUMNS

LAYER_COLUMNS = (
    "n_active", "births", "deaths", "association_entropy", "error", "margin", "competition_entropy",
)  # fmt: skip


class Tokens(NamedTuple):
    """n labelled tokens, in order of question and token.

    question, token: [n], token from 1. label: [n] 1 in a wrong span. relation: [n] number of its claim's (0 where there are
    none). logprob, entropy: [n]. tables: signal to columns [n, d].
    states: [n, n_layers, d_model] at the token.
    """

    question: Ints
    token: Ints
    label: Ints
    relation: Ints
    logprob: Floats
    entropy: Floats
    tables: dict[str, Singles]
    states: States


def read_tokens(
    answers: Sequence[Answer], positions: tuple[Ints, Ints], states: Path, lens: pd.DataFrame, layers: pd.DataFrame,
    depth: int,
) -> Tokens:  # fmt: skip
    """Of answers with labelled spans. positions: question and position of the rows of `states`; depth: layers a position."""
    owner = [
        (line, place, label)
        for line, answer in enumerate(answers)
        for place, label in enumerate(answer.token_labels, start=1)
        if label is not None
    ]
    question, token, label = np.array(owner, dtype=np.int64).reshape(-1, 3).T
    logprob = np.array([answers[q].logprobs[t - 1] for q, t in zip(question, token, strict=True)])
    entropy = np.array([answers[q].entropies[t - 1] for q, t in zip(question, token, strict=True)])
    rows = np.searchsorted(cell_of(*positions), cell_of(question, token))
    with whole(states, "run track again", "array of states"):
        loaded = np.load(states, mmap_mode="r", allow_pickle=False)
    so_far = _so_far(answers, question, token)
    return Tokens(
        question, token, label, _relations(answers, question, token), logprob, entropy,
        {
            "token": np.column_stack([logprob, entropy, np.log(token), so_far]).astype(np.float32),
            "lens": _of_layers(lens, LENS_COLUMNS, depth, question, token - 1),
            "tracks": _of_layers(layers, LAYER_COLUMNS, depth, question, token),
        },
        loaded[rows],
    )  # fmt: skip


def _relations(answers: Sequence[Answer], question: Ints, token: Ints) -> Ints:
    names = [
        answers[q].token_relations[t - 1] or "" if answers[q].token_relations else ""
        for q, t in zip(question, token, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _so_far(answers: Sequence[Answer], question: Ints, token: Ints) -> Floats:
    """Mean and least log-probability of the answer's tokens up to each, [n, 2]."""
    found = np.empty((len(question), 2))
    for number in np.unique(question):
        values = np.array(answers[number].logprobs)
        mean = np.cumsum(values) / np.arange(1, len(values) + 1)
        both = np.column_stack([mean, np.minimum.accumulate(values)])
        own = slice(*np.searchsorted(question, [number, number + 1]))
        found[own] = both[token[own] - 1]
    return found


def _of_layers(
    table: pd.DataFrame, columns: Sequence[str], depth: int, question: Ints, position: Ints
) -> Singles:
    """Columns at all layers of a position side by side, [n, depth · n_columns]; ranks and errors by their logarithm."""
    values = table[list(columns)].to_numpy(dtype=np.float32).reshape(-1, depth, len(columns))
    for number, name in enumerate(columns):
        if name in ("rank", "error"):
            values[:, :, number] = np.log1p(np.maximum(values[:, :, number], 0))
    there = table[["question", "position"]].to_numpy(dtype=np.int64)[::depth]
    rows = np.searchsorted(cell_of(*there.T), cell_of(question, position))
    return values[rows].reshape(len(question), -1)
