"""`hallucination_scores.json`: every question with its score out of fold, the decision and the reasons for it."""

from ghosttrack.common.formats.file import Json

SCORES = Json(
    "hallucination_scores.json",
    "detect",
    "`detector`; `questions`: id, texts, `label, strict_label, excluded, matched, group, error_type` (of a wrong answer, by its account: `reasons.jsonl`), `error_type_by_tracks` (by the leaders of its tracks alone); out of fold: `split, fold, score` "
    "(calibrated), `threshold, predicted, interval`; `contributions` (column → log-odds; with `rest` and `intercept` they add "
    "up to `additive_log_odds`), `nearest_right` (id), `competition`: `leaders` in turn (`candidate, rank, first_layer, "
    "last_layer`), `winner` (text), `won_at` (layer); `other_questions` of split `transfer`",
    version=3,
)
