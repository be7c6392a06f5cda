"""Everything the command prints: tables and lines, for a terminal or for a file."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from textwrap import shorten
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.errors import printable
from ghosttrack.orchestrate.logbook import Event
from ghosttrack.orchestrate.plan import Plan, fold
from ghosttrack.orchestrate.runs import RunSummary
from ghosttrack.orchestrate.status import Diagnosis, Overview
from ghosttrack.orchestrate.usage import Advice

PLAIN_WIDTH = 140
"""Columns where the output is not a terminal."""
LONG = 2 * 86400.0
"""Seconds from which a plan for CPUs says what takes less."""
LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}


class Screen(Console):
    """Text from outside is never taken for markup, and its controls are shown; those of styles come after this."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, "\n"))


class Terminal:
    """Prints."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Screen()
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heading(self, text: str) -> None:
        self.line(text, "bold")

    def json(self, data: Any) -> None:
        self.console.file.write(json.dumps(data, indent=2, default=_plain) + "\n")

    def plan(self, plan: Plan) -> None:
        table = _table("stage", "unit", "why", ">units", ">time", ">size")
        for group in fold(plan):
            fresh = group.units[0].reason is None
            known = all(planned.known for planned in group.units)
            seconds = format_seconds(sum(planned.seconds for planned in group.units))
            size = format_bytes(sum(planned.size for planned in group.units))
            takes = ("", "") if fresh else (seconds, size) if known else ("unknown", "unknown")
            named = (group.stage, group.names, Text(group.state), str(len(group.units)))
            table.add_row(*named, *takes, style="dim" if fresh else "")
        self.console.print(table)
        gpu_hours = f" ({plan.gpu_hours:.1f} GPU-hours)" if plan.gpu_hours else ""
        unknown = f", and what {len(plan.unknown)} units take is unknown" if plan.unknown else ""
        kept = sum(planned.kept for planned in plan.units)
        there = f", {kept} taken from earlier runs" if kept else ""
        self.line(
            f"{plan.config.name}: {len(plan.stale) - kept} of {len(plan.units)} units to run{there}, about "
            f"{format_seconds(plan.seconds)}{gpu_hours} and {format_bytes(plan.size)}{unknown}; "
            f"{format_bytes(plan.free)} free in {plan.root.resolve()}"
        )
        if plan.seconds > LONG and not plan.gpu_hours:
            self.line(
                f"That is {plan.seconds / 86400:.0f} days, one unit after another at the rate measured here; a GPU, or many "
                "nodes at a time (--executor slurm), take a fraction of it, as do fewer tokens (data.max_tokens) and layers "
                "(model.layers)",
                "yellow",
            )
        if any(planned.reason and planned.reason.kind == "param" for planned in plan.units):
            self.line(
                "results of other settings are replaced; a variant with a --name of its own stands beside them"
            )
        if plan.waves.count > 1:
            self.line(
                f"hidden states: {plan.waves.count} waves of at most {format_bytes(plan.waves.wave)} and a sample of "
                f"{format_bytes(plan.waves.sample)}"
                + (
                    f"; {plan.waves.at_a_time} waves on disk at a time, {format_bytes(plan.waves.peak)}, "
                    "each removed when its SAEs are trained"
                    if plan.waves.bounded
                    else f"; {format_bytes(plan.waves.total)} in all"
                )
            )
        if plan.refusal:
            self.line(f"This does not fit: {plan.refusal}", "bold red")

    def overview(self, seen: Overview) -> None:
        self.console.print(view_of(seen))

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Overview], None]]:
        """Gives a function that shows the state of things, over what it showed before where this is a terminal."""
        if not self.console.is_terminal:
            yield self.overview
            return
        with Live(console=self.console, auto_refresh=False) as live:
            yield lambda seen: live.update(view_of(seen, looked=True), refresh=True)

    def disk(self, uses: Mapping[str, tuple[float, ...]], run_folder: int, plan: Plan) -> None:
        rows = [(stage, *map(_bytes, sizes)) for stage, sizes in uses.items()]
        self.console.print(_table("stage", ">now", ">removed", ">in progress", ">to come", rows=rows))
        here = sum(now + staging for now, _, staging, _ in uses.values()) + run_folder
        self.line(
            f"{plan.config.name}: {format_bytes(here)} on disk, {format_bytes(run_folder)} of it logs and job scripts; "
            f"{format_bytes(plan.size)} to come, {format_bytes(plan.free)} free in {plan.root.resolve()}"
        )

    def runs(self, found: Sequence[RunSummary]) -> None:
        table = _table("run", ">units", ">shared", "last finished", ">work", ">size", ">AUROC", "why")
        table.columns[-1].header = "settings that differ"
        for run in found:
            asked = ", ".join(f"{key}={value}" for key, value in run.differs.items())
            table.add_row(
                run.name, str(run.units), str(run.shared or ""), f"{run.last_finished:%Y-%m-%d %H:%M}",
                format_seconds(run.elapsed), _bytes(run.size), "" if run.auroc is None else f"{run.auroc:.3f}",
                shorten(asked, 160, placeholder=" …"),
            )  # fmt: skip
        self.console.print(table)

    def gpus(self, uses: Mapping[str, tuple[int, float | None, float | None]]) -> None:
        rows = [
            (stage, str(units), "" if busy is None else f"{busy:.0f} %", _bytes(memory or 0))
            for stage, (units, busy, memory) in uses.items()
        ]
        self.console.print(_table("stage", ">units", ">utilisation", ">most memory", rows=rows))

    def advice(self, found: Iterable[Advice]) -> None:
        table = _table("stage", ">time", ">of asked", ">memory", ">of asked", ">busy cores", ">of asked")
        found = list(found)
        for use in found:
            table.add_row(
                use.stage, format_seconds(use.seconds), _share(use.time_share), format_bytes(use.memory),
                _share(use.memory_share), f"{use.cores:.1f}", _share(use.core_share),
            )  # fmt: skip
        self.console.print(table)
        self.line("For the cluster profile, with a quarter more memory and half as much time again:")
        self.line("resources:")
        for use in found:
            ask = use.proposal
            gpus = f", gpus: {ask.gpus}" if ask.gpus else ""
            self.line(f'  {use.stage}: {{cpus: {ask.cpus}, memory: {ask.memory}, time: "{ask.time}"{gpus}}}')

    def diagnosis(self, found: Diagnosis) -> None:
        style = {"ok": "green", "warning": "yellow", "trouble": "red"}[found.level]
        text = Text(f"{found.level:<8} ", style=style)
        text.append(f"{found.what}: {found.seen}", style="default")
        if found.mend:
            text.append(f"\n         {found.mend}", style="bold")
        self.console.print(text, soft_wrap=True)

    def event(self, event: Event) -> None:
        text = Text(f"{event.time:%H:%M:%S} ", style="dim")
        text.append(f"{event.stage:<9} ", style="cyan")
        mark = f"{event.level}: " if event.level in LEVELS else ""
        text.append(mark + event.message, style=LEVELS.get(event.level, "default"))
        if event.traceback:
            text.append("\n" + event.traceback.rstrip(), style="dim")
        self.console.print(text, soft_wrap=True)


def view_of(seen: Overview, looked: bool = False) -> Group:
    """The stages, the jobs, and what is wrong. looked: say when."""
    parts: list[RenderableType] = [Text(seen.name, style="bold"), _stages(seen)]
    failures = [f"{stage.stage}: {failure}" for stage in seen.stages for failure in stage.failures]
    if seen.jobs.links:
        parts += [Text(), _jobs(seen)]
        if seen.jobs.active:
            parts.append(Text(f"expected to be through at {_moment(seen.jobs.expected_end)}"))
    parts += [Text(failure, style="red") for failure in failures]
    for trouble in seen.jobs.troubles:
        said = f"job {trouble.job} ({', '.join(trouble.units)}): {trouble.cause}; {trouble.mend}"
        parts.append(Text(said, style="red"))
        if trouble.tail:
            parts.append(Text(f"  {trouble.log}:", style="dim"))
            parts += [Text(f"    {line}", style="dim") for line in trouble.tail]
    if seen.jobs.trouble:
        said = f"the scheduler could not be asked, so this is what the results say: {seen.jobs.trouble}"
        parts.append(Text(said, style="yellow"))
    if looked:
        said = f"seen at {datetime.now():%H:%M:%S}; Ctrl-C ends the looking, not the work"
        parts.append(Text(said, style="dim"))
    return Group(*parts)


def _stages(seen: Overview) -> Table:
    table = _table("stage", ">done", ">stale", ">failed", "running", "last finished", ">elapsed", ">size")
    for stage in seen.stages:
        failed, finished = Text(str(stage.failed or ""), style="red"), stage.last_finished
        counts = (f"{stage.done}/{stage.units}", str(stage.stale or ""), failed, Text(stage.running))
        took = (format_seconds(stage.elapsed) if stage.elapsed else "", _bytes(stage.size))
        style = "green" if stage.done == stage.units else ""
        table.add_row(stage.stage, *counts, _moment(finished) if finished else "", *took, style=style)
    return table


def _moment(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def _jobs(seen: Overview) -> Table:
    numbers = (">done", ">running", ">waiting", ">failed", ">elapsed", ">tasks/h", ">left")
    table = _table("job", "link", *numbers, "why it waits")
    for link in seen.jobs.links:
        rate = f"{3600 * link.done / link.seconds:.3g}" if link.done and link.seconds else ""
        table.add_row(
            link.job, link.link, f"{link.done}/{link.tasks}", str(link.running or ""), str(link.waiting or ""),
            Text(str(link.failed or ""), style="red"), format_seconds(link.seconds) if link.seconds else "", rate,
            format_seconds(link.left) if link.left else "", link.reason,
            style="green" if link.done == link.tasks else "",
        )  # fmt: skip
    return table


def _plain(value: Any) -> Any:
    """What JSON has no word for: records, and times as text."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _bytes(count: float) -> str:
    return format_bytes(count) if count else ""


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _table(*columns: str, rows: Iterable[Sequence[str]] = ()) -> Table:
    """Columns that start with `>` are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold",
                         no_wrap=name != "why")  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table
