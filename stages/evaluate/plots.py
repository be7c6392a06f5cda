"""Pictures of the final report, each to be read at a glance; drawn from its figures alone.

Colours are those of Okabe and Ito 2008, which colour-blind readers can tell apart, and no meaning rests on colour
alone. Figures are made without pyplot, so nothing depends on a display or on global state.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.final_report import (
    Comparison,
    Curve,
    Figure,
    FinalReport,
    MethodReport,
    SplitReport,
)
from ghosttrack.common.formats.report import (
    ABLATION_PICTURE,
    CONFUSION_PICTURE,
    EARLY_PICTURE,
    METRICS_PICTURE,
    RELIABILITY_PICTURE,
    RISK_PICTURE,
    ROC_PICTURE,
)
from ghosttrack.common.palette import BLUE, COLOURS, GREY, INK, MUTED, ORANGE, RULE
from ghosttrack.stages.evaluate.findings import AUROC_WANTED, number

STYLES = ("-", (0, (5, 2)), "-.", (0, (1, 1.2)), (0, (9, 3)), (0, (3, 1)))
LINES = tuple(zip(COLOURS, STYLES, strict=True))
"""Of the main methods, in their order."""
TITLE, LABEL, TICK = 19, 16, 14
DPI = 130
WRAPPED = 50
"""Characters a line of a method's name."""
_ROW = 0.32
"""Inches of a row of a legend below the axis."""


def plot_roc(report: FinalReport) -> Canvas:
    canvas, axes = _canvas(8.8, 8.4 + _ROW * len(report.main_methods))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", zorder=1)
    grouped = _grouped(report)
    _draw_curves(axes, report, grouped.curves.roc, start=(0.0, 0.0), banded=2)
    _legend(canvas, report, {m.name: m.figures.auroc for m in grouped.methods}, "AUROC")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("right answers called wrong (false alarms)", fontsize=LABEL)
    axes.set_ylabel("wrong answers found", fontsize=LABEL)
    _percent(axes.set_xticks)
    _percent(axes.set_yticks)
    _title(axes, f"ROC: telling {grouped.n_wrong:,} wrong from {grouped.n_right:,} right answers")
    return _settled(canvas)


def plot_risk_coverage(report: FinalReport) -> Canvas:
    canvas, axes = _canvas(9.4, 7.2 + _ROW * len(report.main_methods))
    grouped = _grouped(report)
    steady = [
        y for curve in grouped.curves.risk_coverage for x, y in zip(curve.x, curve.y, strict=True) if x >= 0.1
    ]
    top = min(1.0, 1.15 * max(steady))  # of a handful of answers the risk is anything
    for risk in (0.1, 0.2):
        axes.axhline(risk, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axes.text(1.005, risk, f"{1 - risk:.0%}\naccuracy", fontsize=TICK - 2, color=MUTED, va="center")
    _draw_curves(axes, report, grouped.curves.risk_coverage, banded=2)
    _legend(canvas, report, {m.name: m.figures.prr for m in grouped.methods}, "PRR")
    axes.set(xlim=(0, 1), ylim=(0, top))
    axes.set_xlabel("coverage: share of answers kept, least suspicious first", fontsize=LABEL)
    axes.set_ylabel("risk: share wrong among those kept", fontsize=LABEL)
    _percent(axes.set_xticks)
    _percent(axes.set_yticks, top, 0.1)
    _title(axes, "Risk and coverage: what abstaining buys")
    return _settled(canvas)


def plot_reliability(report: FinalReport) -> Canvas:
    """The main detector and the best baseline."""
    canvas, axes = _canvas(8.8, 8.4 + 5 * _ROW)
    grouped = _grouped(report)
    figures = {m.name: m.figures for m in grouped.methods}
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", zorder=1)
    for marker, curve in zip("os", grouped.curves.reliability, strict=False):
        colour, style = _line(report, curve.method)
        found = figures[curve.method]
        label = f"{_title_of(report, curve.method)}: {_short(found.ece)}\n(before calibration {number(found.ece_before.value)})"
        axes.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=2, marker=marker, markersize=9, label=label,
                  markerfacecolor=colour if marker == "o" else "white", markeredgewidth=2, zorder=3)  # fmt: skip
        if curve.low is not None and curve.high is not None:
            axes.vlines(curve.x, curve.low, curve.high, color=colour, linewidth=1.8, alpha=0.6, zorder=2)
    canvas.legend(fontsize=TICK, loc="outside lower center", frameon=False, title="expected calibration error",
                  title_fontsize=TICK, alignment="left")  # fmt: skip
    axes.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03), aspect="equal")
    axes.set_xlabel("probability of being wrong, as said", fontsize=LABEL)
    axes.set_ylabel("share that was wrong", fontsize=LABEL)
    _percent(axes.set_xticks)
    _percent(axes.set_yticks)
    _title(axes, "Reliability, 15 bins of equal mass")
    return _settled(canvas)


