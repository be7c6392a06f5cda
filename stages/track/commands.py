"""What the stage can be asked for besides its units: take something out of the model and see what it says."""

import json
from pathlib import Path
from typing import Any

import click

from ghosttrack.common.config.options import Finite, takes_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import ConfigError, MissingInputError, printable
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.questions import NEW
from ghosttrack.common.formats.snapshot import CONFIG


@click.command()
@takes_config
@click.argument("question")
@click.option("--track", "tracks", multiple=True, type=int, metavar="N", help="A track at --position.")
@click.option("--latent", "latents", multiple=True, metavar="LAYER:LATENT", help="A latent at --position.")
@click.option("--candidate", metavar="TEXT", help="The tracks that speak most for this candidate.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How many tracks --candidate takes.",
)
@click.option("--position", default=0, show_default=True, help="-1 the subject, 0 the last prompt token.")
@click.option(
    "--factor", type=Finite(), default=0.0, show_default=True, help="What is left of a track's activations."
)
@click.option("--at-birth", is_flag=True, help="Take a track out where it begins, not over its life.")
@click.option("--value", type=Finite(), help="The activation that latents get; left out, they are taken out.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def intervene(
    config: Config,
    question: str,
    tracks: tuple[int, ...],
    latents: tuple[str, ...],
    candidate: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Take tracks or latents out of the model while it answers QUESTION, and say what changes.

    QUESTION is its id or its line from 0; with `new:` before it, one of the last `ghosttrack score`.
    """
    from ghosttrack.stages.track.intervening import Interventions

    if not (tracks or latents or candidate):
        raise ConfigError("nothing is taken out; say what with --track, --latent or --candidate")
    store = Store(config.paths.root)

    def entry(unit: str) -> Entry:
        if found := store.current(config.name, *unit.split("/")):
            return found
        maker = f"score {config.name} --input …" if "asked" in unit else f"run {config.name}"
        raise MissingInputError(f"{config.name}: {unit} has no result; `ghosttrack {maker}` makes it")

    def path(file: File) -> Path:
        return store.file(entry(file.unit), file.name)

    desk = Interventions.open(store.folder(entry(CONFIG.unit)), path, config)
    if question.startswith(NEW):
        desk = desk.of_asked(path)
    number = desk.number(question.removeprefix(NEW))
    result = desk.intervene(number, tracks, [_pair(text) for text in latents], candidate, **how)
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else printable(words(result), "\n"))


COMMANDS = (intervene,)


def words(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    lines = [
        f"{result['question']}: {result['query']}",
        f"as it is:     {result['answer']!r} ({result['judged']})",
        f"{result['intervention']}: {result['new_answer']!r} ({result['new_judged']})",
        f"control (as much of other latents): {result['control_answer']!r} ({result['control_judged']})",
        "",
        f"{'candidate':<20} {'logit':>8} {'change':>8} {'control':>8}",
    ]
    lines += [
        f"{one['token']!r:<20} {one['logit']:>8.2f} {one['change']:>+8.2f} {one['control_change']:>+8.2f}"
        for one in result["candidates"]
    ]
    return "\n".join(lines)


def _pair(text: str) -> tuple[int, int]:
    try:
        layer, latent = map(int, text.split(":"))
    except ValueError as error:
        raise ConfigError(f"--latent {text}: give LAYER:LATENT, such as 12:345") from error
    return layer, latent
