"""`positions.parquet`: whose row of the answers' states each is."""

from ghosttrack.common.formats.file import POSITION, QUESTION, Table

POSITIONS = Table(
    "positions.parquet",
    "track/answers",
    "a row a row of states.npy, sorted by both; −1 is absent where the subject is not found in the prompt, and is read "
    "against the first answer token",
    (QUESTION, POSITION),
)
