"""What an executor is: the way in which a plan's stages get run."""

from typing import Protocol

from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.request import Request


class Executor(Protocol):
    """Runs stages on this machine, or hands them to a scheduler."""

    def execute(self, request: Request, plan: Plan) -> None:
        """Bring every stale unit of the plan up to date, or submit it.

        Raises StageFailedError, with the stage's exit code, when a stage fails.
        """
