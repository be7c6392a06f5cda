"""`latents.parquet`: what every latent is about."""

from ghosttrack.common.formats.file import LATENT, LAYER, Column, Table

LATENTS = Table(
    "latents.parquet",
    "track",
    "a row a latent",
    (
        LAYER,
        LATENT,
        Column("firing_rate", "float32", "share of the held-out tokens"),
        Column("mean_activation", "float32", "where it is active"),
        Column("promoted", "list<item: string>", "tokens whose logits it raises most"),
        Column("suppressed", "list<item: string>", "tokens whose logits it lowers most"),
    ),
)
