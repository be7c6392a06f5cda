"""`causes.parquet`: what the model says when tracks are taken out of it, measured."""

from ghosttrack.common.formats.file import POSITION, QUESTION, Column, Table

KINDS = ("track", "set")
"""One track over its life; a question's tracks of largest predicted effect together."""
CAUSES = Table(
    "causes.parquet",
    "track/causes",
    "a row an intervention: tracks at the subject and at the last prompt token taken out over their lives, the SAE's error "
    "kept; by question, kind, and falling effect or rising size",
    (
        QUESTION,
        Column("kind", "string", " or ".join(KINDS)),
        Column("size", "int16", "tracks that are taken out"),
        POSITION,
        Column("track", "int16", "number within question and position; of a set the first one's"),
        Column("margin", "float32", "logit(emitted) − logit(strongest rival) with everything in place"),
        Column("predicted", "float32", "drop of logit(emitted) − logit(strongest rival), to first order"),
        Column("drop", "float32", "measured"),
        Column(
            "control_drop",
            "float32",
            "with as much of other latents of like activation at the same places taken out",
        ),
        Column("token", "int32", "what the model then says first"),
        Column("control_token", "int32"),
        Column("changed", "bool", "whether that is another token"),
        Column("control_changed", "bool"),
        Column("right", "bool", "whether a right answer begins with it"),
        Column("was_right", "bool", "whether one begins with the emitted token"),
    ),
)
