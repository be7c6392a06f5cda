"""`candidates.parquet`: the tokens that compete to be emitted."""

from ghosttrack.common.formats.file import POSITION, QUESTION, Column, Table

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
