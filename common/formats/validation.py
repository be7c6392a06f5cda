"""The tracker put to the test: figures, words, a picture."""

from ghosttrack.common.formats.file import File, Json

VALIDATION = Json(
    "validation.json",
    "track/validation",
    "planted scenes, held-out likelihood, life against permuted decoders, causal links, posteriors of links against planted truth and interventions, measured drops on predicted ones by kind and depth, wrong answers that change by size of set: figures, each passed, failed or not "
    "told in words, and how many of each (`passed, failed, not_told`)",
    version=2,
    indent=2,
)
VALIDATION_WORDS = File("validation.md", "track/validation", "the same in words")
VALIDATION_PICTURE = File("validation.png", "track/validation", "the same in pictures")
