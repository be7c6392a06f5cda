"""`detection_metrics.json`: what was scored, by which methods, on which splits."""

from typing import Literal

from pydantic import BaseModel

from ghosttrack.common.formats.file import Json


class Choice(BaseModel):
    """What one training side chose."""

    split: str
    repeat: int
    fold: int
    chosen: str
    threshold: float


class Method(BaseModel):
    name: str
    title: str | None = None
    kind: Literal["baseline", "detector", "rung", "early", "control"]
    description: str
    signals: list[str] = []
    rung: str | None = None
    layer: int | None = None
    before_answer: bool = False
    folds: list[Choice] = []


class SplitSizes(BaseModel):
    name: str
    repeat: int
    folds: list[tuple[int, int]]
    """Questions of the training and of the test side."""


class Permutations(BaseModel):
    observed: float
    auroc: list[float]
    p_value: float | None = None


class Metrics(BaseModel):
    n_questions: int
    n_labelled: int
    n_wrong: int
    n_right: int
    prevalence: float | None
    n_groups: int
    largest_group: int
    n_relations: int
    excluded: dict[str, int]
    undefined: str | None = None
    """Why there is nothing to tell apart; then there are no methods and splits."""
    detector: str
    associator: str | None
    methods: list[Method]
    splits: list[SplitSizes] = []
    permutation: Permutations | None
    frozen_test_openings: int | None = None
    familiarity: dict[str, float] = {}
    error_types: dict[str, str]
    absent: list[str]


METRICS = Json(
    "detection_metrics.json",
    "detect/all",
    "sample counts, `excluded` by reason; `detector` (the main one), `associator`; `methods`: `name, title, kind` (`baseline, "
    "detector, rung, early`), `description, signals, rung, layer, before_answer`, and what each training side chose (`folds`); "
    "`splits` (sizes); `permutation`: `observed, auroc` (of every refit), `p_value`; `frozen_test` (sha256 of its ids), "
    "`frozen_test_openings` (how many different runs under this root have scored it); `transfers`: `split, from` (the "
    "configuration whose detector scored these questions); "
    "`familiarity`: share of questions called unfamiliar, of the frozen `test` (false alarms) and of `relations` held out; "
    "`error_types`; `absent` (what the protocol has and the run has not, in words); `undefined` (why nothing could be told apart, with no methods "
    "and splits then; else null)",
    version=3,
    record=Metrics,
)
