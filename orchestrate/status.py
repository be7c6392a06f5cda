"""Where a run stands: what is in its way, what is done, what is stale or failed, who is working on what."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.plan import Plan, PlannedUnit
from ghosttrack.orchestrate.submission import now


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


Level = Literal["ok", "warning", "trouble"]


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at before a run, and what was seen."""

    level: Level
    what: str
    seen: str
    mend: str = ""


class Allowed(NamedTuple):
    """What a job may ask for."""

    said: str
    """What would be done with it."""
    seconds: int | None
    """The longest that it may run; None without a limit."""


@dataclass(frozen=True)
class Trouble:
    """A task that failed or will never start."""

    job: str
    units: list[str]
    cause: str
    mend: str
    log: Path
    tail: list[str]
    """The last lines of its log."""


@dataclass(frozen=True)
class LinkStatus:
    """Where the job, or the job array, of a link of the chain stands."""

    link: str
    job: str
    tasks: int
    done: int
    running: int
    waiting: int
    failed: int
    seconds: float
    """From the start of its first task until now, or to the end of its last."""
    left: float
    """Seconds that it is expected to need yet."""
    reason: str
    """Why it waits."""
    troubles: list[Trouble]


@dataclass(frozen=True)
class JobsStatus:
    """Where what was submitted stands."""

    submitted: bool = False
    links: list[LinkStatus] = field(default_factory=list)
    active: bool = False
    """Whether a job runs or still may, as far as one can know."""
    trouble: str = ""
    """Why the scheduler's word is missing."""

    @property
    def expected_end(self) -> datetime:
        """When the chain will be through if all goes as predicted; its links run one after another."""
        return now() + timedelta(seconds=sum(link.left for link in self.links))

    @property
    def troubles(self) -> list[Trouble]:
        return [trouble for link in self.links for trouble in link.troubles]


@dataclass(frozen=True)
class Overview:
    """All that `ghosttrack status` shows."""

    name: str
    plan: Plan
    stages: list[StageStatus]
    jobs: JobsStatus

    def to_json(self) -> dict[str, Any]:
        jobs = {"jobs": self.jobs.links, "active": self.jobs.active, "trouble": self.jobs.trouble or None}
        return {"config": self.name, "stages": self.stages, **jobs}


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
    if planned.entry and str(last.get("finishedOn", "")) <= f"{planned.entry.finished:%Y-%m-%dT%H:%M:%SZ}":
        return None
    return f"{last.get('error', 'failed')} ({last.get('finishedOn', 'unknown time')})"


def _activity(store: Store, stale: Iterable[PlannedUnit]) -> Iterable[str]:
    for planned in stale:
        if holder := store.claim_holder(planned.unit):
            yield f"{planned.unit.name} by process {holder.pid} on {holder.host}"
        elif steps := store.finished_steps(planned.unit):
            yield f"{planned.unit.name} stopped after {steps} steps"
