"""One number for a (question, position): a cell, by which rows of tables are sorted and looked up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.maths.arrays import Ints

POSITIONS_A_QUESTION = 1 << 16
"""Positions are stored as int16."""


def cell_of(question: NDArray[Any] | int, position: NDArray[Any] | int) -> Any:
    """int64 [n], ascending with the question and, within it, with the position (−1, 0, 1, …)."""
    if isinstance(question, np.ndarray):
        question = question.astype(np.int64)
    return question * POSITIONS_A_QUESTION + position + 1


def position_of(cell: Ints) -> Ints:
    """The position of a cell, [n]."""
    return cell % POSITIONS_A_QUESTION - 1


def cells_of(question: int) -> tuple[int, int]:
    """Half-open range of the cells of a question."""
    return question * POSITIONS_A_QUESTION, (question + 1) * POSITIONS_A_QUESTION
