"""`excerpts.parquet`: where in held-out text a latent is active, and on which tokens around."""

from ghosttrack.common.formats.file import LATENT, LAYER, Column, Table

LATENT_CONTEXTS = Table(
    "excerpts.parquet",
    "track/association",
    "a row a (latent, rank): where in held-out text it is active, ten places the strongest, ten at all strengths",
    (
        LAYER,
        LATENT,
        Column("rank", "int16", "0 the strongest"),
        Column("quantile", "float32", "share of its active tokens that are at most as active"),
        Column("activation", "float32"),
        Column("before", "string", "text before the token"),
        Column("token", "string"),
        Column("after", "string", "text after it"),
        Column("lengths", "list<item: int16>", "characters of each token of before, token and after"),
        Column("heat", "list<item: halffloat>", "its activation on each of them"),
    ),
)
