"""`tracks.parquet` and its twin of the SAEs that were trained apart: every node of every track."""

from pathlib import Path

from ghosttrack.common.formats.file import LATENT, LAYER, POSITION, QUESTION, Column, Table

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
    "track/all",
    "a row a node (active latent that is tracked), sorted by question, position, layer, falling activation",
    _COLUMNS,
)
INDEPENDENT = Table(
    "tracks_independent.parquet",
    "track/independent",
    "the same of the SAEs that were trained apart, where there are any",
    _COLUMNS,
)


def first_row(path: Path, question: int) -> int:
    """Row of tracks.parquet at which a question's nodes begin."""
    return int(TRACKS.read(path, ["question"])["question"].searchsorted(question))
