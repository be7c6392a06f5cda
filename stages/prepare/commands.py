"""What the stage can be asked for besides its units: the questions as the model will read them, before anything expensive."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from ghosttrack.common.config.options import takes_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.fingerprint import FACTBOOK, WORDS
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import printable
from ghosttrack.stages.prepare.chat import chat_of, put
from ghosttrack.stages.prepare.lengths import TokenReader, reader_of, sorted_out
from ghosttrack.stages.prepare.prompts import QuestionLine
from ghosttrack.stages.prepare.rows import Given

SHOWN = 10


@click.command()
@takes_config
def data(config: Config) -> None:
    """Ten questions as the model will read them, how long all are, and which rows are left out and why."""
    from ghosttrack.stages.prepare.run import counted, questions_of, set_aside, told

    questions, spare, rows = questions_of(config)
    relations = Counter(q.relation for q in questions)
    others = len(spare.facts) + len(spare.prompts) - len(questions)
    click.echo(
        f"{config.data.questions}: {counted(len(questions), 'question')} over {counted(len(relations), 'relation')}, "
        f"chosen from {len(questions) + others}"
        + (f", read as {rows.layout}" if rows and rows.layout else "")
    )
    reader = tokenizer_of(config)
    questions = put(chat_of(reader.tokenizer, config.model), questions, config.model)
    if turns := sum(question.chat for question in questions):
        click.echo(f"{turns} are turns of a chat, by the model's chat template")
    kept, cannot, sizes = sorted_out(reader, questions, config.tracking.max_new_tokens)
    if rows:
        rows.left_out += cannot
        if examples := len(set_aside(rows, kept)):
            click.echo(f"{counted(examples, 'row')} set aside as worked examples, and not asked")
        if others := others - examples:
            chosen = ", or not among those that data.relations and data.max_questions choose"
            click.echo(f"{counted(others, 'row')} kept for further contexts{chosen}, and not asked")
        for sentence in told(rows):
            click.echo(sentence)
    click.echo(_sizes(sizes, reader, config.tracking.max_new_tokens))
    for line in shown(kept):
        click.echo(printable(line, "\n\t"))


def tokenizer_of(config: Config) -> TokenReader:
    """The tokenizer of the run's snapshot where there is one, else of the model's source. Loads no weights."""
    store = Store(config.paths.root)
    if entry := store.current(config.name, "prepare", "model"):
        return reader_of(store.folder(entry))
    from ghosttrack.stages.prepare import miniature, snapshot

    if config.model.base_model == miniature.NAME:
        return TokenReader(miniature.build(config.seed)[1], None)
    return snapshot.reader_of_source(config.model.base_model, config.model.revision)


def _sizes(sizes: Sequence[int], reader: TokenReader, new: int) -> str:
    middle, most = np.percentile(sizes, [50, 90]).round().astype(int)
    bound = f" of a context of {reader.longest}" if reader.longest else ""
    return f"tokens a prompt: {middle} at the median, {most} at 90 %, {max(sizes)} at most{bound}, with {new} for an answer"


def shown(questions: Sequence[QuestionLine]) -> Iterator[str]:
    """`SHOWN` questions, spread evenly: their prompts as they stand, what is right, and their own answers."""
    for place in np.unique(np.linspace(0, len(questions) - 1, SHOWN).round().astype(int)).tolist():
        question = questions[place]
        yield f"\n{question.id} ({question.relation})"
        yield from (f"    {line}" for line in question.prompt.split("\n"))
        if question.given.response is not None:
            yield f"  its own answer: {question.given.response[:200]}"
            yield from labelled(question.given, question.given.response)
        if question.aliases:
            yield f"  right: {', '.join(question.aliases[:8])}"


def labelled(given: Given, response: str) -> Iterator[str]:
    """What a row says of its own answer: the label, and the marked parts as they stand in it."""
    if given.label is not None:
        yield f"  labelled {'wrong' if given.label else 'right'}"
    for start, end, wrong in (given.spans or ())[:SHOWN]:
        yield f"  marked {'wrong' if wrong else 'right'}: {response[start:end]!r}"
    if given.spans == ():
        yield "  no part of it is marked"
    if given.label is None and given.spans is None:
        yield "  not labelled: judged by what is right"


@click.command()
@takes_config
def columns(config: Config) -> None:
    """Whether questions and text are there and have their columns, from their first rows; and the relations that are named."""
    from ghosttrack.stages.prepare import sources

    asked = config.data
    if asked.questions not in WORDS["data.questions"]:
        sources.check_questions(asked.questions, asked.columns, asked.questions_config, asked.questions_split)
        if asked.relations is not None:
            from ghosttrack.stages.prepare.run import questions_of  # late: it takes torch with it

            questions_of(config)
        click.echo(f"{asked.questions} has its columns")
    if asked.corpus != FACTBOOK:
        sources.check_corpus(asked.corpus, asked.corpus_config, asked.corpus_split, asked.corpus_column)
        click.echo(f"{asked.corpus} has the column {asked.corpus_column}")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
def guess(source: Path) -> None:
    """As JSON: how many rows a file of questions has, their columns, and which of them seem to be question, answer and relation."""
    from ghosttrack.stages.prepare.files import read_file
    from ghosttrack.stages.prepare.guess import guess as guessed
    from ghosttrack.stages.prepare.sources import FIRST_ROWS

    records = [read.record for read in read_file(source, "data.questions") if read.record]
    names = list(dict.fromkeys(name for record in records[:FIRST_ROWS] for name in record))
    found = {"rows": len(records), "names": names, "columns": guessed(records[:FIRST_ROWS])}
    click.echo(json.dumps(found))


@click.command()
@click.argument("source")
@click.option("--revision")
def model(source: str, revision: str | None) -> None:
    """Whether a model is one that can be read, without its weights."""
    from ghosttrack.stages.prepare.snapshot import check_source

    check_source(source, revision)


COMMANDS = (data, columns, guess, model)
