"""`layers.parquet`: what happens at a layer as a whole."""

from ghosttrack.common.formats.file import LAYER, POSITION, QUESTION, Column, Table

LAYERS = Table(
    "layers.parquet",
    "track/all",
    "a row a (question, position, layer)",
    (
        QUESTION,
        POSITION,
        LAYER,
        Column("n_active", "int32", "active latents"),
        Column("births", "int32"),
        Column("deaths", "int32"),
        Column("association_entropy", "float32", "nats"),
        Column("discarded_mass", "float32", "of hypotheses"),
        Column("error", "float32", "‖x − SAE(x)‖² over that with no latent active"),
        Column("margin", "float32", "candidates' summed direct effects: emitted less best rival"),
        Column("competition_entropy", "float32", "of the same, nats"),
        Column("leader", "int16", "rank of the leading candidate"),
    ),
)
