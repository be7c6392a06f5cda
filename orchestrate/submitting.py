"""Commands that bring a configuration up to date, here or through a scheduler, or take that back."""

from ghosttrack.common.engine.contract import expand, task_key
from ghosttrack.common.engine.staleness import input_digests, input_entries
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import CorruptInputError, DataError, MissingInputError, StorageError
from ghosttrack.common.formats.report import REPORT_PAGE
from ghosttrack.orchestrate.container import Images, images_of
from ghosttrack.orchestrate.doctor import columns, examine, raise_for, room
from ghosttrack.orchestrate.executor import ExecutorName, executor_behind, executor_named
from ghosttrack.orchestrate.options import (
    ghosttrack,
    takes_config,
    takes_executor,
    takes_strict_code,
    takes_submitted_config,
)
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.submission import read_submission


@ghosttrack.command()
@takes_config
@takes_strict_code
@takes_executor
def run(request: Request, executor: ExecutorName, contained: bool) -> None:
    """Bring everything up to date: run what is stale, and nothing else.

    A run that was stopped or killed goes on where it was when the command is given again. With SLURM, the whole
    chain is submitted in one go.
    """
    bring_up_to_date(request, executor, contained)


@ghosttrack.command()
@takes_config
@takes_executor
def render(request: Request, executor: ExecutorName, contained: bool) -> None:
    """Write the job scripts without submitting them: one a link of the chain, and one for the whole."""
    terminal, plan = Terminal(), request.plan()
    scripts = executor_named("slurm", terminal, _images(request, plan, contained)).render(request, plan)
    for script in scripts:
        terminal.line(str(script))
    terminal.line(
        f"`sbatch {scripts[-1]}` runs everything in one job; `ghosttrack run` submits the others as a chain"
    )


@ghosttrack.command()
@takes_config
@takes_executor
def doctor(request: Request, executor: ExecutorName, contained: bool) -> None:
    """Look for what would stand in the way of a run, and say what to do about it."""
    terminal, found = Terminal(), []
    for diagnosis in examine(request, executor, contained):
        found.append(diagnosis)
        terminal.diagnosis(diagnosis)
    raise_for(found)


@ghosttrack.command()
@takes_submitted_config
def cancel(request: Request) -> None:
    """Cancel what was submitted for CONFIG and is not over."""
    terminal = Terminal()
    left = executor_behind(request, terminal).cancel(request)
    terminal.line(
        f"{request.config.name}: {left} jobs cancelled; `ghosttrack run` goes on from what is finished"
        if left
        else f"{request.config.name}: no job of it is left in the queue"
    )


@ghosttrack.command()
@takes_submitted_config
@takes_executor
def rerun(request: Request, executor: ExecutorName, contained: bool) -> None:
    """Submit again what has failed and what waits for it, and nothing else.

    Options that are not given are as they were when it was last submitted.
    """
    terminal = Terminal()
    if read_submission(request.folder):
        terminal.line(f"again: {request.name}")
        executor_behind(request, terminal).cancel(request, blocked=True)
    bring_up_to_date(request, executor, contained)


def bring_up_to_date(request: Request, executor: ExecutorName, contained: bool) -> None:
    terminal, plan = Terminal(), request.plan()
    if taken := adopt(plan):
        terminal.line(
            f"{request.config.name}: {taken} of {len(plan.units)} units are taken from earlier runs"
        )
        plan = request.plan()
    if not plan.stale:
        terminal.line(f"{request.config.name}: nothing is stale, all {len(plan.units)} units are up to date")
        _show_results(terminal, request, plan)
        return
    terminal.plan(plan)
    if plan.refusal:
        raise StorageError(plan.refusal)
    for diagnosis in [*columns(request, plan), *room(request.config, request.profile)]:
        if diagnosis.level == "trouble":
            raise DataError(f"{diagnosis.seen}; {diagnosis.mend}")
        if diagnosis.level == "warning":
            terminal.diagnosis(diagnosis)
    executor_named(executor, terminal, _images(request, plan, contained)).submit(request, plan)
    if executor == "local":
        _show_results(terminal, request, plan)
    else:
        terminal.line(
            f"{request.config.name} is submitted; `ghosttrack watch {request.name}` follows it, "
            f"`ghosttrack cancel {request.name}` takes it back"
        )


def adopt(plan: Plan) -> int:
    """Point to the results that the plan says are kept, if they are whole; how many there were. Raises BusyError.

    What an earlier run has made, under this name or another, becomes the result of this one before anything is started: so a
    variant (`--set tracking.top_k_features=32 --name demo-32`) costs only what differs.
    """
    store, count = Store(plan.config.paths.root), 0
    for unit in (planned.unit for planned in plan.units if planned.kept):
        try:
            key = task_key(unit, input_digests(unit, input_entries(store, unit)))
        except (CorruptInputError, MissingInputError):
            continue  # one before it was not whole
        with store.claim(unit):
            if store.kept(unit, key):
                store.point(unit, key)
                count += 1
    return count


def _images(request: Request, plan: Plan, contained: bool) -> Images:
    return images_of(request.profile, plan.stale_stages if contained else ())


def _show_results(terminal: Terminal, request: Request, plan: Plan) -> None:
    """What to open next, where the run writes a report; else the folders that its results are in."""
    units = [unit for contract in request.contracts for unit in expand(contract, request.config)]
    terminal.heading("Results")
    reports = [
        plan.root / unit.folder / REPORT_PAGE.name for unit in units if REPORT_PAGE.name in unit.writes
    ]
    for report in reports:
        terminal.line(f"  read     {report}")
        terminal.line(f"  look     ghosttrack dashboard {request.name}")
        terminal.line(f"  ask      ghosttrack.open({request.config.name!r}).ask(…) in Python")
    for folder in [] if reports else sorted({unit.folder for unit in units}):
        terminal.line(f"  {plan.root / folder}")
