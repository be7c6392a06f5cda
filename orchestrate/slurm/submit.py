"""Submits a chain in one go: a script and an sbatch call for each link, nothing that stays alive."""

import math
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ghosttrack.common.config.cluster import ClusterProfile, Resources
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import BusyError, ConfigError, SchedulerError
from ghosttrack.orchestrate.chain import Link, chain_of
from ghosttrack.orchestrate.container import Images, container_command
from ghosttrack.orchestrate.local import code_variables
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.slurm.progress import link_statuses
from ghosttrack.orchestrate.slurm.scheduler import NoAnswerError
from ghosttrack.orchestrate.slurm.script import (
    MEDIC,
    Setting,
    job_name,
    most_of,
    render,
    render_medic,
    render_whole,
    resources_of,
)
from ghosttrack.orchestrate.status import Allowed, JobsStatus
from ghosttrack.orchestrate.submission import (
    JobRecord,
    Submission,
    TaskRecord,
    nothing_submitted,
    now,
    read_submission,
    write_submission,
)


@dataclass(frozen=True)
class Treatment:
    """What a retry by cause does otherwise than the submission before it."""

    attempt: int = 0
    """Retries so far, this one included."""
    resources: Mapping[str, Resources] = field(default_factory=dict)
    """Link to what its jobs ask for instead of what the profile says."""
    excluded: Sequence[str] = ()
    """Nodes that failed."""


