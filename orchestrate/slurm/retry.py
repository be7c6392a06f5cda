"""The medic: a small job that starts when another has failed, finds out why, and submits what is left.

More memory after OUT_OF_MEMORY; after TIMEOUT the same once more where finished steps are kept, else more time; without
the node that failed; as it was after a preemption. What a stage itself complained of is not retried. Off unless the
profile says `slurm.retry.enabled`.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ghosttrack.common.config.cluster import Resources, RetryConfig, bytes_of, seconds_of, time_of
from ghosttrack.common.engine.command import run_command
from ghosttrack.common.engine.contract import load_contracts
from ghosttrack.common.errors import StageFailedError
from ghosttrack.orchestrate.container import images_of
from ghosttrack.orchestrate.options import takes_config
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.slurm.progress import link_statuses
from ghosttrack.orchestrate.slurm.scheduler import Limits, QueuedJob
from ghosttrack.orchestrate.slurm.submit import SlurmExecutor, Treatment, setting_of, submit_medic
from ghosttrack.orchestrate.submission import Submission, read_submission

NODE_CAUSES = ("NODE_FAIL", "BOOT_FAIL")
FOLLOWERS = ("DependencyNeverSatisfied",)
"""Not causes: these wait for what failed."""
LOOKS, PAUSE = 12, 5.0
"""Looks at a queue whose state is not settled, and seconds between them."""


@dataclass(frozen=True)
class Failure:
    link: str
    cause: str
    """A key of `progress.MENDS`."""
    node: str = ""
    resumable: bool = False
    """Whether finished steps of its work are kept."""


def treatment(
    failures: Iterable[Failure],
    asked: Mapping[str, Resources],
    before: Treatment,
    retry: RetryConfig,
    limits: Callable[[Resources], Limits],
) -> Treatment | str:
    """What to do otherwise; or, in words, why another try is of no use.

    asked: link to what its jobs asked for. before: of the submission that failed. limits: of what a job asks for, the
    most that it may ask for.
    """
    resources, excluded, free = dict(asked), list(before.excluded), True
    for failure in dict.fromkeys(failures):
        old, limit = asked[failure.link], limits(asked[failure.link])
        new: Resources | str = old
        if failure.cause == "OUT_OF_MEMORY":
            new = _more_memory(old, retry.memory_factor, limit)
        elif failure.cause == "TIMEOUT" and not (failure.resumable and before.attempt == 0):
            new = _more_time(old, retry.time_factor, limit)
        elif failure.cause in NODE_CAUSES and failure.node and failure.node not in excluded:
            excluded.append(failure.node)
        elif failure.cause not in ("TIMEOUT", "PREEMPTED", "vanished", *NODE_CAUSES):
            return f"{failure.link} ended as {failure.cause}, which another try does not cure"
        if isinstance(new, str):
            return f"{failure.link}: {new}"
        resources[failure.link] = _larger(resources[failure.link], new)
        free = free and failure.cause == "PREEMPTED"
    attempt = before.attempt + (0 if free else 1)
    if attempt > retry.attempts:
        return f"{retry.attempts} retries did not help"
    return Treatment(attempt, resources, excluded)


def _more_memory(old: Resources, factor: float, limit: Limits) -> Resources | str:
    had = math.floor(bytes_of(old.memory) / 2**20)
    wanted = min(math.ceil(had * factor), limit.megabytes or math.inf)
    if wanted <= had:
        return f"{old.memory} of memory were too little, and no node of its partition has more"
    return old.model_copy(update={"memory": f"{wanted}M"})


def _more_time(old: Resources, factor: float, limit: Limits) -> Resources | str:
    had = seconds_of(old.time)
    wanted = min(math.ceil(had * factor), limit.seconds or math.inf)
    if wanted <= had:
        return f"{old.time} were too short, and its partition gives no more"
    return old.model_copy(update={"time": time_of(int(wanted))})


def _larger(one: Resources, other: Resources) -> Resources:
    """Of two that differ in memory and time only, the more of each: tasks of an array may have failed differently."""
    memory = max(one.memory, other.memory, key=bytes_of)
    return one.model_copy(update={"memory": memory, "time": max(one.time, other.time, key=seconds_of)})


def failures_of(
    request: Request, submission: Submission, known: Mapping[str, QueuedJob], plan: Plan
) -> list[Failure]:
    """What failed of itself, in the order of the chain."""
    store = request.store
    units = {planned.unit.label: planned.unit for planned in plan.units}
    statuses = link_statuses(
        submission, known, [p.unit.label for p in plan.stale], request.folder, request.name
    )
    return [
        Failure(
            status.link,
            trouble.cause,
            known[trouble.job].node if trouble.job in known else "",
            any(store.finished_steps(units[label]) for label in trouble.units if label in units),
        )
        for status in statuses
        for trouble in status.troubles
        if trouble.cause not in FOLLOWERS
    ]


def look_after(request: Request, excluded: Sequence[str], terminal: Terminal) -> None:
    """Retry what failed, or wait for what still runs. Raises StageFailedError where nothing can be done."""
    submission = read_submission(request.folder)
    if submission is None or submission.cancelled:
        terminal.line("nothing is submitted any more")
        return
    known = _settled([job.job_id for job in submission.jobs], terminal)
    if going := [job.name for job in known.values() if _goes_on(job)]:
        submit_medic(request, setting_of(request, {}), submission, excluded, terminal, after=going)
        return
    plan = request.plan()
    if not plan.stale:
        terminal.line("all is done")
        return
    failures = failures_of(request, submission, known, plan)
    if not failures:
        terminal.line(
            f"no job has failed, yet {len(plan.stale)} units must run: configuration or code have changed since. "
            f"`ghosttrack run {request.name}` submits them"
        )
        return
    before = Treatment(submission.attempt, {}, excluded)
    asked = {job.link: job.resources for job in submission.jobs}
    slurm = request.profile.slurm
    found = treatment(
        failures, asked, before, slurm.retry, lambda r: scheduler.limits(r.partition or slurm.partition)
    )
    if isinstance(found, str):
        raise StageFailedError(
            f"{request.config.name}: {found}; `ghosttrack status {request.name}` says more", 1
        )
    for failure in failures:
        terminal.line(f"{failure.link}: {failure.cause}; retry {found.attempt} of {slurm.retry.attempts}")
    scheduler.cancel({job.job_id for job in known.values() if job.active}, terminal.line)
    contained = submission.container == "apptainer"
    images = images_of(request.profile, plan.stale_stages if contained else ())
    SlurmExecutor(terminal, images, found).submit(request, plan)


def _goes_on(job: QueuedJob) -> bool:
    """Whether it runs, or waits for nothing but its turn."""
    return job.active and not (job.state == "PENDING" and job.reason.startswith("Dependency"))


def _settled(jobs: Sequence[str], terminal: Terminal) -> dict[str, QueuedJob]:
    """What is known of the jobs, once the scheduler has looked at what waits for those that ended."""
    for _ in range(LOOKS):
        known = scheduler.queue(jobs, terminal.line)
        waiting = [job for job in known.values() if job.active]
        if not waiting or any(_goes_on(job) or job.stuck for job in waiting):
            break
        time.sleep(PAUSE)
    return known


@click.command()
@takes_config
@click.option("--exclude", "excluded", multiple=True, help="A node that has failed.")
@click.option("--stages", type=click.Path(path_type=Path), help="Folder of the stages.")
def retry(request: Request, excluded: tuple[str, ...], stages: Path | None) -> None:
    """Submit again what has failed, with more of what it lacked."""
    if stages is not None:
        request = replace(request, contracts=load_contracts(stages), stages_folder=stages)
    look_after(request, excluded, Terminal())


if __name__ == "__main__":
    run_command(retry, "retry", "python -m ghosttrack.orchestrate.slurm.retry")
