"""`scores.parquet`: every method's score of every question on every split; and the names of the splits."""

import re
from typing import NamedTuple

from ghosttrack.common.formats.file import QUESTION, Column, Table


class SplitText(NamedTuple):
    title: str
    description: str


SPLITS = {
    "grouped": SplitText("Grouped cross-validation", "All questions on a subject, and their paraphrases, in one fold."),
    "test": SplitText("Frozen test", "Held back from every choice and scored once, at the end."),
    "relations": SplitText("Relations held out", "No question of a scored relation was trained on."),
    "answers": SplitText("Answers held out", "No answer that the model gave to a scored question was given to one in training; nor is its group there."),
    "transfer": SplitText("Other data set", "Trained on one data set, scored on another, nothing fitted again."),
}  # fmt: skip
"""The ways to hold questions back, in the order of the report."""
MAIN_SPLIT = "grouped"
TRANSFER = "transfer"
"""With several other data sets: `transfer`, `transfer_2`, `transfer_3`, … in the order of detection.transfer."""


def transfer_name(number: int) -> str:
    """Of the so-many-th other detector, from 0."""
    return TRANSFER if number == 0 else f"{TRANSFER}_{number + 1}"


def is_split(name: str) -> bool:
    return name in SPLITS or re.fullmatch(rf"{TRANSFER}_[1-9][0-9]*", name) is not None


def split_text(name: str, origin: str | None = None) -> SplitText:
    """What a split is called, and what it is. origin: the configuration whose detector was taken, of a transfer."""
    text = SPLITS[name.partition("_")[0]]
    return text if origin is None else text._replace(title=f"{text.title}: detector of {origin}")


SCORE_TABLE = Table(
    "scores.parquet",
    "detect/all",
    "a row a (split, repeat, method, question), sorted so",
    (
        QUESTION,
        Column("split", "string", ", ".join(f"`{name}`" for name in SPLITS) + ", `transfer_2`, …"),
        Column("repeat", "int8"),
        Column("method", "string"),
        Column("fold", "int16"),
        Column("score", "float64", "higher: more likely wrong"),
        Column("probability", "float64", "calibrated on inner folds"),
        Column("predicted", "int8", "1 called wrong, by a threshold from inner folds"),
        Column(
            "raw_probability",
            "float64",
            "before calibration; the share of training answers scored lower where a score has no scale",
        ),
    ),
)
