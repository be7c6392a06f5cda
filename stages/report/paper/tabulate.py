"""Tables of a run: as LaTeX (booktabs) with rounded figures and as CSV with all digits. Both from the same rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ghosttrack.common.formats.ladder import RUNGS
from ghosttrack.common.formats.neutral import csv_cell
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.paper.numbers import latex

Json = Mapping[str, Any]
Cell = str | int | float | None | Mapping[str, Any]
"""Text, a number, or a figure: `value`, `low`, `high`."""


@dataclass(frozen=True)
class PaperTable:
    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    signed: bool = False


def tables_of(report: Json) -> list[PaperTable]:
    """All tables; those that the report has nothing for are without rows."""
    titles = {card["name"]: card["title"] for card in report["methods"]}
    cards = {card["name"]: card for card in report["methods"]}
    found = []
    for i, split in enumerate(report["splits"]):
        suffix = "" if i == 0 else f"_{split['split']}"
        methods = [method for method in split["methods"] if method["kind"] in ("detector", "baseline")]
        for name, caption, metrics in (
            ("methods", "Telling wrong answers from right ones", tables.RANKING),
            (
                "decisions",
                "Decisions at chosen thresholds, and calibration",
                ("f1", "precision", "recall", "brier", "ece"),
            ),
            ("selective", "Selective answering", ("aurc", "prr", "coverage_80", "coverage_90")),
        ):
            rows = [[titles[m["name"]], *(m["figures"][key] for key in metrics)] for m in methods]
            found.append(
                PaperTable(
                    name + suffix,
                    f"{caption}. {split['title']}.",
                    ["method", *(tables.FIGURES[key] for key in metrics)],
                    rows,
                )
            )
        rungs = sorted(
            (m for m in split["methods"] if m["kind"] == "rung"),
            key=lambda m: list(RUNGS).index(cards[m["name"]]["rung"]),
        )
        both = ("auroc", "auroc_within_relation")
        found.append(PaperTable(f"ladder{suffix}", f"The same latents under other associations. {split['title']}.", ["association", *(tables.FIGURES[key] for key in both)],
                           [[titles[m["name"]], *(m["figures"][key] for key in both)] for m in rungs]))  # fmt: skip
        found.append(
            PaperTable(f"comparisons{suffix}", f"Paired differences. {split['title']}.", ["method", "against", "figure", "difference", "verdict"],
                  [[titles[c["method"]], titles[c["against"]], tables.FIGURES[c["metric"]], c["difference"], c["verdict"]] for c in split["comparisons"]], signed=True)
        )  # fmt: skip
    main = list(report["relations"][0]["auroc"]) if report["relations"] else []
    found += [
        PaperTable("early_warning", "What is known after the first layers.", ["last layer", "before the answer", "AUROC", "AUROC within relation"],
              [["all" if p["layer"] is None else p["layer"], "yes" if p["before_answer"] else "no", p["auroc"], p["auroc_within_relation"]] for p in report["early_warning"]]),
        PaperTable("relations", "AUROC inside each relation.", ["relation", "questions", "wrong", *(titles[name] for name in main)],
              [[r["relation"], r["n"], r["n_wrong"], *(r["auroc"][name] for name in main)] for r in report["relations"]]),
        PaperTable("transfers", "From one data set to another, nothing fitted again: AUROC.", (moved := tables.transfers(report))[0],
              moved[1:] if len(moved) > 2 else []),
        PaperTable("error_types", "Kinds of wrong answers.", ["kind", "answers", "AUROC", "best baseline", "found"],
              [[e["name"], e["n"], e["auroc"], e["baseline_auroc"], e["found"]] for e in report["error_types"]]),
        PaperTable("saes", "Sparse autoencoders on held-out text.", ["layer", "L0", "FVU", "MSE", "dead", "CE recovered", "KL recovered"],
              [[s["layer"], s["l0"], s["fvu"], s["mse"], s["dead_fraction"], s["ce_recovered"], s["kl_recovered"]] for s in report["sae"]]),
        PaperTable("expectations", "Expected and found quality.", ["what", "wanted", "found", "met"],
              [[e["metric"], e["wanted"], e["found"], {True: "yes", False: "no", None: "not measured"}[e["met"]]] for e in report["expectations"]]),
        PaperTable("data", "Data.", ["what", "count"],
              [[name, report["data"][key]] for key, name in (("n_questions", "questions"), ("n_labelled", "with a label"), ("n_wrong", "answered wrongly"),
               ("n_right", "answered correctly"), ("n_groups", "groups"), ("n_relations", "relations"))]
              + ([["openings of the frozen test", report["frozen_test_openings"]]] if report.get("frozen_test_openings") else [])),
    ]  # fmt: skip
    return found


def as_latex(table: PaperTable) -> str:
    """A `table` environment; wide ones span two columns and shrink to fit."""
    columns = "l" * _text_columns(table) + "r" * (len(table.header) - _text_columns(table))
    wide = len(table.header) > 3
    environment = "table*" if wide else "table"
    body = [" & ".join(_shown(cell, table.signed) for cell in row) + r" \\" for row in table.rows]
    lines = [
        rf"\begin{{{environment}}}[htbp]",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        r"\small",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(latex(title) for title in table.header) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def _text_columns(table: PaperTable) -> int:
    count = 0
    while count < len(table.header) and all(isinstance(row[count], str) for row in table.rows):
        count += 1
    return max(count, 1)


def _shown(cell: Cell, signed: bool) -> str:
    if isinstance(cell, Mapping):
        return latex(tables.figure(cell, signed=signed))
    if isinstance(cell, str):
        return latex(cell)
    return latex(tables.number(cell, 0 if isinstance(cell, int) else 3))


def as_csv(table: PaperTable) -> str:
    """A figure takes three columns; numbers have all their digits."""
    figures = [
        any(isinstance(row[column], Mapping) for row in table.rows) for column in range(len(table.header))
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            csv_cell(name)
            for title, figure in zip(table.header, figures, strict=True)
            for name in ((title, f"{title} low", f"{title} high") if figure else (title,))
        ]
    )
    for row in table.rows:
        cells: list[Any] = []
        for cell in row:
            cells += [cell["value"], cell["low"], cell["high"]] if isinstance(cell, Mapping) else [cell]
        writer.writerow(["" if cell is None else csv_cell(cell) for cell in cells])
    return file.getvalue()
