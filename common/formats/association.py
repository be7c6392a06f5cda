"""The association model of the tracker, and its figures."""

from ghosttrack.common.formats.file import File, Json

ASSOCIATION = File(
    "association.pt", "track/association", "the fitted association model (`stages/track/association.py`)"
)
ASSOCIATION_FIGURES = Json(
    "association.json", "track/association", "its figures by layer", version=1, indent=2
)
