"""`hallucination_scores.json`: every question with its score out of fold, the decision and the reasons for it."""

from typing import Literal

from pydantic import BaseModel

from ghosttrack.common.formats.file import Json

Label = Literal[0, 1] | None
"""1 wrong, 0 right; None: left out."""


class Leader(BaseModel):
    candidate: str
    rank: int
    first_layer: int
    last_layer: int


class Competition(BaseModel):
    leaders: list[Leader]
    winner: str | None
    won_at: int | None


class ScoredQuestion(BaseModel):
    """A question with its score out of fold; without one where it was left out, or is in no published split."""

    id: str
    relation: str
    group: str
    question: str
    answer: str
    gold: str
    label: Label
    strict_label: Label
    excluded: str | None
    matched: dict[str, int | None] = {}
    error_type: str | None
    error_type_by_tracks: str | None = None
    competition: Competition | None = None
    split: str | None = None
    fold: int | None = None
    score: float | None
    threshold: float | None = None
    predicted: Label = None
    interval: tuple[float, float] | None = None
    contributions: dict[str, float] | None = None
    """Column → log-odds."""


class ScoredQuestions(BaseModel):
    detector: str
    questions: list[ScoredQuestion]
    other_questions: list[ScoredQuestion] = []


SCORES = Json(
    "hallucination_scores.json",
    "detect/all",
    "`detector`; `questions`: id, texts, `label, strict_label, excluded, matched, group, error_type` (of a wrong answer, by its account: `reasons.jsonl`), `error_type_by_tracks` (by the leaders of its tracks alone); out of fold: `split, fold, score` "
    "(calibrated), `threshold, predicted, interval`; `contributions` (column → log-odds; with `rest` and `intercept` they add "
    "up to `additive_log_odds`), `nearest_right` (id), `competition`: `leaders` in turn (`candidate, rank, first_layer, "
    "last_layer`), `winner` (text), `won_at` (layer); `other_questions` of split `transfer`",
    version=3,
    record=ScoredQuestions,
)
