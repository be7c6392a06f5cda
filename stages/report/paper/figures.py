"""Vector figures at the width of a column, with embedded fonts. Colours are those of Okabe and Ito 2008."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ghosttrack.common.palette import COLOURS, GREY, MUTED

Json = Mapping[str, Any]
COLUMN, PAGE = 3.25, 6.75
"""Inches: the width of a column, and of the page, where names of methods stand beside the axis."""
LEGEND_ROW = 0.14
WRAPPED = 64
"""Inches a row of the legend; characters of a method's name a line."""
STYLES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (2, 1)))
SETTINGS: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "svg.fonttype": "none",
}
CURVES = {
    "roc": ("false alarm rate", "wrong answers found"),
    "precision_recall": ("recall", "precision"),
    "reliability": ("probability of being wrong", "share wrong"),
    "risk_coverage": ("share of answers kept", "share wrong among them"),
}


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
            found[kind] = _canvas(COLUMN, 2.3, draw, len(curves[:6]))
    for name, kinds in (("methods", ("detector", "baseline")), ("ladder", ("rung",))):
        if methods := [method for method in split["methods"] if method["kind"] in kinds]:
            draw = functools.partial(_forest, methods=methods, titles=titles)
            found[name] = _canvas(PAGE, 0.7 + 0.21 * len(methods), draw)


def _canvas(width: float, height: float, draw: Callable[[Axes], None], legend_rows: int = 0) -> Canvas:
    """One axis, and below it the legend of what is drawn, so that it covers no data. legend_rows: of one column."""
    canvas = Canvas(figsize=(width, height + LEGEND_ROW * legend_rows), layout="constrained")
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    if legend_rows:
        columns = 2 if legend_rows == 1 else 1
        canvas.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=6.5)
    canvas.draw_without_rendering()  # the layout settles at the second drawing
    return canvas


def _curves(axes: Axes, split: Json, kind: str, titles: Mapping[str, str]) -> None:
    for number, curve in enumerate(split["curves"][kind][:6]):
        colour = COLOURS[number]
        marker = "o" if kind == "reliability" else None
        axes.plot(
            curve["x"],
            curve["y"],
            color=colour,
            linestyle=STYLES[number],
            marker=marker,
            markersize=2.5,
            label=titles[curve["method"]],
        )
        if number == 0 and curve["low"] is not None:
            axes.fill_between(curve["x"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
    if kind in ("roc", "reliability"):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
    axes.set_xlabel(CURVES[kind][0])
    axes.set_ylabel(CURVES[kind][1])
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)


def _forest(axes: Axes, methods: Sequence[Json], titles: Mapping[str, str]) -> None:
    rows = sorted(methods, key=lambda method: method["figures"]["auroc"]["value"] or 0)
    for row, method in enumerate(rows):
        colour = MUTED if method["kind"] == "baseline" else COLOURS[0]
        for key, offset, face in (("auroc", 0.15, colour), ("auroc_within_relation", -0.15, "white")):
            figure = method["figures"][key]
            if figure["value"] is None:
                continue
            if figure["low"] is not None:
                axes.plot([figure["low"], figure["high"]], [row + offset] * 2, color=colour, linewidth=1)
            axes.plot(
                figure["value"],
                row + offset,
                marker="o",
                markersize=3.2,
                markerfacecolor=face,
                markeredgecolor=colour,
            )
    axes.set_yticks(range(len(rows)), [textwrap.fill(titles[method["name"]], WRAPPED) for method in rows])
    axes.set_xlabel("AUROC; hollow: within a relation")


def _early(axes: Axes, points: Sequence[Json]) -> None:
    for number, before in enumerate((True, False)):
        some = [
            point
            for point in points
            if point["before_answer"] is before and point["auroc"]["value"] is not None
        ]
        if some:
            depth = [point["depth"] for point in some]
            axes.plot(depth, [point["auroc"]["value"] for point in some], color=COLOURS[number], marker="o", markersize=3,
                      linestyle=STYLES[number], label="before the answer" if before else "with the answer")  # fmt: skip
            if all(point["auroc"]["low"] is not None for point in some):
                axes.fill_between(
                    depth,
                    [p["auroc"]["low"] for p in some],
                    [p["auroc"]["high"] for p in some],
                    color=COLOURS[number],
                    alpha=0.15,
                    linewidth=0,
                )
    axes.set_xlabel("share of the layers seen")
    axes.set_ylabel("AUROC")


def _saes(axes: Axes, layers: Sequence[Json]) -> None:
    axes.plot(
        [each["layer"] for each in layers],
        [each["fvu"] for each in layers],
        color=COLOURS[0],
        marker="o",
        markersize=2.5,
    )
    axes.set_xlabel("layer")
    axes.set_ylabel("variance unexplained")
    axes.set_ylim(bottom=0)
