"""The association model of the tracker."""

from ghosttrack.common.formats.file import File

ASSOCIATION = File(
    "association.pt", "track/association", "the fitted association model (`stages/track/association.py`)"
)
