"""Tell what came out: a summary on the terminal, and a Markdown file with pictures that can be sent as a folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.page import PICTURES, data_sentence, page, surest
from ghosttrack.stages.report.results import REPORT_VERSION

SCORES_VERSION = 3


def run(job: Job) -> dict[str, Any]:
    report = read(job.input("evaluate/all", "final_report.json"), REPORT_VERSION, "evaluate")
    scores = read(job.input("detect/all", "hallucination_scores.json"), SCORES_VERSION, "detect")
    # Nothing that has a time in it: the same inputs give the same page.
    sources = [
        ["result", "task key"],
        *([f"`{name}`", f"`{entry.key[:16]}`"] for name, entry in job.entries.items()),
    ]
    text = page(report, surest(scores["questions"]), sources)
    job.output("report.md").write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copyfile(job.input("evaluate/all", picture), job.output(picture))
    summarise(Console(file=sys.stdout, highlight=False), report)
    return {"headline": report["headline"]["detector"], "tracking": report["headline"]["tracking"]}


def read(path: Path, wanted: int, stage: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptInputError(f"{path} cannot be read ({error}); run {stage} again") from error
    if version != wanted:
        raise CorruptInputError(f"{path} has schema version {version}, not {wanted}; run {stage} again")
    return dict(content)


def summarise(console: Console, report: dict[str, Any]) -> None:
    """The finding, the main methods and the expectations, compact enough for one screen."""
    console.print()
    console.print(f"[bold]{report['name']}[/bold]  {report['headline']['tracking']}")
    console.print(report["headline"]["detector"])
    console.print(data_sentence(report["data"]))
    grouped = report["splits"][0]
    main = {**grouped, "methods": [m for m in grouped["methods"] if m["name"] in report["main_methods"]]}
    methods = tables.methods(report, main, ("auroc", "auroc_within_relation", "f1"), digits=2)
    methods = [
        ["method", "AUROC", "within a relation", "F1"],
        *([name, *rest] for name, _, *rest in methods[1:]),
    ]
    expected = [row[:-2] for row in tables.expectations(report)]
    for rows in (methods, expected):
        console.print(_table(rows))
    console.print(f"intervals: {report['confidence']:.0%}, over groups of questions")


def _table(rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, title in enumerate(rows[0]):
        table.add_column(title, no_wrap=column > 0)  # names wrap, figures do not
    for row in rows[1:]:
        table.add_row(*row)
    return table
