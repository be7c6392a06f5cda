"""`ladder.parquet`: tracks by every association of the ladder, to be compared; and the ladder's rungs."""

from collections.abc import Sequence
from typing import Literal, get_args

from ghosttrack.common.formats.file import Column, Table

Associator = Literal["none", "random", "feature_id", "nearest", "marginals", "hypotheses"]
ASSOCIATORS: tuple[Associator, ...] = get_args(Associator)
"""From the bottom of the ladder."""
RUNGS = {
    "none": "no association", "random": "random association", "feature_id": "association by latent number",
    "nearest": "nearest-neighbour association", "marginals": "association by marginal probabilities",
    "hypotheses": "multi-hypothesis association", "independent": "association of independently trained SAEs",
}  # fmt: skip
"""Name to title. The last is of other SAEs, whose tracks have a file of their own."""

LADDER = Table(
    "ladder.parquet",
    "track/all",
    "the rows of tracks.parquet; two columns a rung of `tracking.ladder`",
    (
        Column("<rung>_track", "int16", "as `track`, by that association"),
        Column("<rung>_link", "float16", "as `link`"),
    ),
)


def columns_of(rungs: Sequence[str]) -> list[str]:
    """Names of these rungs' columns, in the file's order."""
    return [column.name.replace("<rung>", rung) for rung in rungs for column in LADDER.columns]
