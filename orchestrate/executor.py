"""What an executor can be asked, and which one a name means: the one place from which `slurm/` is imported."""

from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from ghosttrack.common.config.cluster import ClusterProfile, Resources
from ghosttrack.orchestrate.container import Images
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.slurm import scheduler
from ghosttrack.orchestrate.slurm.submit import SlurmExecutor
from ghosttrack.orchestrate.status import Allowed, JobsStatus
from ghosttrack.orchestrate.submission import read_submission

ExecutorName = Literal["local", "slurm"]


class Executor(Protocol):
    """Runs stages on this machine, or hands them to a scheduler."""

    def submit(self, request: Request, plan: Plan) -> None:
        """Bring every stale unit of the plan up to date, or hand that over and return.

        Raises StageFailedError, with the stage's exit code, when a stage fails; BusyError while an earlier submission may
        still run, SchedulerError where it is not taken.
        """

    def status(self, request: Request, plan: Plan) -> JobsStatus:
        """Where the jobs stand that were submitted; nothing where there are none."""

    def cancel(self, request: Request, blocked: bool = False) -> int:
        """Take back what was submitted and is not over; the number of jobs. blocked: only where nothing runs any more and what is
        left waits for what failed, to submit it again. Raises MissingInputError where nothing was submitted."""

    def limits(self, profile: ClusterProfile, resources: Resources) -> Allowed:
        """Whether a job that asks for this would be taken. Raises SchedulerError with the mend where it would not."""

    def render(self, request: Request, plan: Plan) -> list[Path]:
        """Write the scripts that would be submitted; last the one that runs everything in one job."""


def default_executor(profile: ClusterProfile) -> ExecutorName:
    return profile.executor or ("slurm" if scheduler.available() else "local")


def executor_named(name: ExecutorName, terminal: Terminal, images: Images = MappingProxyType({})) -> Executor:
    """The executor of a name. images: where stages run in containers."""
    return SlurmExecutor(terminal, images) if name == "slurm" else LocalExecutor(terminal, images)


def executor_behind(request: Request, terminal: Terminal) -> Executor:
    """The one that what was last submitted of a configuration went to."""
    return executor_named("slurm" if read_submission(request.folder) else "local", terminal)
