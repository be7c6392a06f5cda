"""The local executor: stale stages one after another, each a process of its own."""

import os
import shlex
import signal
import time
from datetime import datetime, timezone
from pathlib import Path

import common
from common.errors import StageFailedError
from common.progress import format_seconds
from common.storage import storage_errors
from orchestrate.child import run_child
from orchestrate.plan import Plan, PlannedUnit
from orchestrate.render import Terminal
from orchestrate.request import Request


class LocalExecutor:
    """Runs each stage when its turn comes, if by then any of its units still is stale.

    A unit that the plan expected to run because of a change upstream is looked at again: when the
    upstream result came out the same, the unit is up to date and what follows it too.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def execute(self, request: Request, plan: Plan) -> None:
        expected = [stage for stage in plan.stages if plan.stale_of(stage)]
        for number, stage in enumerate(expected, start=1):
            stale = request.plan().stale_of(stage) if number > 1 else plan.stale_of(stage)
            title = f"[{number}/{len(expected)}] {stage}"
            if not stale:
                self._terminal.heading(f"{title}: up to date after all, its inputs came out the same")
                continue
            self._terminal.heading(f"{title}: {_describe(stale)}")
            self._run_stage(request, stage, stale)

    def _run_stage(self, request: Request, stage: str, stale: list[PlannedUnit]) -> None:
        chosen = [planned.unit.name for planned in stale]
        everything = len(chosen) == len(request.plan().of_stage(stage))
        command = request.stage_command(stage, () if everything else chosen)
        log_file = request.logs / f"{stage}.log"
        start = time.monotonic()
        with storage_errors(log_file):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log = log_file.open("a", encoding="utf-8")
        with log:
            log.write(f"===== {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {shlex.join(command)}\n")
            code = run_child(command, _environment(request), log)
            elapsed = format_seconds(time.monotonic() - start)
            log.write(f"===== {_ending(code)} after {elapsed}\n")
        if code:
            raise StageFailedError(
                f"{stage} {_ending(code)} after {elapsed}; its output is above and in {log_file}. "
                f"{_mend(code)}, then give the same command again: finished work is kept",
                code if code > 0 else 128 - code,
            )
        if left := request.plan().stale_of(stage):
            raise StageFailedError(
                f"{stage} ended without an error, but {left[0].unit.label} still must run "
                f"({left[0].reason}); its output is above and in {log_file}. Does another run change its inputs?",
                1,
            )


def _describe(stale: list[PlannedUnit]) -> str:
    reasons = list(dict.fromkeys(str(planned.reason) for planned in stale))
    more = f" and {len(reasons) - 1} more reasons" if len(reasons) > 1 else ""
    units = f"{len(stale)} units, " if len(stale) > 1 else ""
    return f"{units}{reasons[0]}{more}"


def _environment(request: Request) -> dict[str, str]:
    """Ours, with the code found first, whatever folder this is run from."""
    folders = [request.stages_folder.parent, Path(common.__file__).parent.parent]
    path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def _mend(code: int) -> str:
    if code == -signal.SIGKILL:
        return "If nobody killed it, the machine ran out of memory: make EXTRACT_BATCH_SIZE or TRAIN_BATCH_SIZE smaller"
    return "Mend what it names"
