"""Where each wrong answer came from, in figures and in a sentence made of them; and what the model says when tracks are taken out of it,
measured."""

from ghosttrack.common.formats.file import POSITION, QUESTION, Column, Lines, Table

KINDS = {
    "recall_override": "A right answer led in two layers running or more, and lost.",
    "prior_default": "Attention to the worked examples gives the answer more than that to the subject and the question does.",
    "unknown_subject": "No right answer is among the model's candidates for the first token.",
    "other": "A right answer was a candidate but never led.",
}
REASONS = Lines(
    "reasons.jsonl",
    "track",
    "a line a wrong answer, of its first token against the right candidate, or the strongest rival where there is none: "
    "`question, id, emitted, against, right` (whether that one is right), `kind`, `written` (by source and MLP, as far as that can be told, logits at the "
    "last layer's scale, which with `constant` add up to `difference`), `from_layer, to_layer` (the shortest run of layers that "
    "writes half of it), `led` (layers at which the other was ahead), `overtaken` (layer, and what wrote most there, null where that cannot be told), "
    "`smallest_set` (tracks, and what the model says without them; null where not measured or never changed), `sentence`",
)
CAUSES = Table(
    "causes.parquet",
    "track",
    "a row an intervention: tracks at the subject and at the last prompt token taken out over their lives, the SAE's error "
    "kept; by question, kind, and falling effect or rising size",
    (
        QUESTION,
        Column(
            "kind",
            "string",
            "track (one, over its life) or set (a question's tracks of largest predicted effect together)",
        ),
        Column("size", "int16", "tracks that are taken out"),
        POSITION,
        Column("track", "int16", "number within question and position; of a set the first one's"),
        Column("predicted", "float32", "drop of logit(emitted) − logit(strongest rival), to first order"),
        Column("direct", "float32", "the same by what the account says of the last layer"),
        Column("drop", "float32", "measured"),
        Column(
            "control_drop", "float32", "with other latents of like activation at the same places taken out"
        ),
        Column("token", "int32", "what the model then says first"),
        Column("control_token", "int32"),
        Column("changed", "bool", "whether that is another token"),
        Column("control_changed", "bool"),
        Column("right", "bool", "whether a right answer begins with it"),
        Column("was_right", "bool", "whether one begins with the emitted token"),
    ),
)
