"""Submits a chain in one go: a script and an sbatch call for each link, nothing that stays alive."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from common.cluster import Resources
from common.errors import BusyError, SchedulerError, StorageError
from common.storage import storage_errors
from orchestrate.chain import Link, chain_of
from orchestrate.container import Images
from orchestrate.local import code_variables
from orchestrate.plan import Plan
from orchestrate.render import Terminal
from orchestrate.request import Request
from orchestrate.slurm import scheduler
from orchestrate.slurm.script import Setting, job_name, render, render_whole, resources_of
from orchestrate.slurm.submission import (
    JobRecord,
    Submission,
    TaskRecord,
    now,
    read_submission,
    write_submission,
)

Adjust = Callable[[str, Resources], Resources]
"""A link's name and what its jobs ask for, to what they shall ask for."""


class SlurmExecutor:
    """Hands the whole chain to SLURM and returns."""

    def __init__(
        self, terminal: Terminal, images: Images | None = None, adjust: Adjust | None = None, attempt: int = 0
    ) -> None:
        """images: where stages run in containers. adjust, attempt: of a retry by cause."""
        self._terminal, self._images = terminal, images
        self._adjust = adjust or (lambda link, resources: resources)
        self._attempt = attempt

    def execute(self, request: Request, plan: Plan) -> None:
        """Raises BusyError while jobs of an earlier submission may still run, SchedulerError when SLURM refuses."""
        folder = request.folder.resolve()
        before = read_submission(folder)
        if before:
            _refuse_when_active(request, before)
        chain = chain_of(plan)
        setting = setting_of(request, self._images)
        scripts = write_scripts(setting, chain, self._adjust)
        submission = Submission(
            name=request.config.name, token=uuid.uuid4().hex[:12],
            container="apptainer" if self._images else "none",
            images=self._images.digests if self._images else {},
            attempt=self._attempt, earlier=[*before.earlier, *before.jobs] if before else [],
        )  # fmt: skip
        try:
            self._submit(setting, chain, scripts, submission)
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
                        predicted_seconds=max(task.seconds for task in link.tasks),
                    )
                )  # fmt: skip
                submission.complete = len(submission.jobs) == len(chain)
                write_submission(setting.folder, submission)
            waits = f", after {dependency}" if dependency else ""
            self._terminal.line(f"job {ids[link.name]}: {link.name}, {_count(link)}{waits}")


def setting_of(request: Request, images: Images | None) -> Setting:
    """What the scripts of a run have in common."""
    release = request.own_command("gc", "--yes")
    return Setting(
        name=request.config.name,
        folder=request.folder.resolve(),
        working_folder=Path.cwd(),
        profile=request.profile,
        commands={
            contract.stage: images.command(request, contract.stage, ())
            if images and contract.stage in images.by_stage
            else request.stage_command(contract.stage)
            for contract in request.contracts
        },
        release_command=release,
        shares_work={contract.stage: contract.ranks != "none" for contract in request.contracts},
        contained=images is not None,
        environment=code_variables(request),
    )  # fmt: skip


def write_scripts(
    setting: Setting, chain: list[Link], adjust: Adjust = lambda link, resources: resources
) -> dict[str, tuple[Path, Resources]]:
    """Write every link's script to `runs/<name>/jobs/`; link to script and what it asks for."""
    scripts = {}
    for link in chain:
        resources = adjust(link.name, resources_of(setting.profile, link))
        path = setting.folder / "jobs" / f"{link.name}.sbatch"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            (setting.folder / "logs").mkdir(exist_ok=True)  # slurmd opens the log before the script runs
            path.write_text(render(setting, link, resources), encoding="utf-8")
            path.chmod(0o755)
        scripts[link.name] = path, resources
    return scripts


def write_whole(setting: Setting, command: list[str], chain: list[Link], path: Path) -> None:
    """Write the script that runs everything in one job."""
    asked = [resources_of(setting.profile, link) for link in chain]
    if not asked:
        raise StorageError(f"{setting.name}: nothing is stale, so there is nothing to submit")
    largest = max(asked, key=lambda resources: (resources.gpus, resources.cpus))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            render_whole(setting, command, largest.model_copy(update={"nodes": 1})), encoding="utf-8"
        )
        path.chmod(0o755)


def _refuse_when_active(request: Request, submission: Submission) -> None:
    active = [job.name for job in scheduler.queue(submission.job_ids).values() if job.active]
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
