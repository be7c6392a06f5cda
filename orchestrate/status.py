"""Where a run stands: what is done, what is stale or failed, who is working on what."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.plan import Plan, PlannedUnit
from ghosttrack.orchestrate.slurm.progress import LinkStatus
from ghosttrack.orchestrate.slurm.submission import Submission


@dataclass(frozen=True)
class StageStatus:
    stage: str
    units: int
    done: int
    stale: int
    """Units to run that have not failed."""
    failed: int
    running: str
    """Who is writing which unit now, or what was left half done."""
    last_finished: datetime | None
    elapsed: float
    """Seconds of work behind the published results."""
    size: int
    failures: list[str]


@dataclass(frozen=True)
class Overview:
    """All that `ghosttrack status` shows."""

    name: str
    plan: Plan
    stages: list[StageStatus]
    submission: Submission | None
    links: list[LinkStatus]
    active: bool
    """Whether a submitted job runs or still may, as far as one can know."""
    trouble: str
    """Why the scheduler's word is missing."""

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.name,
            "stages": self.stages,
            "jobs": self.links,
            "active": self.active,
            "trouble": self.trouble or None,
        }


def stage_statuses(store: Store, plan: Plan) -> list[StageStatus]:
    return [_stage_status(store, stage, plan.of_stage(stage)) for stage in plan.stages]


def _stage_status(store: Store, stage: str, units: list[PlannedUnit]) -> StageStatus:
    entries = [planned.entry for planned in units if planned.entry]
    stale = [planned for planned in units if planned.reason]
    failures = {planned.unit.name: text for planned in stale if (text := _failure(store, planned))}
    return StageStatus(
        stage=stage,
        units=len(units),
        done=len(units) - len(stale),
        stale=len(stale) - len(failures),
        failed=len(failures),
        running=", ".join(_activity(store, stale)),
        last_finished=max((entry.finished for entry in entries), default=None),
        elapsed=sum(entry.elapsed for entry in entries),
        size=sum(entry.size for entry in entries if not entry.released),
        failures=[f"{name}: {text}" for name, text in failures.items()],
    )


def _failure(store: Store, planned: PlannedUnit) -> str | None:
    """The last attempt's error, if it is younger than the published result."""
    attempts = store.failures(planned.unit)
    if not attempts:
        return None
    last = attempts[-1]
    if planned.entry and last.get("finishedOn", "") <= f"{planned.entry.finished:%Y-%m-%dT%H:%M:%SZ}":
        return None
    return f"{last.get('error', 'failed')} ({last.get('finishedOn', 'unknown time')})"


def _activity(store: Store, stale: Iterable[PlannedUnit]) -> Iterable[str]:
    for planned in stale:
        if holder := store.claim_holder(planned.unit):
            yield f"{planned.unit.name} by process {holder.pid} on {holder.host}"
        elif steps := store.finished_steps(planned.unit):
            yield f"{planned.unit.name} stopped after {steps} steps"
