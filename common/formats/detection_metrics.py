"""`detection_metrics.json`: what was scored, by which methods, on which splits."""

from pydantic import BaseModel, Field, computed_field

from ghosttrack.common.formats.file import Json
from ghosttrack.common.formats.final_report import MethodCard


class Choice(BaseModel):
    """What one training side chose."""

    split: str
    repeat: int
    fold: int
    chosen: str
    threshold: float


class Method(MethodCard):
    folds: list[Choice] = Field([])


class SplitSizes(BaseModel):
    name: str
    repeat: int
    folds: list[tuple[int, int]]
    """Questions of the training and of the test side."""


class Permutations(BaseModel):
    """AUROC with the labels as they are, and of every refit on shuffled ones."""

    observed: float
    auroc: list[float]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p_value(self) -> float:
        return (1 + sum(value >= self.observed for value in self.auroc)) / (len(self.auroc) + 1)


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
