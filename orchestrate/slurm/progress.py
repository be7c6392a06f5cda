"""Where submitted jobs stand: what the scheduler says, what the jobs' scripts wrote at their end, what the store holds.

Works without accounting (sacct): what the scheduler has forgotten is judged by the other two.
"""

import contextlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from ghosttrack.common.config.cluster import seconds_of
from ghosttrack.orchestrate.logbook import text_of
from ghosttrack.orchestrate.slurm.scheduler import QueuedJob, seconds_of_limit
from ghosttrack.orchestrate.slurm.script import TERMINATED
from ghosttrack.orchestrate.status import LinkStatus, Trouble
from ghosttrack.orchestrate.submission import JobRecord, Submission, TaskRecord, now, read_ending

TAIL = 8
"""Lines of a failed job's log that are shown."""
RERUN = "then `ghosttrack rerun {config}`"
MENDS = {
    "OUT_OF_MEMORY": "it asked for {memory}: raise resources.{stage}.memory in the cluster profile, or lower the batch "
    f"size; {RERUN}",
    "TIMEOUT": "it had {time}; finished steps are kept: `ghosttrack rerun {config}` goes on from there, with more "
    "resources.{stage}.time if one step does not fit",
    "NODE_FAIL": "its node failed, which is nobody's fault: `ghosttrack rerun {config}`",
    "BOOT_FAIL": "its node did not come up: `ghosttrack rerun {config}`",
    "PREEMPTED": "another job took its place: `ghosttrack rerun {config}` goes on from the finished steps",
    "CANCELLED": "it was cancelled: `ghosttrack rerun {config}` goes on from what is finished",
    "DEADLINE": f"the scheduler found no time for it before its deadline; {RERUN}",
    "DependencyNeverSatisfied": "it waits for a job that failed: repair that one, " + RERUN,
    "held": "it was requeued and held after trouble on its node: `scontrol release {job}`, or `ghosttrack cancel {config}`",
    "vanished": f"the scheduler has forgotten it and it left no note, so it was killed or lost; {RERUN}",
    "FAILED": f"what its log says has to be mended; {RERUN}",
}
"""What a state means and what can be done."""
CAUSES = {137: "OUT_OF_MEMORY", 75: "TIMEOUT", 143: "CANCELLED"}
"""Exit codes of a script that say more than FAILED: its stage was killed, which nobody but the kernel does; it was asked
to stop once too often; the scheduler ended it."""


def link_statuses(
    submission: Submission, known: Mapping[str, QueuedJob], stale: Iterable[str], folder: Path, config: str
) -> list[LinkStatus]:
    """One for each submitted job or array, in order.

    known: from `scheduler.queue`. stale: `stage/unit` of what the plan would run. folder: the run's. config: as the
    user calls it.
    """
    stale = set(stale)
    return [_link_status(job, submission, known, stale, folder, config) for job in submission.jobs]


def _link_status(
    job: JobRecord,
    submission: Submission,
    known: Mapping[str, QueuedJob],
    stale: set[str],
    folder: Path,
    config: str,
) -> LinkStatus:
    states = {task.index: _state(job, task, known, stale, folder) for task in job.tasks}
    if submission.cancelled:
        states = {index: "CANCELLED" if state == "vanished" else state for index, state in states.items()}
    counts = {
        kind: sum(1 for state in states.values() if state == kind) for kind in ("done", "running", "waiting")
    }
    troubles = [
        _trouble(job, task, states[task.index], folder, submission.name, config)
        for task in job.tasks
        if states[task.index] in MENDS
    ]
    seconds = _seconds(job, known, folder)
    unfinished = counts["running"] + counts["waiting"]
    return LinkStatus(
        link=job.link,
        job=job.job_id,
        tasks=len(job.tasks),
        **counts,
        failed=len(troubles),
        seconds=seconds,
        left=max(job.predicted_seconds - seconds, 0.0) if unfinished else 0.0,
        reason=next(
            (
                queued.reason
                for queued in (known.get(job.name_of(task)) for task in job.tasks)
                if queued and queued.state == "PENDING" and queued.reason != "None"
            ),
            "",
        ),
        troubles=troubles,
    )


def _state(
    job: JobRecord, task: TaskRecord, known: Mapping[str, QueuedJob], stale: set[str], folder: Path
) -> str:
    """done, running, waiting, or a key of MENDS."""
    queued = known.get(job.name_of(task))
    if queued and queued.stuck:
        return "DependencyNeverSatisfied"
    if queued and queued.active:
        if "held" in queued.reason.lower() or "hold" in f"{queued.state} {queued.reason}".lower():
            return "held"
        return "waiting" if queued.state in ("PENDING", "REQUEUED") else "running"
    if not stale.intersection(task.units):
        return "done"
    ending = read_ending(folder, job.name_of(task))
    if queued and queued.state not in ("COMPLETED", "FAILED"):
        return queued.state if queued.state in MENDS else "FAILED"
    if ending is None:
        return "vanished" if queued is None else "FAILED" if queued.state == "FAILED" else "done"
    if not ending.exit_code:
        return "done"  # what is stale by now was not when it ended
    if ending.exit_code == TERMINATED and ending.seconds > 0.95 * seconds_of(job.resources.time):
        return "TIMEOUT"
    return CAUSES.get(ending.exit_code, "FAILED")


def _trouble(job: JobRecord, task: TaskRecord, cause: str, folder: Path, name: str, config: str) -> Trouble:
    number = job.job_id if task.index is None else f"{job.job_id}_{task.index}"
    log = folder / "logs" / f"{name}.{job.link}-{number}.out"
    stage = task.units[0].split("/")[0]
    mend = MENDS[cause].format(
        memory=job.resources.memory,
        time=job.resources.time,
        stage=stage,
        config=config,
        job=job.name_of(task),
    )
    return Trouble(job.name_of(task), task.units, cause, mend, log, _tail(log))


def _tail(log: Path) -> list[str]:
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = [line.rstrip() for line in text_of(log).splitlines()]
    return [line for line in lines if line][-TAIL:]


def _seconds(job: JobRecord, known: Mapping[str, QueuedJob], folder: Path) -> float:
    looked, starts, ends = now(), [], []
    for task in job.tasks:
        queued, ending = known.get(job.name_of(task)), read_ending(folder, job.name_of(task))
        if queued and queued.active:
            if elapsed := seconds_of_limit(queued.elapsed):
                starts.append(looked - timedelta(seconds=elapsed))
                ends.append(looked)
        elif ending:
            starts.append(ending.started_on)
            ends.append(ending.ended_on)
    return (max(ends) - min(starts)).total_seconds() if starts else 0.0
