"""Texts of tokens: of a whole vocabulary, or from a tokenizer.json alone, where a reader needs only what a number stands for.

Byte-level vocabularies (GPT-2 and most models since) write each byte as a printable character; others mark spaces by `▁`
and bytes as `<0x0A>`. A token that is a part of a character reads as the replacement character, as tokenizers decode it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any


def all_texts(tokenizer: Any) -> list[str]:
    """The text of every number up to a tokenizer's last token, each decoded by itself: "" where numbers were left out."""
    last = max(tokenizer.get_vocab().values())
    return list(tokenizer.batch_decode([[token] for token in range(last + 1)]))


def token_texts(tokenizer: Mapping[str, Any], ids: Iterable[int]) -> dict[int, str]:
    """Number to text, of the numbers that are in the vocabulary. tokenizer: the content of tokenizer.json."""
    vocabulary, ids = tokenizer["model"]["vocab"], dict.fromkeys(ids)
    numbered = enumerate(name for name, _ in vocabulary) if isinstance(vocabulary, list) else (
        (number, name) for name, number in vocabulary.items()
    )  # fmt: skip
    pieces = {number: name for number, name in numbered if number in ids}
    added = {entry["id"]: entry["content"] for entry in tokenizer.get("added_tokens", ())}
    read = _from_bytes if "ByteLevel" in str(tokenizer.get("decoder")) else _from_marks
    return {
        number: added[number] if number in added else read(pieces[number])
        for number in ids
        if number in added or number in pieces
    }


def _byte_of_character() -> dict[str, int]:
    """The characters that stand for bytes: printable ones for themselves, the rest from U+0100 on (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTES = _byte_of_character()


def _from_bytes(piece: str) -> str:
    if not all(c in _BYTES for c in piece):
        return piece
    return bytes(_BYTES[c] for c in piece).decode("utf-8", "replace")


def _from_marks(piece: str) -> str:
    if found := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes([int(found[1], 16)]).decode("utf-8", "replace")
    return piece.replace("▁", " ")
