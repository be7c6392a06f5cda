"""The local executor: stale stages one after another, each a process of its own."""

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType

import ghosttrack
from ghosttrack.common.config.cluster import ClusterProfile, Resources
from ghosttrack.common.engine.contract import STAGES_FOLDER
from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import StageFailedError
from ghosttrack.common.files import append_to
from ghosttrack.orchestrate.chain import Link, chain_of
from ghosttrack.orchestrate.child import ending, run_child
from ghosttrack.orchestrate.container import Images, container_command
from ghosttrack.orchestrate.forkserver import ForkServer, pays
from ghosttrack.orchestrate.gc import release
from ghosttrack.orchestrate.plan import Plan, PlannedUnit
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.status import Allowed, JobsStatus
from ghosttrack.orchestrate.submission import nothing_submitted


@dataclass
class Step:
    """Units that one process of a stage runs, and what may be released after it."""

    stage: str
    units: list[str]
    release: list[str] = field(default_factory=list)


class LocalExecutor:
    """Runs each stage when its turn comes, if by then any of its units still is stale.

    A unit that the plan expected to run because of a change upstream is looked at again: when the
    upstream result came out the same, the unit is up to date and what follows it too.
    """

    def __init__(self, terminal: Terminal, images: Images = MappingProxyType({})) -> None:
        """images: where stages run in containers."""
        self._terminal, self._images = terminal, images
        self._server: ForkServer | None = None

    def submit(self, request: Request, plan: Plan) -> None:
        steps = steps_of(chain_of(plan))
        with self.forking(request, [step.stage for step in steps]):
            self._execute(request, plan, steps)

    @contextlib.contextmanager
    def forking(self, request: Request, stages: Iterable[str]) -> Iterator[None]:
        """Within the context, stages are forks of one process, where that pays for those that will run."""
        needy = [stage for stage in stages if request.contract_of(stage).torch]
        if self._images or not pays(len(needy)):
            yield
            return
        with contextlib.closing(ForkServer({**os.environ, **code_variables(request)})) as self._server:
            yield
        self._server = None

    def status(self, request: Request, plan: Plan) -> JobsStatus:
        return JobsStatus()

    def cancel(self, request: Request, blocked: bool = False) -> int:
        raise nothing_submitted(request.name, request.folder)

    def limits(self, profile: ClusterProfile, resources: Resources) -> Allowed:
        return Allowed("nobody is asked on this machine", None)

    def render(self, request: Request, plan: Plan) -> list[Path]:
        return []

    def _execute(self, request: Request, plan: Plan, steps: Sequence[Step]) -> None:
        now = plan
        for number, step in enumerate(steps, start=1):
            stale = [planned for planned in now.stale_of(step.stage) if planned.unit.name in step.units]
            title = f"[{number}/{len(steps)}] {step.stage}"
            if stale:
                self._terminal.heading(f"{title}: {_describe(stale)}")
                everything = len(stale) == len(now.of_stage(step.stage))
                # one that is up to date but for its files has to be named to be run
                released = any(p.reason is not None and p.reason.kind == "released" for p in stale)
                named = [p.unit.name for p in stale] if released or not everything else []
                self.run_stage(request, step.stage, named)
                now = request.plan()
                self._check(request, now, step)
            else:
                self._terminal.heading(f"{title}: up to date after all, its inputs came out the same")
            if step.release:
                freed = release(request.store, now, step.release)
                self._terminal.line(
                    f"{', '.join(step.release)}: no longer needed, {format_bytes(freed)} freed"
                )
                now = request.plan()

    def run_stage(self, request: Request, stage: str, names: list[str]) -> None:
        """Run a stage's units in a process. names: of the units; empty for all that are not up to date."""
        command = (
            container_command(self._images[stage], request, names)
            if self._images
            else request.stage_command(stage, names)
        )
        log_file = request.logs / f"{stage}.log"
        start = time.monotonic()
        with storage_errors(log_file):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log = append_to(log_file)
        with log:
            log.write(f"===== {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {shlex.join(command)}\n")
            code = run_child(command, {**os.environ, **code_variables(request)}, log, self._server)
            elapsed = format_seconds(time.monotonic() - start)
            log.write(f"===== {ending(code)} after {elapsed}\n")
        if code:
            raise StageFailedError(
                f"{stage} {ending(code)} after {elapsed}; its output is above and in {log_file}. "
                f"{_mend(code)}, then give the same command again: finished work is kept",
                code if code > 0 else 128 - code,
            )

    @staticmethod
    def _check(request: Request, now: Plan, step: Step) -> None:
        left = [planned for planned in now.stale_of(step.stage) if planned.unit.name in step.units]
        if left:
            raise StageFailedError(
                f"{step.stage} ended without an error, but {left[0].unit.label} still must run "
                f"({left[0].reason}); its output is above and in {request.logs / step.stage}.log. "
                "Does another run change its inputs?",
                1,
            )


def steps_of(chain: Iterable[Link]) -> list[Step]:
    """The chain, one process after another. Neighbours of one stage share a process: to start one takes seconds."""
    steps: list[Step] = []
    for link in chain:
        for task in link.tasks:
            for stage, units in task.stages.items():
                if steps and steps[-1].stage == stage and not steps[-1].release:
                    steps[-1].units += units
                else:
                    steps.append(Step(stage, list(units)))
            steps[-1].release = [planned.unit.label for planned in task.release]
    return steps


def _describe(stale: list[PlannedUnit]) -> str:
    reasons = list(dict.fromkeys(str(planned.reason) for planned in stale))
    more = f" and {len(reasons) - 1} more reasons" if len(reasons) > 1 else ""
    units = f"{len(stale)} units, " if len(stale) > 1 else ""
    return f"{units}{reasons[0]}{more}"


def code_variables(request: Request) -> dict[str, str]:
    """Variables by which a process finds our code first, whatever folder it is run from."""
    folders = [Path(ghosttrack.__file__).parent.parent]
    if request.stages_folder != STAGES_FOLDER:
        folders.insert(0, request.stages_folder.parent)
    path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _mend(code: int) -> str:
    if code == -signal.SIGKILL:
        return "If nobody killed it, the machine ran out of memory: make EXTRACT_BATCH_SIZE or TRAIN_BATCH_SIZE smaller"
    return "Correct what it names"
