"""The fitted detector, and what is made of it beside the scores: decisions, features, scores of new questions."""

from ghosttrack.common.formats.file import File, Json, Lines

DETECTOR = Json(
    "detector.json",
    "detect/all",
    "the detector fitted on all rows but the frozen test's; `stages/detect/detector.py` loads, scores and explains; no pickle; "
    "refuses another model or other SAEs",
    indent=None,
)
DETECTOR_ARRAYS = File("detector.npz", "detect/all", "its arrays")
DECISIONS = File("classifications.csv", "detect/all", "decisions as a table")
FEATURES = File(
    "features.parquet", "detect/all", "every feature of the detector, a row a question, with its `id`"
)
ASKED_SCORES = Lines(
    "scores.jsonl",
    "detect/asked",
    "a line a new question: `id, relation, question, answer, scored, excluded` (why there is no score: `empty`, `refusal`, `no_features`), `score, threshold, verdict` (`wrong`, `right`, or "
    "`unfamiliar`: unlike all that the detector was fitted on), `predicted, familiarity` (a p-value), `unfamiliar, baseline` "
    "(probability by that of the answer alone), `form, other_form` (of the prompt), `token_risks, interval, "
    "contributions, rest, intercept, additive_log_odds, nearest_right, competition, gold, label`",
)
