"""`reasons.jsonl`: where each wrong answer came from, in figures and in a sentence made of them."""

from ghosttrack.common.formats.file import Lines

KINDS = {
    "recall_override": "A right answer led in two layers running or more, and lost.",
    "prior_default": "Attention to the worked examples gives the answer more than that to the subject and the question does.",
    "unknown_subject": "No right answer is among the model's candidates where the answer parts from it.",
    "other": "A right answer was a candidate but never led.",
}
REASONS = Lines(
    "reasons.jsonl",
    "track/reasons",
    "a line a wrong answer, of the token at which it parts from every right answer (`position`, as in the other tables; `after`: what "
    "was said before it) against the right candidate, or the strongest rival where there is none: "
    "`question, id, emitted, against, right` (whether that one is right), `kind`, `written` (by source and MLP, as far as that can be told, logits at the "
    "last layer's scale, which with `constant` add up to `difference`), `from_layer, to_layer` (the shortest run of layers that "
    "writes half of what layers write for it), `led` (layers at which the other was ahead), `overtaken` (layer, and what wrote most there, null where that cannot be told), "
    "`smallest_set` (`size`, what the model `says` first without so many of the strongest tracks, whether a right answer begins so, and "
    "`control_says`, null where the control changes nothing; null where not measured or never changed), `sentence`",
)
