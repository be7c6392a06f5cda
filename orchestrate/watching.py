"""Commands that look: at what is done and running, at logs, at what was used; and the one that tidies up."""

import time
from collections.abc import Callable

import click

from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ConfigError, MissingInputError, StageFailedError
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.executor import executor_behind
from ghosttrack.orchestrate.gc import Rubbish, releasable, release, remove, rubbish
from ghosttrack.orchestrate.logbook import events_in, follow, logs_in, read_events, text_of
from ghosttrack.orchestrate.options import ghosttrack, takes_config, takes_submitted_config
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.runs import summaries
from ghosttrack.orchestrate.status import Overview, stage_statuses
from ghosttrack.orchestrate.submission import read_submission
from ghosttrack.orchestrate.usage import advice as advice_of
from ghosttrack.orchestrate.usage import disk_use, gpu_use
from ghosttrack.orchestrate.why import choose


def overview(request: Request) -> Overview:
    """The state of things now, with one call to the scheduler if anything was submitted."""
    plan = request.plan()
    jobs = executor_behind(request, Terminal()).status(request, plan)
    return Overview(request.config.name, plan, stage_statuses(request.store, plan), jobs)


@ghosttrack.command()
@click.option("--root", default=".", metavar="FOLDER", help="The folder the runs were made in (paths.root).")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def runs(root: str, as_json: bool) -> None:
    """Show the runs in a folder: what is there of each, what they were asked differently, what came out.

    `ghosttrack run CONFIG --name VARIANT --set …` makes another one beside CONFIG's own, of the same results wherever the two
    ask for the same.
    """
    store, terminal = Store(root), Terminal()
    found = summaries(store)
    if as_json:
        terminal.json(found)
    elif not found:
        raise MissingInputError(f"{store.root.resolve()} has no run; `ghosttrack run demo` makes one")
    else:
        terminal.runs(found)


@ghosttrack.command()
@takes_submitted_config
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(request: Request, as_json: bool) -> None:
    """Show what is done, stale, failed and running, and where its jobs stand."""
    terminal, seen = Terminal(), overview(request)
    if as_json:
        terminal.json(seen.to_json())
    else:
        terminal.overview(seen)


@ghosttrack.command()
@takes_submitted_config
@click.option(
    "--every", type=click.IntRange(1, 86400), default=10, show_default=True, help="Seconds between looks."
)
def watch(request: Request, every: float) -> None:
    """Show the status again and again, until everything is done or nothing runs any more.

    Ctrl-C ends the looking; what runs goes on.
    """
    terminal = Terminal()
    with terminal.live() as show:
        seen = _watch(lambda: overview(request), every, show)
    if failed := seen.jobs.troubles:
        raise StageFailedError(
            f"{request.config.name}: {failed[0].units[0]}: {failed[0].cause}; {failed[0].mend}", 1
        )


def _watch(look: Callable[[], Overview], every: float, show: Callable[[Overview], None]) -> Overview:
    while True:
        seen = look()
        show(seen)
        if not seen.plan.stale or (seen.jobs.submitted and not seen.jobs.active):
            return seen
        time.sleep(every)


@ghosttrack.command()
@takes_submitted_config
@click.argument("stage", required=False)
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=50, show_default=True, help="Last lines to show."
)
@click.option(
    "-f", "follows", is_flag=True, help="Go on with new lines as they are written; end with Ctrl-C."
)
@click.option(
    "--raw", is_flag=True, help="All that the processes and jobs printed, not only what they logged."
)
def logs(request: Request, stage: str | None, count: int, follows: bool, raw: bool) -> None:
    """Show the stages' logs in order of time, or one STAGE's."""
    names = [contract.stage for contract in request.contracts]
    if stage is not None and stage not in names:
        raise ConfigError(f"there is no stage {stage!r}; there are {', '.join(names)}")
    terminal = Terminal()
    patterns = _raw_patterns(request, stage) if raw else [f"{stage or '*'}.jsonl"]
    files = logs_in(request.logs, patterns)
    if not files and not follows:
        raise MissingInputError(
            f"there are no logs {request.logs / patterns[0]} yet; `ghosttrack run` writes them"
        )
    if raw:
        lines = [line for file in files for line in text_of(file).splitlines()]
        for line in lines[max(len(lines) - count, 0) :]:
            terminal.line(line)
    else:
        events = read_events(files)
        for event in events[max(len(events) - count, 0) :]:
            terminal.event(event)
    for file, line in follow(request.logs, patterns) if follows else ():
        if raw:
            terminal.line(line)
        for event in () if raw else events_in(file, line):
            terminal.event(event)


