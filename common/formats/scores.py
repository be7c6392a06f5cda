"""`scores.parquet`: every method's score of every question on every split; and the names of the splits."""

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

SCORE_TABLE = Table(
    "scores.parquet",
    "detect",
    "a row a (split, repeat, method, question), sorted so",
    (
        QUESTION,
        Column("split", "string", ", ".join(f"`{name}`" for name in SPLITS)),
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
