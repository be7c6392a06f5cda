"""Text of models and data sets in files that other programs open: it stays text there.

A spreadsheet takes a cell for a formula by its first character, and Markdown takes HTML and links for what they are. JSON
files keep the original.
"""

import html
import re

FORMULA = "=+-@\t\r\n＝＋－＠"
"""First characters that make a formula (OWASP, CSV injection)."""


def csv_cell(value: object) -> object:
    """A cell that is no formula: text that begins like one gets an apostrophe before it; numbers are as they were."""
    if isinstance(value, str) and value.lstrip(" \u00a0")[:1] in tuple(FORMULA):
        return f"'{value}"
    return value


def markdown_text(text: str) -> str:
    """One line of Markdown that shows this text and nothing else: no element, link, picture or emphasis.

    A bar is left to whoever makes the table.
    """
    escaped = html.escape(" ".join(text.split()), quote=False)
    escaped = re.sub(r"([\\`*_\[\]{}~#!])", r"\\\1", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")