def _raw_patterns(request: Request, stage: str | None) -> list[str]:
    if stage is None:
        return ["*.log", "*.out"]
    submission = read_submission(request.folder)
    jobs = [
        job
        for job in (submission.jobs if submission else ())
        if any(unit.startswith(f"{stage}/") for task in job.tasks for unit in task.units)
    ]
    return [f"{stage}.log", *(f"{request.config.name}.{job.link}-*.out" for job in jobs)]


@ghosttrack.command()
@takes_submitted_config
def du(request: Request) -> None:
    """Show what every stage takes on disk, and what is expected to come."""
    plan = request.plan()
    Terminal().disk(disk_use(request.store, plan), folder_size(request.folder), plan)


@ghosttrack.command()
@takes_submitted_config
def gpu(request: Request) -> None:
    """Show how busy the GPUs were and how much of their memory was used, as the manifests have it."""
    uses = gpu_use(request.plan())
    if any(memory is not None for _, _, memory in uses.values()):
        Terminal().gpus(uses)
    else:
        Terminal().line(f"{request.config.name}: no result was made with a GPU")


@ghosttrack.command()
@takes_submitted_config
def advice(request: Request) -> None:
    """Show what jobs used of what they asked for, and what to ask for next time."""
    plan = request.plan()
    submission = read_submission(request.folder)
    jobs = [*submission.earlier, *submission.jobs] if submission else []
    asked = {unit.split("/")[0]: job.resources for job in jobs for task in job.tasks for unit in task.units}
    found = advice_of(plan, asked)
    if not found:
        raise MissingInputError(f"{request.config.name}: nothing has run yet; `ghosttrack run` first")
    Terminal().advice(found)


@ghosttrack.command()
@takes_config
@click.option(
    "--unit", "labels", multiple=True, metavar="UNIT", help="Only this unit's files; may be repeated."
)
@click.option("--yes", is_flag=True, help="Remove what is listed.")
def gc(request: Request, labels: tuple[str, ...], yes: bool) -> None:
    """List what nothing needs any more, and remove it with --yes.

    Hidden states whose every reader is made and verifies, work that was abandoned, and damaged results that were set
    aside. Results of earlier settings are left: `ghosttrack clean` removes them.
    """
    terminal, store = Terminal(), request.store
    plan = request.plan()
    found = releasable(plan)
    if labels:
        named = {planned.unit.label for label in labels for planned in choose(plan, label)}
        found = [planned for planned in found if planned.unit.label in named]
    others: list[Rubbish] = [] if labels else rubbish(store, plan)
    for planned in found:
        terminal.line(
            f"{planned.unit.label}: {format_bytes(planned.entry.size if planned.entry else 0)}, everything made from it verifies"
        )
    for item in others:
        terminal.line(f"{item.path}: {format_bytes(item.size)}, {item.what}")
    if not found and not others:
        terminal.line(f"{request.config.name}: there is nothing to remove")
    elif yes:
        freed = release(store, plan, [planned.unit.label for planned in found]) + sum(
            remove(store, item) for item in others
        )
        terminal.line(f"{request.config.name}: {format_bytes(freed)} freed")
    else:
        terminal.line("nothing is removed yet; give --yes to do it")
