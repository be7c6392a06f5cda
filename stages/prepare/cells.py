"""Lists and objects that a table holds as text, as tables of other programs do: JSON, Python's own notation, and that of NumPy
arrays (`['a' 'b']`, `array(['a'], dtype=object)`), which pandas writes into the CSV file of what it read from Parquet.
"""

import ast
import contextlib
import io
import json
import re
import tokenize
from typing import Any

TEXTS = frozenset({"question", "prompt", "passage", "response", "context", "text"})
"""Columns that hold text whatever it looks like."""
_ARRAY = re.compile(r"\barray\((\[.*?\])(?:, dtype=[\w<>' ]+)?\)", re.DOTALL)
_NAN = re.compile(r"\bnan\b")


def of_cell(name: str, text: Any) -> Any:
    """The list or object that a cell writes down; what is there itself where it is no such text, or a list of numbers alone."""
    if not isinstance(text, str):
        return text
    stripped = text.strip()
    if name.lower() in TEXTS or stripped[:1] + stripped[-1:] not in ("[]", "{}"):
        return text
    for read in (json.loads, _literal):
        with contextlib.suppress(
            ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError
        ):
            found = read(stripped)
            if isinstance(found, dict) or (
                isinstance(found, list) and not (found and all(map(_is_number, found)))
            ):
                return found
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _literal(text: str) -> Any:
    """A Python literal; two values side by side are two elements, as NumPy writes them, and two strings not one text."""
    text = _NAN.sub("None", _ARRAY.sub(r"\1", text))
    parts: list[str] = []
    ended = False
    for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ")).readline):
        value = token.type in (tokenize.STRING, tokenize.NUMBER)
        if ended and (value or token.string in ("[", "{")):
            parts.append(",")
        ended = value or token.string in ("]", "}")
        parts.append(token.string)
    return ast.literal_eval(" ".join(parts).strip())
