"""`ghosttrack score`: new questions, the model's answers to them, and what the stored detector says of each."""

import json
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.contract import units_of_new
from ghosttrack.common.engine.storage import Entry, Store, storage_errors
from ghosttrack.common.errors import ConfigError, MissingInputError
from ghosttrack.common.formats.detector import ASKED_SCORES
from ghosttrack.common.formats.questions import ASKED, ASKED_LEFT_OUT
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.options import ghosttrack, takes_config
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request


@ghosttrack.command()
@takes_config
@click.option(
    "--input",
    "questions",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Questions, in any file or folder that data.questions can name: in its columns, a known data set's, or ours: `question` or `prompt`; if wanted id, relation, subject, answer, aliases, response.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the scores go, a JSON object a line, in the same order.",
)
def score(request: Request, questions: Path, output: Path) -> None:
    """Let the model answer new questions; say how likely each answer is wrong, and why. Fits nothing.

    Uses the model, the SAEs and the detector of a finished run of CONFIG. A question whose `relation` is one of that run's
    gets the relation's worked examples before it. Where right answers are given, their AUROC is told.
    """
    if output.exists() and output.samefile(questions):
        raise ConfigError(
            f"--output {output} is the file of the questions, which the scores would replace; name another"
        )
    terminal = Terminal()
    finish = f"ghosttrack run {request.name}"
    request = request.with_override(f"data.asked={questions.resolve()}")
    _refuse_unfinished(request, finish)
    names = units_of_new(request.contracts)
    stages, executor = list(dict.fromkeys(label.split("/")[0] for label in names)), LocalExecutor(terminal)
    with executor.forking(request, stages):
        for stage in stages:
            stale = [each.unit.name for each in request.plan().stale_of(stage) if each.unit.label in names]
            if stale:
                executor.run_stage(request, stage, stale)
    plan = request.plan()
    scored, asked = (plan.result_of(file.name) for file in (ASKED_SCORES, ASKED))
    with storage_errors(output):
        atomic.write(output, "".join(_with_left_out(Store(str(plan.root)), scored, asked)))
    metrics = (entry.manifest.predicate.metrics for entry in (scored, asked))
    terminal.line(f"{output}: {_summary(*metrics)}")


def _with_left_out(store: Store, scored: Entry, asked: Entry) -> list[str]:
    """The lines of scores.jsonl, and in the place of each row that could not be asked what is wrong with it."""
    lines = store.file(scored, ASKED_SCORES.name).read_text(encoding="utf-8").split("\n")[:-1]
    places, left_out = (
        lines_of.read(store.file(asked, lines_of.name)) for lines_of in (ASKED, ASKED_LEFT_OUT)
    )
    rows = [(place["row"], line) for place, line in zip(places, lines, strict=True)]
    rows += [(row["row"], json.dumps({**row, "scored": False}, ensure_ascii=False)) for row in left_out]
    return [f"{line}\n" for _, line in sorted(rows, key=itemgetter(0))]


def _refuse_unfinished(request: Request, finish: str) -> None:
    """Raises MissingInputError where what the new units read is not there or not up to date."""
    plan, names = request.plan(), units_of_new(request.contracts)
    new = [each.unit for each in plan.units if each.unit.label in names]
    read = {read.name for unit in new for read in unit.reads} - {unit.label for unit in new}
    for each in plan.stale:
        if each.unit.label in read:
            raise MissingInputError(
                f"{each.unit.label}: {each.reason}. New questions are scored with the model, SAEs and detector of a finished "
                f"run; finish it with `{finish}`"
            )


def _summary(metrics: Mapping[str, Any], of_asked: Mapping[str, Any]) -> str:
    scored, asked = metrics["scored"], metrics["questions"]
    text = f"{scored} answers scored"
    if scored < asked:
        text += (
            f", {asked - scored} say nothing (empty, a refusal) or have no active latent, and have no score"
        )
    if metrics.get("unfamiliar"):
        text += f", {metrics['unfamiliar']} of them to questions unlike those that the detector was fitted on"
    if of_asked["left_out"]:
        text += (
            f", {of_asked['left_out']} {'row' if of_asked['left_out'] == 1 else 'rows'} could not be asked"
        )
    if of_asked["columns"]:
        named = ", ".join(f"{ours} is {column!r}" for ours, column in of_asked["columns"].items())
        text += f"; by names and what stands in the columns, {named}"
    if metrics["auroc"] is not None:
        text += f"; AUROC on the {metrics['labelled']} whose right answer was given: {metrics['auroc']:.3f}"
    return text
