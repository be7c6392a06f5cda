"""A run's numbers for a paper: tables, figures, macros, the methods' references, and where each number is from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.package import package_file
from ghosttrack.stages.report.dashboard.run_card import code_of
from ghosttrack.stages.report.paper.figures import write_figures
from ghosttrack.stages.report.paper.inspect_log import inspect_log
from ghosttrack.stages.report.paper.numbers import Number, latex, numbers_of
from ghosttrack.stages.report.paper.tabulate import as_csv, as_latex, tables_of
from ghosttrack.stages.report.results import Results


class Exported(NamedTuple):
    files: list[str]
    missing: list[str]
    """What the export would have of a whole run and has not, each with what mends it."""


def export(results: Results, folder: Path) -> Exported:
    """Write everything that there is. Raises MissingInputError where there is no evaluation."""
    if not results.has(REPORT):
        raise MissingInputError(
            f"{results.name} has no evaluation to export; `ghosttrack run {results.name}` makes it"
        )
    report = results.json(REPORT)
    if not REPORT.is_current(report):
        raise CorruptInputError(
            f"{results.name}: {REPORT.name} has schema version {report.get('schema_version')}, not {REPORT.version}; "
            f"`ghosttrack run {results.name}` makes it again"
        )
    quality = results.json_if_there(QUALITY)
    if quality and not QUALITY.is_current(quality):
        quality = None
    numbers = numbers_of(report, quality)
    tables = tables_of(report)
    found = [table for table in tables if table.rows]
    log, samples = inspect_log(results)
    missing = _missing(results, report, quality, [table.name for table in tables if not table.rows])
    files = {
        "macros.tex": macros(numbers),
        "methods.bib": package_file("stages/report/paper/methods.bib").read_text(encoding="utf-8"),
        "PROVENANCE.txt": provenance(results, numbers, missing),
        f"inspect/{log}": samples,
        **{f"tables/{table.name}.tex": as_latex(table) for table in found},
        **{f"tables/{table.name}.csv": as_csv(table) for table in found},
    }
    with storage_errors(folder):
        for name in ("tables", "figures", "inspect"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        figures = write_figures(report, folder / "figures")
        files["results.tex"] = document(report, [table.name for table in found], figures)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
    return Exported([*files, *(f"figures/{name}" for name in figures)], missing)


def _missing(
    results: Results, report: Mapping[str, Any], quality: Mapping[str, Any] | None, empty: Sequence[str]
) -> list[str]:
    lines = []
    if quality is None:
        why = "is of an earlier version" if results.has(QUALITY) else "is not there"
        lines.append(
            f"the macros of the SAEs (\\GTsaeLayer…): {QUALITY.unit}/{QUALITY.name} {why}; `ghosttrack run {results.name}` makes it"
        )
    lines += [f"the table {name}: {REPORT.name} has no rows for it" for name in empty]
    return lines + [f"not measured: {words}" for words in report["absent"]]


def macros(numbers: Sequence[Number]) -> str:
    lines = [
        rf"\newcommand{{\{number.macro}}}{{{latex(number.text) if number.value == number.text else number.text}}}"
        for number in numbers
    ]
    head = "% Made by `ghosttrack export`; PROVENANCE.txt says where each number is from."
    return "\n".join([head, *lines, ""])


def provenance(results: Results, numbers: Sequence[Number], missing: Sequence[str] = ()) -> str:
    """Each number with the pointer into its file, each file with its digest and that of its manifest, and what is missing."""
    head = f"Numbers of {results.name}. Each line: macro, value in full, file and place in it (JSON pointer)."
    lines = [head, ""]
    for file in dict.fromkeys(number.file for number in numbers):
        entry = results.entries[file.unit]
        lines += [
            file.name,
            f"  unit      {file.unit}",
            f"  sha256    {results.digest(file.unit, file.name)}",
            f"  manifest  sha256 {entry.manifest_sha256}",
            f"  task key  {entry.key}",
            f"  code      {code_of(entry.manifest) or 'unknown'}",
            f"  finished  {entry.manifest.predicate.run_details.metadata.finished_on}",
            "",
        ]
    for each in numbers:
        interval = each.value is None and each.macro.endswith("CI")
        lines.append(
            f"\\{each.macro}\t{'with its interval' if interval else each.value}\t{each.file.name}#{each.pointer}"
        )
    if missing:
        lines += ["", "Not here:", *(f"  {line}" for line in missing)]
    lines += ["", "Tables and figures are drawn from final_report.json alone. Check it all with"]
    return "\n".join([*lines, f"  ghosttrack verify {results.name} --deep", ""])


def document(report: Mapping[str, Any], names: Sequence[str], figures: Sequence[str]) -> str:
    """A document that shows everything that was exported."""
    inputs = "\n".join(rf"\input{{tables/{name}}}" for name in names)
    pictures = "\n".join(
        rf"\begin{{figure}}[htbp]\centering\includegraphics[width=\linewidth]{{figures/{name}}}\caption{{{latex(name.removesuffix('.pdf').replace('_', ' '))}.}}\end{{figure}}"
        for name in figures
    )
    return rf"""\documentclass[twocolumn]{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[utf8]{{inputenc}}
\usepackage{{lmodern,booktabs,graphicx}}
\usepackage[margin=2cm]{{geometry}}
\extrafloats{{100}}
\input{{macros}}
\title{{Results of {latex(report["name"])}}}
\date{{}}
\begin{{document}}
\maketitle
\noindent {" ".join(latex(report["headline"][part]) for part in ("contexts", "detector", "tracking"))}

Of \GTNQuestions{{}} questions \GTNLabelled{{}} have a label; \GTprevalence{{}} were answered wrongly. The detector reaches
an AUROC of \GTaurocCI{{}}. Autoencoders are JumpReLU~\cite{{rajamanoharan2024jumprelu}}; intervals are
\GTconfidence{{}} cluster bootstrap intervals~\cite{{field2007bootstrapping}}.
{inputs}
{pictures}
\clearpage
\nocite{{*}}
\raggedright
\bibliographystyle{{plain}}
\bibliography{{methods}}
\end{{document}}
"""