class SlurmExecutor:
    """Hands the whole chain to SLURM and returns."""

    def __init__(
        self, terminal: Terminal, images: Images = MappingProxyType({}), treatment: Treatment | None = None
    ) -> None:
        """images: where stages run in containers. treatment: of a retry by cause."""
        self._terminal, self._images = terminal, images
        self._treatment = treatment or Treatment()

    def submit(self, request: Request, plan: Plan) -> None:
        """Raises BusyError while jobs of an earlier submission may still run, SchedulerError when SLURM refuses."""
        folder = request.folder.resolve()
        before = read_submission(folder)
        if before:
            _refuse_when_active(request, before, self._terminal.line)
        chain = chain_of(plan)
        setting = _without(setting_of(request, self._images), self._treatment.excluded)
        scripts = write_scripts(setting, chain, self._treatment.resources)
        submission = Submission(
            name=request.config.name, token=uuid.uuid4().hex[:12],
            container="apptainer" if self._images else "none",
            cluster=request.cluster, overrides=request.overrides,
            images={stage: image.sha256 for stage, image in self._images.items()},
            attempt=self._treatment.attempt, earlier=[*before.earlier, *before.jobs] if before else [],
        )  # fmt: skip
        try:
            self._submit(setting, chain, scripts, submission)
            if self._treatment.attempt < request.profile.slurm.retry.attempts:
                submit_medic(request, setting, submission, self._treatment.excluded, self._terminal)
        except NoAnswerError as error:
            raise NoAnswerError(
                f"{error}. {len(submission.jobs)} of {len(chain)} jobs are submitted and recorded; they go on, and the "
                f"rest can be submitted when they are through. `ghosttrack cancel {request.name}` takes them back"
            ) from error
        except SchedulerError as error:
            if not submission.jobs:
                raise
            scheduler.cancel(submission.job_ids, self._terminal.line)
            raise SchedulerError(
                f"{error}. The {len(submission.jobs)} jobs before it are cancelled"
            ) from error
        except KeyboardInterrupt:
            self._terminal.line(
                f"interrupted: {len(submission.jobs)} of {len(chain)} jobs are submitted and recorded; "
                f"`ghosttrack cancel {request.name}` takes them back"
            )
            raise

    def status(self, request: Request, plan: Plan) -> JobsStatus:
        """With one call to the scheduler, if anything was submitted."""
        submission = read_submission(request.folder)
        if submission is None:
            return JobsStatus()
        try:
            known = scheduler.queue(submission.job_ids)
        except SchedulerError as error:
            return JobsStatus(True, [], True, str(error))
        active = any(job.active for job in known.values()) and not scheduler.are_blocked(known.values())
        stale = [planned.unit.label for planned in plan.stale]
        return JobsStatus(True, link_statuses(submission, known, stale, request.folder, request.name), active)

    def cancel(self, request: Request, blocked: bool = False) -> int:
        submission = read_submission(request.folder)
        if submission is None:
            raise nothing_submitted(request.name, request.folder)
        known = scheduler.queue(submission.job_ids, self._terminal.line).values()
        left = [job for job in known if job.active]
        if blocked and not scheduler.are_blocked(known):
            return 0
        with scheduler.uninterrupted():
            scheduler.cancel({job.job_id for job in left}, self._terminal.line)
            if left and not blocked:
                write_submission(request.folder, submission.model_copy(update={"cancelled": True}))
        return len(left)

    def limits(self, profile: ClusterProfile, resources: Resources) -> Allowed:
        if not scheduler.available():
            raise SchedulerError(
                "there is no sbatch on this machine; run on a login node, or with --executor local"
            )
        said = scheduler.test(profile.slurm, resources)
        return Allowed(said, scheduler.limits(resources.partition or profile.slurm.partition).seconds)

    def render(self, request: Request, plan: Plan) -> list[Path]:
        chain, setting = chain_of(plan), setting_of(request, self._images)
        whole = request.folder / "jobs" / f"{request.config.name.replace('-', '_')}_full_pipeline.sbatch"
        container = "apptainer" if self._images else "none"
        command = request.own_command("run", "--executor", "local", "--container", container)
        write_whole(setting, command, chain, whole)
        return [*(script for script, _ in write_scripts(setting, chain).values()), whole]

    def _submit(
        self,
        setting: Setting,
        chain: list[Link],
        scripts: Mapping[str, tuple[Path, Resources]],
        submission: Submission,
    ) -> None:
        ids: dict[str, str] = {}
        for link in chain:
            script, resources = scripts[link.name]
            dependency = ",".join(f"{kind}:{ids[name]}" for name, kind in link.after.items()) or None
            with scheduler.uninterrupted():
                ids[link.name] = scheduler.submit(
                    script,
                    job_name(setting, link),
                    f"{submission.token}/{link.name}",
                    dependency,
                    self._terminal.line,
                )
                submission.jobs.append(
                    JobRecord(
                        link=link.name, job_id=ids[link.name], dependency=dependency, script=script,
                        tasks=[TaskRecord(index=t.index, units=[p.unit.label for p in t.units]) for t in link.tasks],
                        resources=resources, submitted_on=now(),
                        predicted_seconds=max(task.seconds for task in link.tasks)
                        * math.ceil(len(link.tasks) / (link.throttle or len(link.tasks))),
                    )
                )  # fmt: skip
                submission.complete = len(submission.jobs) == len(chain)
                write_submission(setting.folder, submission)
            waits = f", after {dependency}" if dependency else ""
            self._terminal.line(f"job {ids[link.name]}: {link.name}, {_count(link)}{waits}")


def submit_medic(
    request: Request,
    setting: Setting,
    submission: Submission,
    excluded: Sequence[str],
    terminal: Terminal,
    after: Sequence[str] | None = None,
) -> None:
    """Submit the job that retries by cause, where the profile asks for it, and record it.

    It starts when a job has failed, or when all is done and it has nothing to do; or after the jobs `after`.
    """
    if not request.profile.slurm.retry.enabled:
        return
    command = request.module_command(
        "ghosttrack.orchestrate.slurm.retry", "--stages", str(request.stages_folder.resolve())
    )
    for node in excluded:
        command += ["--exclude", node]
    path = setting.folder / "jobs" / f"{MEDIC}.sbatch"
    _write(path, render_medic(setting, command))
    ids = [job.job_id for job in submission.jobs]
    dependency = (
        f"afterany:{':'.join(after)}"
        if after
        else "?".join([f"afterok:{ids[-1]}", *(f"afternotok:{job}" for job in ids)])
    )
    with scheduler.uninterrupted():
        submission.medic = scheduler.submit(
            path,
            f"{setting.name}.{MEDIC}",
            f"{submission.token}/{MEDIC}-{uuid.uuid4().hex[:6]}",
            dependency,
            terminal.line,
        )
        write_submission(setting.folder, submission)
    terminal.line(f"job {submission.medic}: looks after the others when one fails")


