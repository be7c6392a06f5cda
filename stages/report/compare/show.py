"""The comparison of models as text for the terminal, as Markdown and as HTML."""

import base64
import html
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.text import Text

from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.neutral import markdown_table, markdown_text
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.compare.facts import SAE_FIGURES, Interval, ModelFacts, facts_of, stages_of
from ghosttrack.stages.report.compare.paired import CONFIDENCE, RESAMPLES, Difference, compare_pair
from ghosttrack.stages.report.compare.plots import draw
from ghosttrack.stages.report.results import Results

Rows = list[list[str]]
Pairs = dict[tuple[str, str], Difference | None]
WIDTH, STEPS = 40, "▁▂▃▄▅▆▇█"


def compare_results(results: Sequence[Results], output: Path | None) -> None:
    """Print the comparison; with `output`, write comparison.md, comparison.html and the plots there."""
    names = names_of(results)
    facts = [facts_of(each, name) for each, name in zip(results, names, strict=True)]
    pairs = paired(results)
    console = Console(
        file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else 120
    )
    for title, rows in parts(facts, pairs):
        console.print(Text(f"\n{title}", "bold"), tables.in_terminal(rows, wrap=True), sep="\n")
    for title, lines in in_characters(facts):
        console.print(Text(f"\n{title}", "bold"), tables.in_terminal(lines, headed=False), sep="\n")
    for line in notes(facts, pairs):
        console.print(Text(line), style="dim")
    if output is None:
        return
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        plots = draw(facts)
        for name, content in plots.items():
            (output / name).write_text(content, encoding="utf-8")
        (output / "comparison.md").write_text(markdown(facts, pairs, list(plots)), encoding="utf-8")
        (output / "comparison.html").write_text(page(facts, pairs, plots), encoding="utf-8")
    console.print(f"\n{output}: comparison.md, comparison.html, {', '.join(plots)}")


def names_of(results: Sequence[Results]) -> list[str]:
    """What to call each: its name, with its root where another run has the same name. Raises ConfigError for one run twice."""
    places = [(each.name, str(each.store.root.resolve())) for each in results]
    if doubled := next((place for place in places if places.count(place) > 1), None):
        raise ConfigError(f"{doubled[1]}/results/{doubled[0]} is given twice; compare it with another run")
    names, shared = [name for name, _ in places], os.path.commonpath([root for _, root in places])
    return [
        f"{name} ({os.path.relpath(root, shared)})" if names.count(name) > 1 else name
        for name, root in places
    ]


def paired(results: Sequence[Results]) -> Pairs:
    """Each model against each one before it."""
    names = names_of(results)
    scores = [each.json_if_there(SCORES) or {"questions": []} for each in results]
    return {
        (names[a], names[b]): compare_pair(scores[a]["questions"], scores[b]["questions"])
        for a, b in itertools.combinations(range(len(results)), 2)
    }


def parts(facts: Sequence[ModelFacts], pairs: Pairs) -> list[tuple[str, Rows]]:
    """Titled tables: header and rows."""
    found = [
        ("Models", models(facts)),
        ("Detection, each model on its own questions", detection(facts)),
        ("SAEs by relative depth", saes(facts)),
    ]
    if any(each.transfers for each in facts):
        found.append(
            ("From one data set (row) to another (column), nothing fitted again: AUROC", transfers(facts))
        )
    if any(pairs.values()):
        found.append(("On the questions that both were asked, second − first", differences(pairs)))
    return [(title, rows) for title, rows in found if len(rows) > 1]


def notes(facts: Sequence[ModelFacts], pairs: Pairs) -> list[str]:
    """What to know when reading the tables, and what is missing."""
    lines = [
        f"{first} and {second} share too few questions with labels and scores for paired intervals; no difference is shown."
        for (first, second), found in pairs.items()
        if found is None
    ]
    if any(pairs.values()):
        lines.append(
            f"Paired intervals: {CONFIDENCE:.0%}, {RESAMPLES:,} bootstrap resamples of groups of shared questions, the same for both."
        )
    for each in facts:
        lines += [
            f"{each.name}: {file} was made by an earlier version and is not read; `ghosttrack run {each.run}` makes it again."
            for file in each.outdated
        ]
        if each.undefined:
            lines.append(f"{each.name}: {each.undefined}")
        elif not each.figures and REPORT.name not in each.outdated:
            lines.append(f"{each.name} has no evaluation yet; `ghosttrack run {each.run}` makes it.")
        if not each.sae and QUALITY.name not in each.outdated:
            lines.append(f"{each.name} has no measured SAEs yet; `ghosttrack run {each.run}` makes them.")
    return lines


