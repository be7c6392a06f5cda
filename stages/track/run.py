"""Phase 3: the model's answers, the association model, the tracks, and whether they can be believed."""

from typing import Any

from ghosttrack.common.engine.stage import Job
from ghosttrack.stages.track import (
    run_account,
    run_answers,
    run_association,
    run_causes,
    run_contexts,
    run_reasons,
    run_shown,
    run_tracks,
    run_validation,
)

UNITS = {
    "answers": run_answers.run,
    "contexts": run_contexts.run,
    "association": run_association.run,
    "all": run_tracks.run,
    "account": run_account.run,
    "shown": run_shown.run,
    "reasons": run_reasons.run,
    "causes": run_causes.run,
    "asked_answers": run_answers.run,
    "asked_contexts": run_contexts.run,
    "asked": run_tracks.run,
    "asked_account": run_account.run,
    "independent": run_tracks.run_independent,
    "validation": run_validation.run,
}
BY_ONE = {"association", "shown", "reasons", "validation"}
"""Units that one process does, however many there are."""


def run(job: Job) -> dict[str, Any]:
    """Do one unit; returns its metrics."""
    return {} if job.rank and job.unit in BY_ONE else UNITS[job.unit](job)
