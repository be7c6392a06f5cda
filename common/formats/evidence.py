"""`contexts.parquet`: how likely the model finds every candidate answer in every context.

Context 0 is the prompt that was answered. A hypothesis is a candidate answer: 0 is the model's own, the others are its greedy
answers in the other contexts, one hypothesis for all spellings of an answer.
"""

from ghosttrack.common.formats.file import QUESTION, Column, Table

EVIDENCE = Table(
    "contexts.parquet",
    "track/contexts",
    "a row a (question, context, hypothesis), sorted by them",
    (
        QUESTION,
        Column("context", "int16", "0 the prompt that was answered, others as in contexts.jsonl"),
        Column("hypothesis", "int16", "0 the model's own answer"),
        Column("text", "string", "the answer as it was first met"),
        Column("evidence", "float32", "log-probability of its tokens, nats"),
        Column("total", "float32", "log-probability of the answer with its end, over its spellings, nats"),
        Column("n_tokens", "int16"),
        Column("shows", "bool", "whether the worked examples hold the answer"),
        Column("greedy", "bool", "whether the model gives it in this context"),
    ),
)
