"""Tell what came out: a summary on the terminal, and a Markdown file with pictures that can be sent as a folder."""

import shutil
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.report import PICTURES, REPORT_PAGE
from ghosttrack.common.formats.token_scores import TOKEN_METRICS
from ghosttrack.common.formats.validation import VALIDATION
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.page import data_sentence, page, plain_sentence, surest


def run(job: Job) -> dict[str, Any]:
    report = REPORT.read(job.input(REPORT))
    scores = SCORES.read(job.input(SCORES))
    # Nothing that has a time in it: the same inputs give the same page.
    sources = [
        ["result", "task key"],
        *([f"`{name}`", f"`{entry.key[:16]}`"] for name, entry in job.entries.items()),
    ]
    tokens = TOKEN_METRICS.read(job.input(TOKEN_METRICS))
    validation = VALIDATION.read(job.input(VALIDATION))
    text = page(report, surest(scores["questions"]), sources, tokens, validation)
    job.output(REPORT_PAGE).write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copyfile(job.input(picture), job.output(picture))
    summarise(Console(file=sys.stdout, highlight=False, markup=False), report)
    return {"headline": report["headline"]["detector"], "tracking": report["headline"]["tracking"]}


def summarise(console: Console, report: dict[str, Any]) -> None:
    """The finding, the main methods and the expectations, compact enough for one screen."""
    console.print()
    undefined = report.get("undefined")
    console.print(Text.assemble((report["name"], "bold"), f"  {undefined or plain_sentence(report)}"))
    console.print(data_sentence(report["data"]))
    if undefined:
        console.print(tables.in_terminal([row[:-2] for row in tables.expectations(report)]))
        return
    methods = tables.main_methods(report, ("auroc", "auroc_within_relation", "f1"), digits=2)
    shown = [["method", "AUROC", "within a relation", "F1"], *([row[0], *row[2:]] for row in methods[1:])]
    expected = [row[:-2] for row in tables.expectations(report)]
    for rows in (shown, expected):
        console.print(tables.in_terminal(rows))
    console.print(f"intervals: {report['confidence']:.0%}, over groups of questions")