def plot_confusion(report: FinalReport) -> Canvas:
    """Two rows (what the answer was) by two columns (what the detector called it), with counts and row shares."""
    canvas, axes = _canvas(8.4, 7.6)
    found = _grouped(report).confusion
    assert found is not None, "the main detector is always scored on the grouped split"
    counts = np.array(
        [
            [found.wrong_called_wrong, found.wrong_called_right],
            [found.right_called_wrong, found.right_called_right],
        ]
    )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row in range(2):
        for column in range(2):
            colour = BLUE if row == column else ORANGE
            axes.add_patch(
                Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=colour, linewidth=0,
                          alpha=0.10 + 0.45 * share[row, column])
            )  # fmt: skip
            axes.text(column, row - 0.06, f"{counts[row, column]:,.0f}", color=INK, fontsize=40, ha="center",
                      va="center", fontweight="bold")  # fmt: skip
            axes.text(column, row + 0.24, f"{share[row, column]:.0%} of {('wrong', 'right')[row]} answers", color=INK,
                      fontsize=LABEL, ha="center", va="center")  # fmt: skip
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.set_xticks([0, 1], ["called wrong", "called right"], fontsize=LABEL)
    axes.set_yticks([0, 1], ["was\nwrong", "was\nright"], fontsize=LABEL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    repeats = _grouped(report).repeats
    _title(
        axes,
        f"Decisions of\n{_title_of(report, report.detector)}"
        + (f", mean of {repeats} repeats" * (repeats > 1)),
    )
    return _settled(canvas)


def plot_metrics(report: FinalReport) -> Canvas:
    """Forest plot: AUROC of every method, pooled (filled) and within relation (hollow), a panel a split."""
    splits = [split for split in report.splits if split.split in ("grouped", "relations")]
    rows = [m for m in reversed(splits[0].methods) if m.kind in ("detector", "baseline")]
    rows.sort(key=lambda m: m.figures.auroc.value or 0)
    canvas = _sheet(7.5 + 5.4 * len(splits), 2.4 + 0.62 * len(rows))
    panels = np.atleast_1d(canvas.subplots(1, len(splits), sharey=True))
    for axes, split in zip(panels, splits, strict=True):
        by_name = {m.name: m for m in split.methods}
        present = [by_name.get(m.name) for m in rows]
        _forest(axes, present, lambda m: BLUE if m.kind == "detector" else MUTED)
        axes.axvline(AUROC_WANTED, color=GREY, linewidth=1.2, linestyle=":", zorder=1)
        axes.text(
            AUROC_WANTED, len(rows) - 0.4, f"{AUROC_WANTED:.2f}", fontsize=TICK - 2, color=MUTED, ha="center"
        )
        axes.set_xlabel("AUROC: ● all questions   ○ within a relation", fontsize=LABEL - 1)
        _title(axes, split.title, size=LABEL + 1, pad=22)
    limits = [axes.get_xlim() for axes in panels]
    for axes in panels:
        axes.set_xlim(min(low for low, _ in limits), max(AUROC_WANTED + 0.02, *(high for _, high in limits)))
    panels[0].set_yticks(range(len(rows)), [_title_of(report, m.name) for m in rows], fontsize=LABEL - 1)
    for tick, m in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set_color(BLUE if m.kind == "detector" else INK)
        tick.set_fontweight("bold" if m.name == report.detector else "normal")
    canvas.suptitle(
        "Methods that see tracks (blue) and methods that do not", fontsize=TITLE, color=INK, x=0.02, ha="left"
    )
    return _settled(canvas)


def plot_ablation(report: FinalReport) -> Canvas:
    """The ladder: AUROC of each association on the same latents, and what it gains over none and over random."""
    grouped = _grouped(report)
    order = list(reversed([card.name for card in report.methods if card.kind == "rung"]))
    by_name = {m.name: m for m in grouped.methods}
    rungs = [by_name[name] for name in order if name in by_name]
    if not rungs:
        return say("The ablation ladder was not measured.")
    pooled = [each for each in grouped.comparisons if each.metric == "auroc"]
    differences = [each for each in pooled if each.about == "association"]
    increments = [each for each in pooled if each.about == "increment"]
    heights = [len(rungs) + 1, len(differences) + len(increments) + 1]
    canvas = _sheet(14, 3.2 + 0.6 * sum(heights))
    upper, lower = canvas.subplots(2, 1, height_ratios=heights)
    _forest(upper, rungs, lambda m: GREY if report.card(m.name).rung in ("none", "random") else BLUE)
    upper.set_yticks(range(len(rungs)), [_title_of(report, m.name) for m in rungs], fontsize=TICK)
    upper.set_xlabel("AUROC: ● all questions   ○ within a relation", fontsize=LABEL - 1)
    _title(upper, "The same features on other associations", size=LABEL + 1)
    _differences(lower, report, [*reversed(increments), *reversed(differences)])
    _title(lower, "Paired differences of AUROC", size=LABEL + 1)
    return _settled(canvas)


def plot_early_warning(report: FinalReport) -> Canvas:
    """AUROC from the layers up to l, from the prompt alone and with the answer."""
    if not report.early_warning:
        return say("Early warning was not measured.")
    canvas, axes = _canvas(10.4, 7.6)
    series: dict[tuple[bool, str], list[tuple[float, Figure]]] = {}
    for point in report.early_warning:
        what = " + ".join(report.card(point.method).signals) or "detector"
        series.setdefault((point.before_answer, what), []).append(
            (point.depth * len(report.layers), point.auroc)
        )
    shapes = zip(LINES, "osD^vP", strict=True)
    for ((before, what), points), ((colour, style), marker) in zip(series.items(), shapes, strict=False):
        x = [depth for depth, _ in points]
        y = np.array(
            [[np.nan if value is None else value for value in (f.value, f.low, f.high)] for _, f in points]
        ).T
        label = f"{what}, {'prompt alone: before a token is generated' if before else 'prompt and answer'}"
        axes.plot(
            x,
            y[0],
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=8,
            linewidth=2.6,
            label=label,
            zorder=3,
        )
        axes.fill_between(x, y[1], y[2], color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.text(0.6, 0.503, "chance", fontsize=TICK - 1, color=MUTED)
    axes.set_xlim(0.5, len(report.layers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layers read", fontsize=LABEL)
    axes.set_ylabel("AUROC, all questions", fontsize=LABEL)
    canvas.legend(fontsize=TICK, frameon=False, loc="outside lower center")
    _title(axes, "Early warning: how soon it is known")
    return _settled(canvas)


DRAWN: dict[File, Callable[[FinalReport], Canvas]] = {
    METRICS_PICTURE: plot_metrics,
    ROC_PICTURE: plot_roc,
    CONFUSION_PICTURE: plot_confusion,
    RELIABILITY_PICTURE: plot_reliability,
    RISK_PICTURE: plot_risk_coverage,
    ABLATION_PICTURE: plot_ablation,
    EARLY_PICTURE: plot_early_warning,
}


def _grouped(report: FinalReport) -> SplitReport:
    return report.splits[0]


def _title_of(report: FinalReport, method: str) -> str:
    return textwrap.fill(report.card(method).title, WRAPPED)


def _line(report: FinalReport, method: str) -> tuple[str, Any]:
    return LINES[report.main_methods.index(method)]


def _draw_curves(
    axes: Axes, report: FinalReport, curves: Sequence[Curve], banded: int, start: tuple[float, float] | None = None
) -> None:  # fmt: skip
    """The main methods, the last below the first; the first `banded` with their intervals."""
    for place, curve in reversed(list(enumerate(curves))):
        colour, style = _line(report, curve.method)
        x, y = ([start[0], *curve.x], [start[1], *curve.y]) if start else (curve.x, curve.y)
        width = 3.2 if place == 0 else 2.2
        axes.plot(x, y, color=colour, linestyle=style, linewidth=width, zorder=10 - place)
        if place < banded and curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.14, linewidth=0, zorder=2)


def _legend(canvas: Canvas, report: FinalReport, figures: Mapping[str, Figure], what: str) -> None:
    """The main methods by falling figure, below the axis, where they cover nothing."""
    shown = [name for name in report.main_methods if name in figures]
    shown.sort(key=lambda name: -(figures[name].value or 0))
    handles = [
        Line2D([], [], color=_line(report, name)[0], linestyle=_line(report, name)[1], linewidth=3)
        for name in shown
    ]
    labels = [f"{_title_of(report, name)}  {_short(figures[name])}" for name in shown]
    canvas.legend(handles, labels, fontsize=TICK, loc="outside lower center", frameon=False, handlelength=2.6, alignment="left",
                  title=f"{what}, {report.confidence:.0%} interval", title_fontsize=TICK)  # fmt: skip


def _forest(
    axes: Axes, rows: Sequence[MethodReport | None], colour_of: Callable[[MethodReport], str]
) -> None:
    """A row a method: AUROC pooled, filled, and within relation, hollow, with intervals and the pooled one in figures."""
    bounds = [
        bound
        for m in rows
        if m
        for f in (m.figures.auroc, m.figures.auroc_within_relation)
        for bound in (f.low, f.value, f.high)
        if bound is not None
    ] or [0.5, 1.0]
    margin = 0.04 * (max(bounds) - min(bounds)) + 0.002
    left, right = min(bounds) - margin, max(bounds) + margin
    for position, m in enumerate(rows):
        if m is None:
            axes.text(left + 0.01, position, "not scored", fontsize=TICK - 2, color=MUTED, va="center")
            continue
        colour = colour_of(m)
        for figure, offset, fill in (
            (m.figures.auroc, 0.14, colour),
            (m.figures.auroc_within_relation, -0.18, "white"),
        ):
            if figure.value is None:
                continue
            if figure.low is not None and figure.high is not None:
                axes.plot(
                    [figure.low, figure.high], [position + offset] * 2, color=colour, linewidth=2.2, zorder=2
                )
            axes.plot(figure.value, position + offset, marker="o", markersize=8.5, markerfacecolor=fill,
                      markeredgecolor=colour, markeredgewidth=2, zorder=3)  # fmt: skip
        axes.text(1.01, position + 0.14, _short(m.figures.auroc), fontsize=TICK - 2, va="center", color=colour,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    if left < 0.5:
        axes.axvline(0.5, color=GREY, linewidth=1.2, linestyle=":", zorder=1)
    axes.set(xlim=(left, right), ylim=(-0.6, len(rows) - 0.4))
    _bare(axes)


def _differences(axes: Axes, report: FinalReport, rows: Sequence[Comparison]) -> None:
    """A row a comparison; what lies right of zero is a gain."""
    for position, each in enumerate(rows):
        colour = {"better": BLUE, "worse": ORANGE}.get(each.verdict, MUTED)
        d = each.difference
        if d.value is not None:
            if d.low is not None and d.high is not None:
                axes.plot([d.low, d.high], [position] * 2, color=colour, linewidth=2.4, zorder=2)
            axes.plot(d.value, position, marker={"better": ">", "worse": "<"}.get(each.verdict, "o"), markersize=10,
                      color=colour, zorder=3)  # fmt: skip
        axes.text(1.01, position, _short(d, signed=True), fontsize=TICK - 2, va="center", color=colour,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
    labels = [f"{_title_of(report, each.method)} − {_title_of(report, each.against)}" for each in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=TICK)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("◂ worse      better ▸", fontsize=LABEL - 1)
    _bare(axes)


def _settled(canvas: Canvas) -> Canvas:
    """The layout settles at the second drawing, where a legend stands outside the axes."""
    canvas.draw_without_rendering()
    return canvas


def say(text: str) -> Canvas:
    """A picture of a sentence, where there is nothing to draw."""
    canvas, axes = _canvas(8.4, 4.8)
    axes.set_axis_off()
    axes.text(
        0.5,
        0.5,
        textwrap.fill(text, WRAPPED),
        fontsize=TITLE,
        color=INK,
        ha="center",
        va="center",
        transform=axes.transAxes,
    )
    return _settled(canvas)


def _sheet(width: float, height: float) -> Canvas:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    canvas.get_layout_engine().set(w_pad=0.14, h_pad=0.14)  # type: ignore[union-attr,call-arg]
    return _settled(canvas)


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = _sheet(width, height)
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=TICK, colors=INK)
    return canvas, axes


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=TICK, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.set_axisbelow(True)


def _title(axes: Axes, text: str, size: int = TITLE, pad: int = 14) -> None:
    axes.set_title(text, fontsize=size, loc="left", pad=pad, color=INK)


def _percent(setter: Callable[..., object], last: float = 1.0, step: float = 0.2) -> None:
    ticks = np.arange(0, last + 1e-9, step)
    setter(ticks, [f"{tick:.0%}" for tick in ticks])


def _short(figure: Figure, digits: int = 3, signed: bool = False) -> str:
    if figure.value is None:
        return "not defined"
    value = number(figure.value, signed, digits)
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{number(figure.low, signed, digits)}, {number(figure.high, signed, digits)}]"
