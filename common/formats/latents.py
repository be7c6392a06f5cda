"""What every latent is about: `latents.parquet`, where in held-out text it is active, the association model fitted there, and clusters."""

from ghosttrack.common.formats.file import LATENT, LAYER, Column, File, Json, Table

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
LATENT_CONTEXTS = Table(
    "excerpts.parquet",
    "track",
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
ASSOCIATION = File("association.pt", "track", "the fitted association model (`stages/track/association.py`)")
ASSOCIATION_FIGURES = Json("association.json", "track", "its figures by layer", version=1, indent=2)
CLUSTERS = Json(
    "semantic_clusters.json",
    "track",
    "clusters of latents by decoder direction and promoted tokens: `id, weight, centroid, members` ([layer, latent]), `tokens, "
    "contexts`",
    version=2,
    indent=None,
)
PICKLED_CLUSTERS = File("semantic_clusters.pkl", "track", "the same as plain builtins and numpy arrays")