def models(facts: Sequence[ModelFacts]) -> Rows:
    """A row a property, a column a model; with two models, the ratio."""
    rows = [
        _row("layers studied", [each.layers for each in facts]),
        _row("width", [each.width for each in facts]),
        _row("latents of a SAE", [each.latents for each in facts]),
        _row("rows a forward pass of the extraction", [each.extract_batch for each in facts]),
        _row("tokens a training step of a SAE", [each.train_batch for each in facts]),
        _row("model on disk", [each.model_bytes for each in facts], format_bytes),
        _row("time in all", [sum(each.seconds.values()) for each in facts], format_seconds),
        *(_row(f"  {stage}", [each.seconds.get(stage) for each in facts], format_seconds) for stage in stages_of(facts)),
        _row("storage in all", [sum(each.bytes.values()) for each in facts], format_bytes),
        *(_row(f"  {stage}", [each.bytes.get(stage) for each in facts], format_bytes) for stage in stages_of(facts)),
        _row("most memory of a unit", [each.memory for each in facts], format_bytes),
    ]  # fmt: skip
    ratio = ["ratio"] if len(facts) == 2 else []
    named = ["model", *(each.model or "–" for each in facts), *([""] if ratio else [])]
    return [["", *(each.name for each in facts), *ratio], named, *rows]


def _row(
    title: str, values: Sequence[float | None], show: Callable[[float], str] = lambda value: f"{value:,.0f}"
) -> list[str]:
    ratio = []
    if len(values) == 2:
        first, second = values
        ratio = [f"{second / first:.2f}×" if first and second else "–"]
    return [title, *("–" if value is None else show(value) for value in values), *ratio]


def detection(facts: Sequence[ModelFacts]) -> Rows:
    names = {
        "auroc": "AUROC",
        "auroc_within_relation": "AUROC within relation",
        "f1": "F1",
        "baseline": "AUROC of the best baseline",
    }
    rows = [["model", "questions", "wrong", "detector", *names.values(), "best baseline"]]
    for each in facts:
        if each.figures and each.questions:
            rows.append(
                [each.name, f"{each.questions:,}", tables.share((each.wrong or 0) / each.questions), each.detector or "–",
                 *(figure(each.figures.get(key)) for key in names), each.best_baseline or "–"]
            )  # fmt: skip
    return rows


def transfers(facts: Sequence[ModelFacts]) -> Rows:
    """A row a configuration whose detector was taken, a column a run whose questions it scored; its own out of fold."""
    names = dict.fromkeys(
        [*(each.run for each in facts), *(name for each in facts for name in each.transfers)]
    )
    rows = [
        [name, *(figure(each.figures.get("auroc") if name == each.run else each.transfers.get(name)) for each in facts)]
        for name in names
    ]  # fmt: skip
    return [["from", *(each.name for each in facts)], *rows]


def figure(entry: Interval | None, signed: bool = False) -> str:
    return "–" if entry is None else tables.figure(entry._asdict(), signed=signed)


def saes(facts: Sequence[ModelFacts]) -> Rows:
    """Means over the layers whose depth lies in each quarter of the model."""
    columns = (
        ("fvu", "FVU", tables.number),
        ("ce_recovered", "cross-entropy recovered", tables.share),
        ("l0", "L0", lambda value: tables.number(value, 1)),
    )
    rows = [["depth", *(f"{each.name}: {name}" for each in facts for _, name, _ in columns)]]
    if not any(each.sae for each in facts):
        return rows
    for quarter in range(4):
        cells = []
        for each in facts:
            layers = [layer for layer in each.sae if min(int(4 * (layer["depth"] or 0.0)), 3) == quarter]
            for key, _, show in columns:
                known = [value for layer in layers if (value := layer[key]) is not None]
                cells.append(show(sum(known) / len(known)) if known else "–")
        rows.append([f"{quarter / 4:.0%}–{(quarter + 1) / 4:.0%}", *cells])
    return rows


