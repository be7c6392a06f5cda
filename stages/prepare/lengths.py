"""How long prompts are in the model's tokens, and which of them do not fit its context. No weights are loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.errors import DataError
from ghosttrack.common.foreign import whole
from ghosttrack.common.models.prompts import encode, encode_answer
from ghosttrack.common.models.sizes import context_of
from ghosttrack.stages.prepare.prompts import QuestionLine

TOO_LONG, UNKNOWN = "longer than the context", "not given back by the tokenizer"
TOO_SHORT = "shorter than two tokens"
"""The first is a sink, and is never tracked."""


class TokenReader(NamedTuple):
    """A model's tokenizer, and how many tokens the model sees at most (None: no bound is known)."""

    tokenizer: Any
    longest: int | None


def reader_of(snapshot: Path) -> TokenReader:
    """Of a snapshot's folder. Raises CorruptInputError."""
    from transformers import AutoConfig, PreTrainedTokenizerFast

    with whole(snapshot, "run prepare again", "snapshot"):
        config = AutoConfig.from_pretrained(snapshot, trust_remote_code=False)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(snapshot, trust_remote_code=False)
    return TokenReader(tokenizer, context_of(config))


def sorted_out(
    reader: TokenReader, questions: Sequence[QuestionLine], new: int
) -> tuple[list[QuestionLine], list[dict[str, Any]], list[int]]:
    """The questions that can be read and that the model can hold with an answer of `new` tokens, what is told of the others, and
    the tokens of each that can be read. Raises DataError where none is left."""
    questions, unreadable = readable(reader, questions)
    sizes = lengths(reader, questions)
    kept, too_long = fitting(questions, sizes, reader.longest, new)
    return kept, unreadable + too_long, sizes


def lengths(reader: TokenReader, questions: Sequence[QuestionLine]) -> list[int]:
    """Tokens of each prompt, with the response that it brings."""
    return [
        len(encode(reader.tokenizer, question.prompt + (question.given.response or ""), special=not question.chat).tokens)
        for question in questions
    ]  # fmt: skip


def readable(
    reader: TokenReader, questions: Sequence[QuestionLine]
) -> tuple[list[QuestionLine], list[dict[str, Any]]]:
    """The questions whose given answers the tokenizer can give back, and what is told of the others.

    Raises DataError where it can give back none.
    """

    def trouble(question: QuestionLine) -> str | None:
        response = question.given.response
        if response is None:
            return None
        before, tokens = encode_answer(reader.tokenizer, question.prompt, response, special=not question.chat)
        if len(before) < 2:
            return f"its prompt is {TOO_SHORT}"
        cannot = f"the model's tokenizer cannot give back the response {response[:60]!r}"
        if not tokens or reader.tokenizer.unk_token_id in tokens:
            return f"{cannot}: it has no tokens for some of it"
        if (said := reader.tokenizer.decode(tokens).strip()) == (wanted := response.strip()):
            return None
        pairs = enumerate(zip(said, wanted, strict=False))
        place = next((n for n, (one, other) in pairs if one != other), min(len(said), len(wanted)))
        return f"{cannot}: it reads {said[place : place + 20]!r} for {wanted[place : place + 20]!r}; write it so, and its spans by that"

    return _parted(questions, [*map(trouble, questions)], UNKNOWN, "no response can be read")


def fitting(
    questions: Sequence[QuestionLine], sizes: Sequence[int], longest: int | None, new: int
) -> tuple[list[QuestionLine], list[dict[str, Any]]]:
    """The questions that the model can hold with an answer of `new` tokens, and what is told of the others.

    Raises DataError where none fits.
    """

    def trouble(question: QuestionLine, size: int) -> str | None:
        if size < 2:
            return f"its prompt is {TOO_SHORT}"
        needed = size if question.given.response is not None else size + new
        if longest is None or needed <= longest:
            return None
        return f"its prompt of {size} tokens does not fit the model's context of {longest}; shorten it or lower data.shots"

    return _parted(questions, [*map(trouble, questions, sizes)], TOO_LONG, "no question fits the model")


def _parted(
    questions: Sequence[QuestionLine], troubles: Sequence[str | None], reason: str, none: str
) -> tuple[list[QuestionLine], list[dict[str, Any]]]:
    """The questions without a trouble, and what is told of the others. Raises DataError, with `none`, where none is left."""
    pairs = list(zip(questions, troubles, strict=True))
    left_out = []
    for question, why in pairs:
        if why is not None:
            kind = TOO_SHORT if TOO_SHORT in why else reason
            left_out.append({"row": question.given.row, "id": question.id, "reason": kind, "why": why})
    if left_out and len(left_out) == len(pairs):
        raise DataError(f"{none}: of {left_out[0]['id']!r}, {left_out[0]['why']}")
    return [question for question, why in pairs if why is None], left_out
