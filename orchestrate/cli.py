"""The `ghosttrack` command. Thin: each command asks one module and prints what it says."""

import click

from ghosttrack.common.engine.command import run_command
from ghosttrack.common.engine.contract import expand
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.errors import CorruptInputError, MissingInputError, first_of

# Each of these adds its commands.
from ghosttrack.orchestrate import initialise, push, saes, scoring, showing, submitting, tracks, watching  # noqa: F401
from ghosttrack.orchestrate.clean import clean as clean_results
from ghosttrack.orchestrate.doctor import columns, room
from ghosttrack.orchestrate.options import ghosttrack, takes_config, takes_strict_code
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.verify import verify_units
from ghosttrack.orchestrate.why import choose, explain


def main() -> None:
    """Run the command line and end the process with its exit code (`common/errors.py`)."""
    run_command(ghosttrack, "ghosttrack", "ghosttrack")


@ghosttrack.command()
@takes_config
@takes_strict_code
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def plan(request: Request, as_json: bool) -> None:
    """Show every unit, why it must run, and what it will take. Changes nothing."""
    terminal, found = Terminal(), request.plan()
    if as_json:
        terminal.json(found.to_json())
    else:
        terminal.plan(found)
        for diagnosis in [*columns(request, found), *room(request.config, request.profile)]:
            if diagnosis.level != "ok":
                terminal.diagnosis(diagnosis)


@ghosttrack.command()
@takes_config
@takes_strict_code
@click.argument("unit")
def why(request: Request, unit: str) -> None:
    """Say why UNIT (such as track/all, or a stage for all of its units) must run."""
    terminal, found = Terminal(), request.plan()
    for planned in choose(found, unit):
        for line in explain(found, planned):
            terminal.line(line)


@ghosttrack.command()
@takes_config
@click.option("--deep", is_flag=True, help="Hash every file again, unchanged ones too.")
def verify(request: Request, deep: bool) -> None:
    """Check every published file against its manifest; names each bad one (exit code 14)."""
    units = [unit for contract in request.contracts for unit in expand(contract, request.config)]
    verdict = verify_units(request.store, units, deep=deep)
    terminal = Terminal()
    for finding in verdict.findings:
        terminal.line(finding, "red")
    if verdict.findings:
        raise CorruptInputError(
            f"{request.config.name}: {len(verdict.findings)} troubles with its {verdict.files} files; `ghosttrack run` makes what is bad again"
        )
    if verdict.unpublished:
        raise MissingInputError(
            f"{request.config.name}: {first_of(verdict.unpublished, 1)} have no result; `ghosttrack run` makes them"
        )
    terminal.line(
        f"{request.config.name}: {verdict.files} files, {format_bytes(verdict.size)}, "
        f"all match their manifests{' (all hashed again)' if deep else ''}"
    )


@ghosttrack.command()
@takes_config
def clean(request: Request) -> None:
    """Remove CONFIG's results, and stored results that no configuration points to any more."""
    removed = clean_results(request.store, request.contracts, request.config.name)
    terminal = Terminal()
    for name in removed.names:
        terminal.line(f"removed {name}")
    terminal.line(f"{request.config.name}: removed {len(removed.names)} items, {format_bytes(removed.size)}")
