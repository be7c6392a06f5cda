"""How long prompts are in the model's tokens, and which of them do not fit its context. No weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import DataError, ModelSourceError
from ghosttrack.common.models.prompts import encode, encode_answer
from ghosttrack.stages.prepare.prompts import QuestionLine

TOO_LONG, UNKNOWN = "longer than the context", "not in the vocabulary"


class TokenReader(NamedTuple):
    """A model's tokenizer, and how many tokens the model sees at most (None: no bound is known)."""

    tokenizer: Any
    longest: int | None


def reader_of(source: str | Path, **arguments: Any) -> TokenReader:
    """Of a snapshot's folder, or of another place that transformers reads. Raises ModelSourceError."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **arguments)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **arguments)
    except (OSError, ValueError) as error:
        if found := storage_error(error, Path(source), "read"):
            raise found from error
        raise ModelSourceError(
            f"{source} is not a usable snapshot: {' '.join(str(error).split())}"
        ) from error
    return TokenReader(tokenizer, getattr(config.get_text_config(), "max_position_embeddings", None))


def lengths(reader: TokenReader, questions: Sequence[QuestionLine]) -> list[int]:
    """Tokens of each prompt, with the response that it brings."""
    return [
        len(encode(reader.tokenizer, question.prompt + (question.given.response or ""), special=not question.chat).tokens)
        for question in questions
    ]  # fmt: skip


def readable(
    reader: TokenReader, questions: Sequence[QuestionLine]
) -> tuple[list[QuestionLine], list[dict[str, Any]]]:
    """The questions whose given answers the tokenizer can give back, and what is told of the others."""
    kept, left_out = [], []
    for question in questions:
        response = question.given.response
        tokens = [] if response is None else encode_answer(
            reader.tokenizer, question.prompt, response, special=not question.chat)[1]  # fmt: skip
        if response is None or (tokens and reader.tokenizer.unk_token_id not in tokens):
            kept.append(question)
            continue
        why = f"the model's tokenizer cannot give back the response {response[:60]!r}: it has no tokens for some of it"
        left_out.append({"row": question.given.row, "id": question.id, "reason": UNKNOWN, "why": why})
    if left_out and not kept:
        raise DataError(f"no response can be read: of {left_out[0]['id']!r}, {left_out[0]['why']}")
    return kept, left_out


def fitting(
    questions: Sequence[QuestionLine], sizes: Sequence[int], longest: int | None, new: int
) -> tuple[list[QuestionLine], list[dict[str, Any]]]:
    """The questions that the model can hold with an answer of `new` tokens, and what is told of the others.

    Raises DataError where none fits.
    """
    kept, left_out = [], []
    for question, size in zip(questions, sizes, strict=True):
        needed = size if question.given.response is not None else size + new
        if longest is None or needed <= longest:
            kept.append(question)
            continue
        why = f"its prompt of {size} tokens does not fit the model's context of {longest}; shorten it or lower data.shots"
        left_out.append({"row": question.given.row, "id": question.id, "reason": TOO_LONG, "why": why})
    if left_out and not kept:
        raise DataError(f"no question fits the model: of {left_out[0]['id']!r}, {left_out[0]['why']}")
    return kept, left_out
