"""Vector figures at the width of a column, with embedded fonts."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ghosttrack.common import pictures
from ghosttrack.common.pictures import BLUE, FAINT, LINES, MUTED, Mark

Json = Mapping[str, Any]
COLUMN, PAGE = 3.25, 6.75
"""Inches: the width of a column, and of the page, where names of methods stand beside the axis."""
LEGEND_ROW = 0.14
WRAPPED = 64
"""Inches a row of the legend; characters of a method's name a line."""
SETTINGS = pictures.style(8, 8, 8) | {
    "pdf.fonttype": 42, "svg.fonttype": "none", "font.size": 8, "legend.fontsize": 6.5, "axes.linewidth": 0.6,
    "lines.linewidth": 1.3, "lines.markersize": 3, "figure.constrained_layout.use": True,
}  # fmt: skip
CURVES = {
    "roc": ("false alarm rate", "wrong answers found"),
    "precision_recall": ("recall", "precision"),
    "reliability": ("probability of being wrong", "share wrong"),
    "risk_coverage": ("share of answers kept", "share wrong among them"),
}
MOST = {"reliability": 2}
"""Curves of a kind, where more would hide each other; of the other kinds as many as there are lines."""


def write_figures(report: Json, folder: Path) -> list[str]:
    """Names of the PDFs, of those that the report has numbers for."""
    with mpl.rc_context(SETTINGS):
        found = drawn(report)
        for name, canvas in found.items():
            canvas.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    return [f"{name}.pdf" for name in found]


def drawn(report: Json) -> dict[str, Canvas]:
    """The figures by name."""
    found: dict[str, Canvas] = {}
    if report["splits"]:
        _of_split(report, report["splits"][0], found)
    if report["early_warning"]:
        found["early_warning"] = _canvas(COLUMN, 2.1, lambda axes: _early(axes, report["early_warning"]), 1)
    if report["sae"]:
        found["sae_fvu"] = _canvas(COLUMN, 2.1, lambda axes: _saes(axes, report["sae"]))
    return found


def _of_split(report: Json, split: Json, found: dict[str, Canvas]) -> None:
    titles = {card["name"]: card["title"] for card in report["methods"]}
    for kind in CURVES:
        if curves := split["curves"][kind]:
            draw = functools.partial(_curves, split=split, kind=kind, titles=titles)
            found[kind] = _canvas(COLUMN, 2.3, draw, len(curves[: MOST.get(kind, len(LINES))]))
    for name, kinds in (("methods", ("detector", "baseline")), ("ladder", ("rung",))):
        if methods := [method for method in split["methods"] if method["kind"] in kinds]:
            draw = functools.partial(_forest, methods=methods, titles=titles)
            found[name] = _canvas(PAGE, 0.7 + 0.21 * len(methods), draw)


def _canvas(width: float, height: float, draw: Callable[[Axes], None], legend_rows: int = 0) -> Canvas:
    """One axis, and below it the legend of what is drawn, so that it covers no data. legend_rows: of one column."""
    canvas = Canvas(figsize=(width, height + LEGEND_ROW * legend_rows))
    axes = canvas.add_subplot()
    draw(axes)
    if legend_rows:
        columns = 2 if legend_rows == 1 else 1
        canvas.legend(loc="outside lower center", ncols=columns)
    canvas.draw_without_rendering()  # the layout settles at the second drawing
    return canvas


def _curves(axes: Axes, split: Json, kind: str, titles: Mapping[str, str]) -> None:
    marker = "o" if kind == "reliability" else None
    shown = split["curves"][kind][: MOST.get(kind)]
    for number, (found, (colour, line)) in enumerate(zip(shown, LINES, strict=False)):
        band = (found["low"], found["high"]) if number == 0 else ()
        pictures.curve(axes, found["x"], found["y"], *band, color=colour, linestyle=line, marker=marker,
                       label=titles[found["method"]])  # fmt: skip
    if kind in ("roc", "reliability"):
        axes.plot([0, 1], [0, 1], **FAINT)
    x, y = CURVES[kind]
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1))
    axes.set_ylim(bottom=0)


def _forest(axes: Axes, methods: Sequence[Json], titles: Mapping[str, str]) -> None:
    rows = sorted(methods, key=lambda method: method["figures"]["auroc"]["value"] or 0)
    marks = []
    for method in rows:
        colour = MUTED if method["kind"] == "baseline" else BLUE
        pooled, within = (
            SimpleNamespace(**method["figures"][key]) for key in ("auroc", "auroc_within_relation")
        )
        marks.append([Mark(pooled, colour, 0.15), Mark(within, colour, -0.15, False)])
    pictures.forest(axes, [textwrap.fill(titles[method["name"]], WRAPPED) for method in rows], marks)
    blue = "; blue: sees tracks" if {method["kind"] for method in rows} >= {"detector", "baseline"} else ""
    axes.set_xlabel(f"AUROC; hollow: within a relation{blue}")


def _early(axes: Axes, points: Sequence[Json]) -> None:
    kinds = {True: "before the answer", False: "with the answer"}
    for (before, label), (colour, line) in zip(kinds.items(), LINES, strict=False):
        some = [point for point in points if point["before_answer"] is before]
        if not some:
            continue
        y = [[point["auroc"][key] for point in some] for key in ("value", "low", "high")]
        pictures.curve(axes, [point["depth"] for point in some], *np.array(y, dtype=float), color=colour, linestyle=line,
                       marker="o", label=label)  # fmt: skip
    axes.set(xlabel="share of the layers seen", ylabel="AUROC")


def _saes(axes: Axes, layers: Sequence[Json]) -> None:
    axes.plot([each["layer"] for each in layers], [each["fvu"] for each in layers], color=BLUE, marker="o")
    axes.set(xlabel="layer", ylabel="variance unexplained")
    axes.set_ylim(bottom=0)
