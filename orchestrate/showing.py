"""Commands that show results, or the questions. A stage does the work, `report` for most, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from ghosttrack.common.engine.parent import end_with_parent
from ghosttrack.orchestrate.local import code_variables
from ghosttrack.orchestrate.options import ghosttrack, takes_config
from ghosttrack.orchestrate.request import Request


def _report(command: str, words: str, **more: str) -> click.Command:
    """A command of the stage `report` that writes something of a run. more: the help of further options, by name."""

    @click.pass_context
    def written(context: click.Context, request: Request, **given: str | None) -> None:
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        context.exit(_run([*request.options, *options], command, request))

    for name, text in {"output": "Where to write; the default is named when it is done.", **more}.items():
        written = click.option(f"--{name}", help=text)(written)
    return ghosttrack.command(command, help=words)(takes_config(written))


dashboard = _report(
    "dashboard",
    "Write CONFIG's results as one HTML file to look at: trajectories, latents, figures. Needs no network.",
)
export = _report(
    "export",
    "Write CONFIG's results for a paper: LaTeX and CSV tables, vector figures, macros, provenance; for Inspect, Neuronpedia.",
    neuronpedia="Latents too, as Neuronpedia imports them; the id of the user there whose they are.",
)
crate = _report(
    "crate", "Write CONFIG's finished run as an RO-Crate: the results with machine-readable provenance."
)


@ghosttrack.command()
@takes_config
@click.option("--port", type=int, help="Where to listen; a free port when left out.")
@click.option(
    "--host", help="Who can reach it: 127.0.0.1 is this machine alone, which is meant when left out."
)
@click.pass_context
def serve(context: click.Context, request: Request, port: int | None, host: str | None) -> None:
    """Serve CONFIG's dashboard: every track of a run of any size, new questions, tracks taken out. Ctrl-C ends it."""
    where = [f"--{name}={value}" for name, value in (("port", port), ("host", host)) if value is not None]
    context.exit(_child([*request.options, *where], "ghosttrack.api.serving", request))


@ghosttrack.command()
@takes_config
@click.pass_context
def data(context: click.Context, request: Request) -> None:
    """Show CONFIG's questions as the model will read them, their lengths, and what is left out. Loads no weights."""
    context.exit(_run(request.options, "data", request, stage="prepare"))


@ghosttrack.command()
@click.argument("results", nargs=-1, required=True)
@click.option("--output", metavar="FOLDER", help="Write Markdown, HTML and plots here too.")
@click.pass_context
def compare(context: click.Context, results: tuple[str, ...], output: str | None) -> None:
    """Compare the RESULTS of two or more models: folders such as results/gpt2-small, or their names."""
    context.exit(_run([*results, *(["--output", output] if output else [])], "compare"))


@ghosttrack.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def intervene(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Take a track or a latent out of the model while it answers a question: CONFIG QUESTION --track N."""
    named = bool(arguments) and not arguments[0].startswith("-")
    config, rest = (["--config", arguments[0]], arguments[1:]) if named else ([], arguments)
    context.exit(_run([*config, *(rest or ["--help"])], "intervene", stage="track"))


def _run(
    arguments: Sequence[str], command: str, request: Request | None = None, stage: str = "report"
) -> int:
    """Exit code of a command of a stage."""
    return _child([command, *arguments], f"ghosttrack.stages.{stage}", request)


def _child(arguments: Sequence[str], module: str, request: Request | None = None) -> int:
    """Exit code of a module that is run as a process of its own; what it says goes to this terminal, and it ends with
    this process: a server that stayed would keep its port."""
    variables = code_variables(request) if request else {}
    line = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(line, env={**os.environ, **variables}, preexec_fn=end_with_parent()) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the child has it too, and says what there is to say
                continue