def differences(pairs: Pairs) -> Rows:
    rows = [["first", "second", "questions", "AUROC", "AUROC within relation", "share answered correctly"]]
    for (first, second), found in pairs.items():
        if found:
            cells = [
                f"{tables.number(found.first[key])} → {tables.number(found.second[key])}: "
                f"{figure(getattr(found, key), signed=True)}"
                for key in ("auroc", "within_relation", "accuracy")
            ]
            rows.append([first, second, f"{found.n:,}", *cells])
    return rows


def markdown(facts: Sequence[ModelFacts], pairs: Pairs, plots: Sequence[str]) -> str:
    pieces = [f"# {' and '.join(markdown_text(each.name) for each in facts)}"]
    for title, rows in parts(facts, pairs):
        rows = [
            [markdown_text(cell) if row[0] == "model" else html.escape(cell, quote=False) for cell in row]
            for row in rows
        ]
        pieces += [f"## {title}", markdown_table(rows)]
    pieces += [f"![{name.removesuffix('.svg').replace('_', ' ')}]({name})" for name in plots]
    pieces += notes(facts, pairs)
    return "\n\n".join(pieces) + "\n"


def page(facts: Sequence[ModelFacts], pairs: Pairs, plots: dict[str, str]) -> str:
    """One HTML file without scripts."""
    pieces = []
    for title, rows in parts(facts, pairs):
        head, *body = (
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th"] + ["td"] * len(rows), rows, strict=False)
        )
        pieces.append(
            f"<h2>{html.escape(title)}</h2><div><table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table></div>"
        )
    for name, content in plots.items():
        alternative = html.escape(name.removesuffix(".svg").replace("_", " "))
        pieces.append(
            f'<img alt="{alternative}" src="data:image/svg+xml;base64,{base64.b64encode(content.encode()).decode()}">'
        )
    pieces += [f"<p>{html.escape(line)}</p>" for line in notes(facts, pairs)]
    title = html.escape(" and ".join(each.name for each in facts))
    return PAGE.replace("{title}", title).replace("{body}", "\n".join(pieces))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; } div { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); white-space: pre; }
img { max-width: 100%; background: white; margin: .6rem 0; }
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""


def in_characters(facts: Sequence[ModelFacts]) -> Iterator[tuple[str, list[list[RenderableType]]]]:
    """The same for a terminal that shows no pictures: titles, and rows with bars."""
    aurocs = [
        (f"{each.name}: {title}", entry)
        for each in facts
        for key, title in (("auroc", "detector"), ("baseline", "best baseline"))
        if (entry := each.figures.get(key)) is not None and entry.value is not None
    ]
    if aurocs:
        ends = [0.5, *(end for _, entry in aurocs for end in entry if end is not None)]
        low, high = min(ends), max(ends)
        rows: list[list[RenderableType]] = []
        for name, entry in aurocs:
            first, last = (end - low if end is not None else 0.0 for end in (entry.low, entry.high))
            rows.append([name, Bar(high - low, first, last, width=WIDTH), figure(entry)])
        yield f"AUROC with its interval, from {tables.number(low, 2)} to {tables.number(high, 2)}", rows
    for key, title in SAE_FIGURES.items():
        known = {
            each.name: [value for layer in each.sae if (value := layer[key]) is not None] for each in facts
        }
        if values := [value for heights in known.values() for value in heights]:
            low, high = min(values), max(values)
            lines = {name: sparkline(heights, low, high) for name, heights in known.items()}
            rows = [[name, line or "not measured"] for name, line in lines.items()]
            yield f"{title}, from {tables.number(low)} to {tables.number(high)}, layer by layer", rows
    for title, show, totals in (
        ("Time in all", format_seconds, [sum(each.seconds.values()) for each in facts]),
        ("Storage in all", format_bytes, [float(sum(each.bytes.values())) for each in facts]),
    ):
        bars = [Bar(max(totals) or 1.0, 0, total, width=WIDTH) for total in totals]
        drawn = zip(facts, bars, totals, strict=True)
        yield title, [[each.name, bar, show(total)] for each, bar, total in drawn]


def sparkline(heights: Sequence[float], low: float, high: float) -> str:
    """A character a value, as high as it is between the two."""
    return "".join(STEPS[round((value - low) / (high - low or 1.0) * (len(STEPS) - 1))] for value in heights)
