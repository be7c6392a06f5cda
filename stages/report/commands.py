"""What the stage can be asked for besides its unit: results to look at, to compare, to put in a paper, to hand on."""

import functools
import time
from pathlib import Path

import click

from ghosttrack.common.config.options import takes_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError

_PATH = click.Path(path_type=Path)


@click.command()
@functools.partial(takes_config, required=False)
@click.option(
    "--results",
    "place",
    metavar="FOLDER",
    help="Results to show, such as results/demo, in place of --config.",
)
@click.option("--output", type=_PATH, help="The file to write; results/<name>/dashboard.html when left out.")
def dashboard(config: Config | None, place: str | None, output: Path | None) -> None:
    """One HTML file with all that there is to see of a run."""
    from ghosttrack.stages.report.dashboard.build import build
    from ghosttrack.stages.report.results import Results

    start = time.monotonic()
    if config is not None:
        results = Results.open(config.paths.root, config.name)
    elif place is not None:
        results = Results.at(place)
    else:
        raise ConfigError("whose results? give --results results/demo, or --config demo")
    output = output or results.store.root / "results" / results.name / "dashboard.html"
    page = build(results)
    with storage_errors(output):
        atomic.write(output, page)
    click.echo(
        f"{output}: {format_bytes(len(page))}, made in {format_seconds(time.monotonic() - start)}; open it in a browser"
    )


@click.command()
@takes_config
@click.option("--output", type=_PATH, help="The folder to write into; paper/<name> when left out.")
@click.option(
    "--neuronpedia",
    metavar="USER",
    help="Also latents as Neuronpedia imports them, as this user's there (an id).",
)
def export(config: Config, output: Path | None, neuronpedia: str | None) -> None:
    """Tables, figures, macros and provenance for a paper."""
    from ghosttrack.stages.report.paper.export import export as export_paper
    from ghosttrack.stages.report.paper.neuronpedia import export as export_latents
    from ghosttrack.stages.report.results import Results

    output = output or Path("paper") / config.name
    results = Results.open(config.paths.root, config.name)
    files, missing = export_paper(results, output)
    if neuronpedia:
        click.echo(
            f"{export_latents(results, config, output / 'neuronpedia', neuronpedia)}: a folder a layer"
        )
    for line in missing:
        click.echo(f"not here: {line}")
    click.echo(
        f"{output}: {len(files)} files; \\input{{{output}/macros.tex}} and the tables, or compile {output}/results.tex"
    )


@click.command()
@takes_config
@click.option("--output", type=_PATH, help="The folder to write; crate/<name> when left out.")
def crate(config: Config, output: Path | None) -> None:
    """A finished run as an RO-Crate."""
    from ghosttrack.stages.report.crate import write_crate
    from ghosttrack.stages.report.results import Results

    output = output or Path("crate") / config.name
    with storage_errors(output):
        count = write_crate(Results.open(config.paths.root, config.name), output)
    click.echo(f"{output}: ro-crate-metadata.json describes {count} files")


@click.command()
@click.argument("results", nargs=-1)
@click.option("--small", metavar="FOLDER", help="The smaller model's results.")
@click.option("--medium", metavar="FOLDER", help="The larger model's results.")
@click.option("--output", type=_PATH, help="A folder for comparison.md, comparison.html and the plots.")
def compare(results: tuple[str, ...], small: str | None, medium: str | None, output: Path | None) -> None:
    """Two or more models beside each other."""
    from ghosttrack.stages.report.compare.show import compare_results
    from ghosttrack.stages.report.results import Results

    places = [*(place for place in (small, medium) if place), *results]
    if len(places) < 2:
        raise ConfigError(
            "a comparison needs the results of two models or more; give folders such as results/gpt2-small"
        )
    compare_results([Results.at(place) for place in places], output)


COMMANDS = (dashboard, compare, export, crate)
