"""Tables of a run: as LaTeX (booktabs) with rounded figures and as CSV with all digits. Both from the same rows."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


DECIDED = ("f1", "precision", "recall", "brier", "ece")
MEASURES = {
    "methods": ("Telling wrong answers from right ones", tables.RANKING),
    "decisions": ("Decisions at chosen thresholds, and calibration", DECIDED),
    "selective": ("Selective answering", ("aurc", "prr", "coverage_80", "coverage_90")),
}
"""Tables of a split's methods: caption and figures."""
COUNTS = {
    "n_questions": "questions", "n_labelled": "with a label", "n_wrong": "answered wrongly", "n_right": "answered correctly",
    "n_groups": "groups", "n_relations": "relations",
}  # fmt: skip
SAES = {
    "layer": "layer", "L0": "l0", "FVU": "fvu", "MSE": "mse", "dead": "dead_fraction", "CE recovered": "ce_recovered",
    "KL recovered": "kl_recovered",
}  # fmt: skip
ERRORS = {
    "kind": "name",
    "answers": "n",
    "AUROC": "auroc",
    "best baseline": "baseline_auroc",
    "found": "found",
}
BOTH = tables.RANKING[:2]


def tables_of(report: Json) -> list[PaperTable]:
    """All tables; those that the report has nothing for are without rows."""
    titles = tables.titles(report)
    main = list(report["relations"][0]["auroc"]) if report["relations"] else []
    early = [
        ["all" if p["layer"] is None else p["layer"], "yes" if p["before_answer"] else "no", *(p[key] for key in BOTH)]
        for p in report["early_warning"]
    ]  # fmt: skip
    relations = [
        [r["relation"], r["n"], r["n_wrong"], *(r["auroc"][k] for k in main)] for r in report["relations"]
    ]
    moved, *moves = tables.transfers(report)
    met = {True: "yes", False: "no", None: "not measured"}
    expected = [[e["metric"], e["wanted"], e["found"], met[e["met"]]] for e in report["expectations"]]
    counts = [[name, report["data"][key]] for key, name in COUNTS.items()]
    if report.get("frozen_test_openings"):
        counts.append(["openings of the frozen test", report["frozen_test_openings"]])
    return [
        *(table for number, split in enumerate(report["splits"]) for table in _of_split(report, split, number)),
        PaperTable("early_warning", "What is known after the first layers.",
                   ["last layer", "before the answer", "AUROC", "AUROC within relation"], early),
        PaperTable("relations", "AUROC inside each relation.",
                   ["relation", "questions", "wrong", *(titles[name] for name in main)], relations),
        PaperTable("transfers", "From one data set to another, nothing fitted again: AUROC.", moved,
                   moves if len(moves) > 1 else []),
        _of_records("error_types", "Kinds of wrong answers.", ERRORS, report["error_types"]),
        _of_records("saes", "Sparse autoencoders on held-out text.", SAES, report["sae"]),
        PaperTable("expectations", "Expected and found quality.", ["what", "wanted", "found", "met"], expected),
        PaperTable("data", "Data.", ["what", "count"], counts),
    ]  # fmt: skip


def _of_split(report: Json, split: Json, number: int) -> Iterator[PaperTable]:
    """number: of the split; the first one's tables have plain names."""
    titles, suffix = tables.titles(report), f"_{split['split']}" if number else ""
    rung_of = {card["name"]: card["rung"] for card in report["methods"]}

    def of_methods(
        name: str, caption: str, first: str, methods: Iterable[Json], keys: Sequence[str]
    ) -> PaperTable:
        rows = [[titles[m["name"]], *(m["figures"][key] for key in keys)] for m in methods]
        header = [first, *(tables.FIGURES[key] for key in keys)]
        return PaperTable(name + suffix, f"{caption}. {split['title']}.", header, rows)

    methods = [method for method in split["methods"] if method["kind"] in ("detector", "baseline")]
    for name, (caption, keys) in MEASURES.items():
        yield of_methods(name, caption, "method", methods, keys)
    rungs = [method for method in split["methods"] if method["kind"] == "rung"]
    rungs.sort(key=lambda method: list(RUNGS).index(rung_of[method["name"]]))
    yield of_methods("ladder", "The same latents under other associations", "association", rungs, BOTH)
    compared = []
    for each in split["comparisons"]:
        named = [titles[each["method"]], titles[each["against"]], tables.FIGURES[each["metric"]]]
        compared.append([*named, each["difference"], each["verdict"]])
    header, caption = ["method", "against", "figure", "difference", "verdict"], "Paired differences."
    yield PaperTable(f"comparisons{suffix}", f"{caption} {split['title']}.", header, compared, signed=True)


def _of_records(name: str, caption: str, columns: Mapping[str, str], records: Iterable[Json]) -> PaperTable:
    """columns: header to key."""
    rows = [[each[key] for key in columns.values()] for each in records]
    return PaperTable(name, caption, list(columns), rows)


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
    lines: list[list[Any]] = [[]]
    for column, title in enumerate(table.header):
        figure = any(isinstance(row[column], Mapping) for row in table.rows)
        lines[0] += [title, f"{title} low", f"{title} high"] if figure else [title]
    for row in table.rows:
        lines.append([])
        for cell in row:
            lines[-1] += [cell["value"], cell["low"], cell["high"]] if isinstance(cell, Mapping) else [cell]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([csv_cell(cell) for cell in line] for line in lines)
    return file.getvalue()
