"""`candidates.parquet`: the tokens that compete to be emitted."""

from collections.abc import Sequence

from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.file import POSITION, QUESTION, Column, Table


def rank_of(candidate: int | str, texts: Sequence[str]) -> int:
    """Of a candidate that is named by its rank or its text, with the space before it or without. texts: of all, by rank. Raises DataError."""
    for rank, text in enumerate(texts):
        if candidate in (rank, text, text.strip()):
            return rank
    raise DataError(f"{candidate!r} is no candidate; they are {', '.join(map(repr, texts))}")


CANDIDATES = Table(
    "candidates.parquet",
    "track/answers",
    "a row a (question, position ≥ 0, rank): the model's `tracking.candidates` likeliest next tokens, the emitted one first",
    (
        QUESTION,
        POSITION,
        Column("rank", "int16", "0 the emitted token"),
        Column("token", "int32"),
        Column("logprob", "float32", "nats"),
    ),
)
