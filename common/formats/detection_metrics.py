"""`detection_metrics.json`: what was scored, by which methods, on which splits."""

from ghosttrack.common.formats.file import Json

METRICS = Json(
    "detection_metrics.json",
    "detect",
    "sample counts, `excluded` by reason; `detector` (the main one), `associator`; `methods`: `name, title, kind` (`baseline, "
    "detector, rung, early`), `description, signals, rung, layer, before_answer`, and what each training side chose (`folds`); "
    "`splits` (sizes); `permutation`: `observed, auroc` (of every refit), `p_value`; `frozen_test` (sha256 of its ids), "
    "`frozen_test_openings` (how many different runs under this root have scored it); `transfers`: `split, from` (the "
    "configuration whose detector scored these questions); "
    "`familiarity`: share of questions called unfamiliar, of the frozen `test` (false alarms) and of `relations` held out; "
    "`error_types`; `absent` (what the protocol has and the run has not, in words)",
    version=3,
)
