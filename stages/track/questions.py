"""Questions, those of the run or new ones, in the order in which they are cheapest to answer: with a common prefix together."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.engine.job import Job
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.questions import ASKED, QUESTIONS

Prefix = tuple[str, bool]
"""What stands before a question, and whether it is a conversation."""


def of_new_questions(job: Job) -> bool:
    """Whether a unit is for the stored detector to score; such units are named for that."""
    return job.unit.startswith("asked")


class Batch(NamedTuple):
    """Questions answered in one forward pass. numbers: lines of questions.jsonl, from 0."""

    prefix: Prefix
    numbers: list[int]


def questions_of(job: Job) -> list[dict[str, Any]]:
    """Those that a unit reads: the run's, or new ones. Raises CorruptInputError."""
    return read_questions(job.input(ASKED if of_new_questions(job) else QUESTIONS))


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Every line of questions.jsonl. Raises CorruptInputError naming the line."""
    questions = QUESTIONS.read(path)
    for number, question in enumerate(questions, start=1):
        texts = [question.get(name) for name in ("prefix", "query", "question")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(question.get("aliases"), list):
            raise CorruptInputError(f"{path} line {number} is not a question; run the prepare stage again")
    return questions


SHARD_CHARACTERS = 24_000
"""Of given answers in a shard, at most: their states are in memory together."""


WORTH_SHARING = 64
"""Questions, of which two processes take half each."""


def even(count: int, most: int) -> int:
    """Size of shards of at most so many questions that are alike and even in number, so that two processes end together."""
    shards = max(-(-count // most), 2 if count > WORTH_SHARING else 1)
    return -(-count // (shards + shards % 2)) if shards > 1 else most


def plan_shards(
    prefixes: list[Prefix], shard_size: int, batch_size: int, characters: Sequence[int] | None = None
) -> list[list[Batch]]:
    """Shards of batches that cover all questions; a batch never mixes prefixes. characters: of each given answer."""
    order = sorted(range(len(prefixes)), key=lambda number: (prefixes[number], number))
    shards: list[list[int]] = []
    room = 0
    for number in order:
        needed = characters[number] if characters else 0
        if not shards or len(shards[-1]) == shard_size or needed > room:
            shards.append([])
            room = SHARD_CHARACTERS
        shards[-1].append(number)
        room -= needed
    return [list(_batches(shard, prefixes, batch_size)) for shard in shards]


def sizes_of(shards: Sequence[Sequence[Batch]]) -> list[int]:
    """Questions of each."""
    return [sum(len(batch.numbers) for batch in shard) for shard in shards]


def _batches(numbers: list[int], prefixes: list[Prefix], batch_size: int) -> Iterator[Batch]:
    for prefix, group in groupby(numbers, key=lambda number: prefixes[number]):
        members = list(group)
        for start in range(0, len(members), batch_size):
            yield Batch(prefix, members[start : start + batch_size])
