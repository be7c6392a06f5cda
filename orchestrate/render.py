"""Everything the command prints: tables and lines, for a terminal or for a file."""

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.progress import format_bytes, format_seconds
from orchestrate.logbook import Event
from orchestrate.plan import Plan, fold
from orchestrate.status import StageStatus
from orchestrate.verify import Finding

PLAIN_WIDTH = 140
"""Columns where the output is not a terminal."""
LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}


class Terminal:
    """Prints. Text from outside is never taken for markup."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heading(self, text: str) -> None:
        self.line(text, "bold")

    def json(self, data: Any) -> None:
        self.console.file.write(json.dumps(data, indent=2) + "\n")

    def plan(self, plan: Plan) -> None:
        table = _table("stage", "unit", "why", ">units", ">time", ">size")
        for group in fold(plan):
            fresh = group.units[0].reason is None
            count, seconds, size = _totals(group.units)
            table.add_row(
                group.stage,
                group.names,
                Text(group.state),
                str(count),
                "" if fresh else format_seconds(seconds),
                "" if fresh else format_bytes(size),
                style="dim" if fresh else "",
            )
        self.console.print(table)
        self.line(
            f"{plan.config.name}: {len(plan.stale)} of {len(plan.units)} units to run, about "
            f"{format_seconds(plan.seconds)} and {format_bytes(plan.size)}; "
            f"{format_bytes(plan.free)} free in {plan.root.resolve()}"
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

    def status(self, name: str, stages: Iterable[StageStatus]) -> None:
        table = _table("stage", ">done", ">stale", ">failed", "running", "last finished", ">elapsed", ">size")
        failures = []
        for stage in stages:
            whole = stage.done == stage.units
            finished = f"{stage.last_finished.astimezone():%Y-%m-%d %H:%M}" if stage.last_finished else ""
            table.add_row(
                stage.stage,
                f"{stage.done}/{stage.units}",
                str(stage.stale or ""),
                Text(str(stage.failed or ""), style="red"),
                Text(stage.running),
                finished,
                format_seconds(stage.elapsed) if stage.elapsed else "",
                format_bytes(stage.size) if stage.size else "",
                style="green" if whole else "",
            )
            failures += [f"{stage.stage}: {failure}" for failure in stage.failures]
        self.heading(name)
        self.console.print(table)
        for failure in failures:
            self.line(failure, "red")

    def findings(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.line(f"{finding.unit}: {finding.trouble}", "red")

    def event(self, event: Event) -> None:
        text = Text(f"{event.time:%H:%M:%S} ", style="dim")
        text.append(f"{event.stage:<9} ", style="cyan")
        mark = f"{event.level}: " if event.level in LEVELS else ""
        text.append(mark + event.message, style=LEVELS.get(event.level, "default"))
        if event.traceback:
            text.append("\n" + event.traceback.rstrip(), style="dim")
        self.console.print(text, soft_wrap=True)


def _table(*columns: str) -> Table:
    """Columns that start with `>` are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold",
                         no_wrap=name != "why")  # fmt: skip
    return table


def _totals(units: Iterable[Any]) -> tuple[int, float, float]:
    units = list(units)
    return len(units), sum(planned.seconds for planned in units), sum(planned.size for planned in units)
