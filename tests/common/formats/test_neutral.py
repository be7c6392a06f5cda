"""Texts of others in CSV and Markdown, read back by a spreadsheet's rules and by a Markdown renderer."""

import csv
import html
import io
import re

import pytest
from markdown_it import MarkdownIt

from ghosttrack.common.formats.neutral import csv_cell, markdown_text

FORMULAS = [
    "=1+1",
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    ' =HYPERLINK("x")',
    "＝1",
    "\ufeff=1",
    "\u200b \u202e=1",
    "\x0b\x00+1",
    "\xad@A",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text), "b"])
    [[cell, other]] = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert cell == f"'{text}"
    assert other == "b"


@pytest.mark.parametrize("value", ["Paris", "", "a = b", 1.5, -3, None, True])
def test_other_cells_are_as_they_were(value: object) -> None:
    assert csv_cell(value) == value


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![x](http://evil/x.png)",
     "http://evil.example/a", "www.evil.example", "**bold** _em_ `code`", "a\n# heading", "<!-- -->", "&lt;b&gt;", "\\<b>"],
)  # fmt: skip
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    shown = renderer.render(markdown_text(text))
    elements = re.findall(r"<(/?\w+)", shown)
    assert elements == ["p", "/p"]
    assert html.unescape(shown.removeprefix("<p>").removesuffix("</p>\n")) == " ".join(text.split())