def _without(setting: Setting, nodes: Sequence[str]) -> Setting:
    if not nodes:
        return setting
    slurm = setting.profile.slurm
    before = [option.partition("=")[2] for option in slurm.options if option.startswith("--exclude=")]
    others = [option for option in slurm.options if not option.startswith("--exclude=")]
    options = [*others, f"--exclude={','.join([*before, *nodes])}"]  # sbatch takes the last one only
    profile = setting.profile.model_copy(update={"slurm": slurm.model_copy(update={"options": options})})
    return replace(setting, profile=profile)


def setting_of(request: Request, images: Images) -> Setting:
    """What the scripts of a run have in common."""
    return Setting(
        name=request.config.name,
        folder=request.folder.resolve(),
        working_folder=Path.cwd(),
        profile=request.profile,
        commands={
            contract.stage: container_command(images[contract.stage], request)
            if contract.stage in images
            else request.stage_command(contract.stage)
            for contract in request.contracts
        },
        release_command=request.own_command("gc", "--yes"),
        shares_work={contract.stage: contract.ranks != "none" for contract in request.contracts},
        images={stage: (image.path, image.sha256) for stage, image in images.items()},
        environment=code_variables(request),
    )  # fmt: skip


def write_scripts(
    setting: Setting, chain: list[Link], instead: Mapping[str, Resources] = MappingProxyType({})
) -> dict[str, tuple[Path, Resources]]:
    """Write every link's script to `runs/<name>/jobs/`; link to script and what it asks for.

    instead: link to what its jobs ask for, where that is not what the profile says.
    """
    scripts = {}
    for link in chain:
        resources = instead.get(link.name) or resources_of(setting.profile, link)
        path = setting.folder / "jobs" / f"{link.name}.sbatch"
        with storage_errors(path):  # slurmd opens the log before the script runs
            (setting.folder / "logs").mkdir(parents=True, exist_ok=True)
        _write(path, render(setting, link, resources))
        scripts[link.name] = path, resources
    return scripts


def write_whole(setting: Setting, command: list[str], chain: list[Link], path: Path) -> None:
    """Write the script that runs everything in one job."""
    asked = [resources_of(setting.profile, link) for link in chain]
    if not asked:
        raise ConfigError(f"{setting.name}: nothing is stale, so there is nothing to submit")
    _write(path, render_whole(setting, command, most_of(asked).model_copy(update={"nodes": 1})))


def _write(script: Path, text: str) -> None:
    with storage_errors(script):
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)


def _refuse_when_active(request: Request, submission: Submission, tell: scheduler.Tell) -> None:
    own = os.environ.get("SLURM_JOB_ID")  # of the job that retries
    known = scheduler.queue(submission.job_ids, tell).values()
    active = [job.name for job in known if job.active and job.job_id != own]
    if active:
        raise BusyError(
            f"{request.config.name}: {len(active)} jobs of it are in the queue or run ({active[0]}); follow them with "
            f"`ghosttrack watch {request.name}`, or `ghosttrack cancel {request.name}` first. Where they only wait "
            f"for one that failed, `ghosttrack rerun {request.name}` does both"
        )


def _count(link: Link) -> str:
    units = sum(len(task.units) for task in link.tasks)
    several = f"{len(link.tasks)} tasks, " if link.is_array else ""
    return f"{several}{units} unit{'s' if units > 1 else ''}"
