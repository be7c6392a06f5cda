"""`tracks.parquet` and its twin of the SAEs that were trained apart: every node of every track; what happens at a layer as a whole; and
all active latents."""

from ghosttrack.common.formats.file import LATENT, LAYER, POSITION, QUESTION, Column, File, Table

_COLUMNS = (
    QUESTION,
    POSITION,
    LAYER,
    LATENT,
    Column("activation", "float32"),
    Column("track", "int16", "number within question and position, by `tracking.associator`"),
    Column("link", "float32", "decoder cosine to the track's previous node, NaN at birth"),
    Column("posterior", "float32", "probability of that link, or of the birth"),
    Column("existence", "float32", "probability that the node is of a track"),
    Column("effect", "float32", "direct, on logit(emitted token) − logit(strongest rival)"),
)
TRACKS = Table(
    "tracks.parquet",
    "track",
    "a row a node (active latent that is tracked), sorted by question, position, layer, falling activation",
    _COLUMNS,
)
INDEPENDENT = Table(
    "tracks_independent.parquet",
    "track",
    "the same of the SAEs that were trained apart, where there are any",
    _COLUMNS,
)
LAYERS = Table(
    "layers.parquet",
    "track",
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
ACTIVATIONS = File(
    "feature_activations.pt",
    "track",
    "the active latents as a sparse matrix: `torch.sparse_csr_tensor(crow, latent, activation, shape)`, a row a (question, "
    "position, layer) in the order of `question, position` × `layers`",
)
