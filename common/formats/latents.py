"""`latents.parquet`: what every latent is about."""

from ghosttrack.common.formats.file import LATENT, LAYER, Column, Table

LATENTS = Table(
    "latents.parquet",
    "track/association",
    "a row a latent",
    (
        LAYER,
        LATENT,
        Column("firing_rate", "float32", "share of the held-out tokens"),
        Column("mean_activation", "float32", "where it is active"),
        Column("promoted", "list<item: string>", "tokens whose logits it raises most"),
        Column("suppressed", "list<item: string>", "tokens whose logits it lowers most"),
        Column("promoted_by", "list<item: float>", "by how much, in logits times the final norm's scale"),
        Column("suppressed_by", "list<item: float>", "the same"),
        Column("label", "string", "tokens that say when it is active; null where none do"),
        Column(
            "label_score",
            "float32",
            "F1 of the label as a prediction of activity, in text that it was not made from; NaN without a candidate",
        ),
        Column("max_activation", "float32"),
        Column(
            "histogram", "list<item: int32>", "its activations in bins of equal width from 0 to the largest"
        ),
    ),
)
