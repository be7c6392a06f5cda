"""Text of models and data sets in files that other programs open: it stays text there.

A spreadsheet takes a cell for a formula by its first character, and Markdown takes HTML and links for what they are. JSON
files keep the original.
"""

import html
import re
from collections.abc import Sequence

FORMULA = "=+-@\t\r\n＝＋－＠"
"""First characters that make a formula (OWASP, CSV injection)."""
UNSEEN = re.compile(r"^[\s\x00-\x1f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
"""What may stand before one and is not seen: spaces, controls, byte order marks, marks of direction."""


def csv_cell(value: object) -> object:
    """A cell that is no formula: text that begins like one gets an apostrophe before it; numbers are as they were."""
    if isinstance(value, str) and {value[:1], UNSEEN.sub("", value)[:1]} & set(FORMULA):
        return f"'{value}"
    return value


def markdown_text(text: str) -> str:
    """One line of Markdown that shows this text and nothing else: no element, link, picture or emphasis.

    A bar is left to whoever makes the table.
    """
    escaped = html.escape(" ".join(text.split()), quote=False)
    escaped = re.sub(r"([\\`*_\[\]{}~#!])", r"\\\1", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and rows."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
