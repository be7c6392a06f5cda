"""`contexts.jsonl`: other ways to ask the questions of a relation, such as after further worked examples."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ghosttrack.common.formats.file import Lines

CONTEXTS = Lines(
    "contexts.jsonl", "prepare/contexts", "a context a line, of a relation or of one question alone"
)


class Context(BaseModel):
    """Another way to ask the questions of a relation, or one `question` (its id) alone, whose own rows go first.

    Context 0 is the prompt that the model answers; it is not in the file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    relation: str
    question: str | None = None
    context: int
    """From 1."""
    kind: str
    """`examples` new ones; `reversed`, `halved`, `turned` the same in another order; `general`, `instruction` where there are none."""
    prefix: str
    query: str | None = None
    """What comes after the prefix, where that is not the question's own query."""
    shots: list[tuple[str, str]] = []
    """Worked examples of the prefix: what is asked, and the answer."""
    instruction: str = ""
    """A sentence of the prefix that changes the framing and not the meaning."""
    chat: bool = False
    """Whether the prefix is of a conversation, in which the question is the next turn."""


ByOwner = dict[tuple[str, str | None], list[Context]]


def read_contexts(path: Path) -> list[Context]:
    """All lines in order. Raises CorruptInputError naming the line."""
    return CONTEXTS.read_as(path, Context)


def write_contexts(path: Path, contexts: Iterable[Context]) -> None:
    CONTEXTS.write(path, (context.model_dump(exclude_none=True) for context in contexts))


def contexts_by_question(
    contexts: Sequence[Context], questions: Sequence[Mapping[str, Any]]
) -> list[list[Context]]:
    """The contexts of each question (`id`, `relation`): its own where it has some, else those of its relation."""
    own = contexts_by_owner(contexts)
    return [contexts_of(own, question) for question in questions]


def contexts_by_owner(contexts: Iterable[Context]) -> ByOwner:
    """Of each question that has its own (relation and id), or of each relation (and None)."""
    own: ByOwner = {}
    for context in contexts:
        own.setdefault((context.relation, context.question), []).append(context)
    return own


def contexts_of(own: ByOwner, question: Mapping[str, Any]) -> list[Context]:
    return own.get((question["relation"], question["id"])) or own.get((question["relation"], None), [])
