"""`lens.parquet`: what the logit lens reads at each layer."""

from ghosttrack.common.formats.file import LAYER, POSITION, QUESTION, Column, Table

LENS = Table(
    "lens.parquet",
    "track/answers",
    "a row a (question, position, layer), of the logit lens",
    (
        QUESTION,
        POSITION,
        LAYER,
        Column("logprob", "float32", "of the token that the model emits next, nats"),
        Column("rival_logprob", "float32", "of the strongest other candidate, nats"),
        Column("entropy", "float32", "nats"),
        Column("top", "int32", "likeliest token"),
        Column("rank", "int32", "of the emitted token"),
    ),
)
