"""The tokens of a prompt: what the model's own tokenizer makes of the whole text, special tokens included.

A text is never tokenised in parts, since tokenizers of the SentencePiece kind put a space in front of every text that
they are given, and others join what stands on both sides of a seam. What is shared between prompts is found afterwards,
as a common prefix of their tokens. The subject and a given answer are found by character offsets in the whole text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.questions import in_chat, prompt_of


class Encoded(NamedTuple):
    """A text as tokens. offsets: characters [start, stop) of each token; empty ranges for special tokens."""

    tokens: list[int]
    offsets: list[tuple[int, int]]


class Prompt(NamedTuple):
    """A prompt's tokens, and which of them is the subject's last; None: there is none that may be tracked."""

    tokens: list[int]
    subject: int | None


def encode(model: Any, text: str, *, special: bool = True) -> Encoded:
    """A whole text as the tokenizer of a model has it: `tokenizer(text)`. model: a `LanguageModel`, or a tokenizer.

    special: False for a text that holds its special tokens already, as chat templates write them.
    """
    tokenizer = getattr(model, "tokenizer", model)
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    return Encoded(list(encoded.input_ids), [tuple(pair) for pair in encoded.offset_mapping])


def encode_question(model: Any, question: Mapping[str, Any]) -> Prompt:
    """A line of questions.jsonl as the model reads it. Raises as `encode_prompt`."""
    start = len(question["prefix"])
    return encode_prompt(
        model, prompt_of(question), question["subject"], start, start + len(question["query"]), special=not in_chat(question)
    )  # fmt: skip


def encode_prompt(
    model: Any, text: str, subject: str, start: int = 0, stop: int | None = None, *, special: bool = True
) -> Prompt:
    """A prompt's tokens and its subject's last token, which is looked for in the characters [start, stop).

    A subject at position 0 is none, since position 0 is a sink and is never tracked. Raises DataError for a prompt of
    fewer than two tokens.
    """
    encoded = encode(model, text, special=special)
    if len(encoded.tokens) < 2:
        raise DataError(f"the prompt {text!r} is shorter than two tokens")
    end = end_of_subject(text[start:stop], subject)
    if end is None:
        return Prompt(encoded.tokens, None)
    found = [number for number, (first, stop) in enumerate(encoded.offsets) if first < start + end <= stop]
    return Prompt(encoded.tokens, found[-1] if found and found[-1] else None)


def encode_answer(
    model: Any, prompt: str, answer: str, *, special: bool = True
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt with a given answer behind it, cut where the answer's first token begins.

    answer: with the space that stands before it, if one does. A token with characters of both is the answer's.
    """
    tokens, offsets = encode(model, prompt + answer, special=special)
    # a space of its own may have an empty range, at its end; a special token's is at the text's start
    own = [number for number, (_, stop) in enumerate(offsets) if stop > len(prompt)] or [len(tokens)]
    return tokens[: own[0]], tokens[own[0] : own[-1] + 1]


def end_of_subject(text: str, subject: str) -> int | None:
    """Where the last mention of a subject ends: as whole words if there is one, in any case of letters."""
    name = re.escape(subject.strip())
    for pattern in (rf"(?<!\w){name}(?!\w)", name) if name else ():
        if mentions := list(re.finditer(pattern, text, re.IGNORECASE)):
            return mentions[-1].end()
    return None


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with in common; at least one row."""
    first, last = min(rows, key=list), max(rows, key=list)  # in lexical order: what these two share, all do
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(map(len, rows)))


def around(model: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before every text, and those behind it."""
    whole, own = encode(model, "a").tokens, encode(model, "a", special=False).tokens
    at = next((n for n in range(len(whole)) if whole[n : n + len(own)] == own), len(whole))
    return whole[:at], whole[at + len(own) :]
