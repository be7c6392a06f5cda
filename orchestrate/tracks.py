"""Commands about tracking: put the tracker to the test."""

import json

import click

from common.errors import MissingInputError
from common.storage import Store
from orchestrate.local import LocalExecutor
from orchestrate.options import takes_config
from orchestrate.render import Terminal
from orchestrate.request import Request


@click.group()
def track() -> None:
    """Whether the tracker can be believed."""


@track.command()
@takes_config
def validate(request: Request) -> None:
    """Run the validation of the tracker, if it is not up to date, and print its report.

    Planted scenes, held-out likelihood, life against permuted decoders, causal links; needs the SAEs and the association
    model, which `ghosttrack run` makes.
    """
    terminal = Terminal()
    [planned] = [each for each in request.plan().of_stage("track") if each.unit.name == "validation"]
    if planned.reason is not None:
        LocalExecutor(terminal).run_stage(request, "track", ["validation"])
    unit = planned.unit
    entry = Store(request.config.paths.root).current(unit.config_name, unit.stage, unit.name)
    if entry is None:
        raise MissingInputError(
            f"{request.config.name}: the validation has no result; `ghosttrack run` makes it"
        )
    terminal.line(entry.file("validation.md").read_text(encoding="utf-8"))
    report = json.loads(entry.file("validation.json").read_text(encoding="utf-8"))
    failed = [verdict["question"] for verdict in report["verdicts"] if verdict["passed"] is False]
    terminal.line(f"{request.config.name}: " + (f"FAILED: {'; '.join(failed)}" if failed else "passed"))
