"""`excerpts.parquet`: where in held-out text a latent is most active."""

from ghosttrack.common.formats.file import LATENT, LAYER, Column, Table

LATENT_CONTEXTS = Table(
    "excerpts.parquet",
    "track",
    "a row a (latent, rank): where in held-out text it is most active",
    (
        LAYER,
        LATENT,
        Column("rank", "int16", "0 the strongest"),
        Column("activation", "float32"),
        Column("before", "string", "text before the token"),
        Column("token", "string"),
        Column("after", "string", "text after it"),
    ),
)
