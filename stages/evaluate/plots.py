"""Pictures of the final report, each to be read at a glance; drawn from its figures alone."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ghosttrack.common import pictures
from ghosttrack.common.formats import report as files
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.final_report import Comparison, Curve, Figure, FinalReport, MethodReport
from ghosttrack.common.pictures import BLUE, FAINT, GREY, INK, LINES, MUTED, ORANGE, RULE, Mark, drawn_in
from ghosttrack.stages.evaluate.findings import AUROC_WANTED, interval, number

TITLE, PANEL, LABEL, TICK, NOTE = 19, 17, 16, 14, 12
SCREEN = pictures.style(TITLE, LABEL, TICK) | {
    "axes.titlepad": 14, "lines.linewidth": 2.2, "lines.markersize": 8.5, "lines.markeredgewidth": 2,
    "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.14, "figure.constrained_layout.h_pad": 0.14,
}  # fmt: skip
DPI = 130
WRAPPED = 50
"""Characters a line of a method's name."""
_ROW = 0.32
"""Inches of a row of a legend below the axis."""
BOTH = "AUROC: ● all questions   ○ within a relation"


@drawn_in(SCREEN)
def plot_roc(report: FinalReport) -> Canvas:
    canvas, axes = _canvas(8.8, 8.4 + _ROW * len(report.main_methods))
    axes.plot([0, 1], [0, 1], **FAINT)
    grouped = report.splits[0]
    _draw_curves(axes, report, grouped.curves.roc, start=[0.0])
    _legend(canvas, report, {m.name: m.figures.auroc for m in grouped.methods}, "AUROC")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel="right answers called wrong (false alarms)",
             ylabel="wrong answers found",
             title=f"ROC: telling {grouped.n_wrong:,} wrong from {grouped.n_right:,} right answers")  # fmt: skip
    _percent(axes.set_xticks)
    _percent(axes.set_yticks)
    return canvas


@drawn_in(SCREEN)
def plot_risk_coverage(report: FinalReport) -> Canvas:
    canvas, axes = _canvas(9.4, 7.2 + _ROW * len(report.main_methods))
    grouped = report.splits[0]
    curves = grouped.curves.risk_coverage
    steady = [y for found in curves for x, y in zip(found.x, found.y, strict=True) if x >= 0.1]
    top = min(1.0, 1.15 * max(steady))  # of a handful of answers the risk is anything
    for risk in (0.1, 0.2):
        axes.axhline(risk, **FAINT)
        axes.text(1.005, risk, f"{1 - risk:.0%}\naccuracy", fontsize=NOTE, color=MUTED, va="center")
    _draw_curves(axes, report, curves)
    _legend(canvas, report, {m.name: m.figures.prr for m in grouped.methods}, "PRR")
    axes.set(xlim=(0, 1), ylim=(0, top), xlabel="coverage: share of answers kept, least suspicious first",
             ylabel="risk: share wrong among those kept", title="Risk and coverage: what abstaining buys")  # fmt: skip
    _percent(axes.set_xticks)
    _percent(axes.set_yticks, top, 0.1)
    return canvas


@drawn_in(SCREEN)
def plot_reliability(report: FinalReport) -> Canvas:
    """The main detector and the best baseline."""
    canvas, axes = _canvas(8.8, 8.4 + 5 * _ROW)
    grouped = report.splits[0]
    figures = {m.name: m.figures for m in grouped.methods}
    axes.plot([0, 1], [0, 1], **FAINT)
    for marker, drawn in zip("os", grouped.curves.reliability, strict=False):
        colour, line = _line(report, drawn.method)
        found = figures[drawn.method]
        label = f"{_title_of(report, drawn.method)}: {_short(found.ece)}\n(before calibration {number(found.ece_before.value)})"
        axes.plot(drawn.x, drawn.y, color=colour, linestyle=line, marker=marker, label=label,
                  markerfacecolor=colour if marker == "o" else "white", zorder=3)  # fmt: skip
        if drawn.low is not None and drawn.high is not None:
            axes.vlines(drawn.x, drawn.low, drawn.high, color=colour, linewidth=1.8, alpha=0.6, zorder=2)
    canvas.legend(loc="outside lower center", title="expected calibration error", alignment="left")
    axes.set(xlim=(-0.02, 1.03), ylim=(-0.02, 1.03), aspect="equal", xlabel="probability of being wrong, as said",
             ylabel="share that was wrong", title="Reliability, 15 bins of equal mass")  # fmt: skip
    _percent(axes.set_xticks)
    _percent(axes.set_yticks)
    return canvas


@drawn_in(SCREEN)
def plot_confusion(report: FinalReport) -> Canvas:
    """Two rows (what the answer was) by two columns (what the detector called it), with counts and row shares."""
    canvas, axes = _canvas(8.4, 7.6)
    found, repeats = report.splits[0].confusion, report.splits[0].repeats
    assert found is not None, "the main detector is always scored on the grouped split"
    wrong = found.wrong_called_wrong, found.wrong_called_right
    counts = np.array([wrong, (found.right_called_wrong, found.right_called_right)])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.ndindex(2, 2):
        axes.add_patch(
            Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=BLUE if row == column else ORANGE, linewidth=0,
                      alpha=0.10 + 0.45 * share[row, column])
        )  # fmt: skip
        said = f"{share[row, column]:.0%} of {('wrong', 'right')[row]} answers"
        middle: Any = {"ha": "center", "va": "center"}
        axes.text(column, row - 0.06, f"{counts[row, column]:,.0f}", fontsize=40, fontweight="bold", **middle)
        axes.text(column, row + 0.24, said, fontsize=LABEL, **middle)
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.set_xticks([0, 1], ["called wrong", "called right"], fontsize=LABEL)
    axes.set_yticks([0, 1], ["was\nwrong", "was\nright"], fontsize=LABEL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    mean = f", mean of {repeats} repeats" * (repeats > 1)
    axes.set_title(f"Decisions of\n{_title_of(report, report.detector)}{mean}")
    return canvas


@drawn_in(SCREEN)
def plot_metrics(report: FinalReport) -> Canvas:
    """Forest plot: AUROC of every method, pooled (filled) and within relation (hollow), a panel a split."""
    splits = [split for split in report.splits if split.split in ("grouped", "relations")]
    rows = [m for m in reversed(splits[0].methods) if m.kind in ("detector", "baseline")]
    rows.sort(key=lambda m: m.figures.auroc.value or 0)
    canvas = Canvas(figsize=(7.5 + 5.4 * len(splits), 2.4 + 0.62 * len(rows)))
    panels = np.atleast_1d(canvas.subplots(1, len(splits), sharey=True))
    for axes, split in zip(panels, splits, strict=True):
        by_name = {m.name: m for m in split.methods}
        present = [by_name.get(m.name) for m in rows]
        _forest(axes, report, rows, present, lambda m: BLUE if m.kind == "detector" else MUTED)
        axes.axvline(AUROC_WANTED, **FAINT)
        axes.text(
            AUROC_WANTED, len(rows) - 0.4, f"{AUROC_WANTED:.2f}", fontsize=NOTE, color=MUTED, ha="center"
        )
        axes.set_title(split.title, fontsize=PANEL, pad=22)
    limits = [axes.get_xlim() for axes in panels]
    for axes in panels:
        axes.set_xlim(min(low for low, _ in limits), max(AUROC_WANTED + 0.02, *(high for _, high in limits)))
    for tick, m in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set_color(BLUE if m.kind == "detector" else INK)
        tick.set_fontweight("bold" if m.name == report.detector else "normal")
    canvas.suptitle("Methods that see tracks (blue) and methods that do not", x=0.02, ha="left")
    return canvas


@drawn_in(SCREEN)
def plot_ablation(report: FinalReport) -> Canvas:
    """The ladder: AUROC of each association on the same latents, and what it gains over none and over random."""
    grouped = report.splits[0]
    order = list(reversed([card.name for card in report.methods if card.kind == "rung"]))
    by_name = {m.name: m for m in grouped.methods}
    rungs = [by_name[name] for name in order if name in by_name]
    if not rungs:
        return say("The ablation ladder was not measured.")
    pooled = [each for each in grouped.comparisons if each.metric == "auroc"]
    compared = [
        each for about in ("increment", "association") for each in reversed(pooled) if each.about == about
    ]
    heights = [len(rungs) + 1, len(compared) + 1]
    canvas = Canvas(figsize=(14, 3.2 + 0.6 * sum(heights)))
    upper, lower = canvas.subplots(2, 1, height_ratios=heights)
    nulls = {card.name for card in report.methods if card.rung in ("none", "random")}
    _forest(upper, report, rungs, rungs, lambda m: GREY if m.name in nulls else BLUE)
    upper.set_title("The same features on other associations", fontsize=PANEL)
    _differences(lower, report, compared)
    lower.set_title("Paired differences of AUROC", fontsize=PANEL)
    return canvas


@drawn_in(SCREEN)
def plot_early_warning(report: FinalReport) -> Canvas:
    """AUROC from the layers up to l, from the prompt alone and with the answer."""
    if not report.early_warning:
        return say("Early warning was not measured.")
    canvas, axes = _canvas(10.4, 7.6)
    series: dict[tuple[bool, str], list[tuple[float, Figure]]] = {}
    for point in report.early_warning:
        what = " + ".join(report.card(point.method).signals) or "detector"
        depth = point.depth * len(report.layers)
        series.setdefault((point.before_answer, what), []).append((depth, point.auroc))
    shapes = zip(LINES, "osD^vP", strict=True)
    for ((before, what), points), ((colour, line), marker) in zip(series.items(), shapes, strict=False):
        y = np.array([(f.value, f.low, f.high) for _, f in points], dtype=float).T
        label = f"{what}, {'prompt alone: before a token is generated' if before else 'prompt and answer'}"
        drawn: Any = {"color": colour, "linestyle": line, "marker": marker, "label": label, "zorder": 3}
        pictures.curve(axes, [depth for depth, _ in points], *y, **drawn)
    axes.axhline(0.5, **FAINT)
    axes.text(0.6, 0.503, "chance", fontsize=NOTE, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(0.5, len(report.layers) + 0.5), xlabel="layers read", ylabel="AUROC, all questions",
             title="Early warning: how soon it is known")  # fmt: skip
    canvas.legend(loc="outside lower center")
    return canvas


@drawn_in(SCREEN)
def say(text: str) -> Canvas:
    """A picture of a sentence, where there is nothing to draw."""
    canvas, axes = _canvas(8.4, 4.8)
    axes.set_axis_off()
    middle: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, textwrap.fill(text, WRAPPED), fontsize=TITLE, **middle)
    return canvas


DRAWN: dict[File, Callable[[FinalReport], Canvas]] = {
    files.METRICS_PICTURE: plot_metrics,
    files.ROC_PICTURE: plot_roc,
    files.CONFUSION_PICTURE: plot_confusion,
    files.RELIABILITY_PICTURE: plot_reliability,
    files.RISK_PICTURE: plot_risk_coverage,
    files.ABLATION_PICTURE: plot_ablation,
    files.EARLY_PICTURE: plot_early_warning,
}


def _title_of(report: FinalReport, method: str) -> str:
    return textwrap.fill(report.card(method).title, WRAPPED)


def _line(report: FinalReport, method: str) -> tuple[str, Any]:
    return LINES[report.main_methods.index(method)]


def _draw_curves(
    axes: Axes, report: FinalReport, curves: Sequence[Curve], start: Sequence[float] = ()
) -> None:
    """The main methods, the last below the first; the first two with their intervals. start: x and y of a first point."""
    for place, found in reversed(list(enumerate(curves))):
        colour, line = _line(report, found.method)
        band = [found.low, found.high] if place < 2 else []
        columns = [None if values is None else [*start, *values] for values in (found.x, found.y, *band)]
        pictures.curve(
            axes, *columns, color=colour, linestyle=line, linewidth=2.2 + (place == 0), zorder=10 - place
        )


def _legend(canvas: Canvas, report: FinalReport, figures: Mapping[str, Figure], what: str) -> None:
    """The main methods by falling figure, below the axis, where they cover nothing."""
    shown = [name for name in report.main_methods if name in figures]
    shown.sort(key=lambda name: -(figures[name].value or 0))
    lines = [_line(report, name) for name in shown]
    handles = [Line2D([], [], color=colour, linestyle=line, linewidth=3) for colour, line in lines]
    labels = [f"{_title_of(report, name)}  {_short(figures[name])}" for name in shown]
    canvas.legend(handles, labels, loc="outside lower center", handlelength=2.6, alignment="left",
                  title=f"{what}, {report.confidence:.0%} interval")  # fmt: skip


def _forest(
    axes: Axes, report: FinalReport, named: Sequence[MethodReport], rows: Sequence[MethodReport | None],
    colour_of: Callable[[MethodReport], str],
) -> None:  # fmt: skip
    """A row a method: AUROC pooled, filled, and within relation, hollow, with intervals and the pooled one in figures.
    rows: those that were scored of the named ones."""
    found = [f for m in rows if m for f in (m.figures.auroc, m.figures.auroc_within_relation)]
    bounds = [bound for f in found for bound in (f.low, f.value, f.high) if bound is not None] or [0.5, 1.0]
    margin = 0.04 * (max(bounds) - min(bounds)) + 0.002
    left, right = min(bounds) - margin, max(bounds) + margin
    figures = [(m.figures, colour_of(m)) if m else None for m in rows]
    marks = [
        [Mark(each[0].auroc, each[1], 0.14), Mark(each[0].auroc_within_relation, each[1], -0.18, False)] if each else []
        for each in figures
    ]  # fmt: skip
    pictures.forest(axes, [_title_of(report, m.name) for m in named], marks)
    for row, m in enumerate(rows):
        if m:
            _beside(axes, row + 0.14, _short(m.figures.auroc), colour_of(m))
        else:
            axes.text(left + 0.01, row, "not scored", fontsize=NOTE, color=MUTED, va="center")
    if left < 0.5:
        axes.axvline(0.5, **FAINT)
    axes.set(xlim=(left, right), xlabel=BOTH)
    _bare(axes)


def _differences(axes: Axes, report: FinalReport, rows: Sequence[Comparison]) -> None:
    """A row a comparison; what lies right of zero is a gain."""
    shapes = {"better": (BLUE, ">"), "worse": (ORANGE, "<")}
    drawn = [shapes.get(each.verdict, (MUTED, "o")) for each in rows]
    marks = [
        [Mark(each.difference, colour, marker=marker)]
        for each, (colour, marker) in zip(rows, drawn, strict=True)
    ]
    titles = [f"{_title_of(report, each.method)} − {_title_of(report, each.against)}" for each in rows]
    pictures.forest(axes, titles, marks)
    for row, (each, (colour, _)) in enumerate(zip(rows, drawn, strict=True)):
        _beside(axes, row, _short(each.difference, signed=True), colour)
    axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
    axes.set_xlabel("◂ worse      better ▸")
    _bare(axes)


def _beside(axes: Axes, row: float, text: str, colour: str) -> None:
    axes.text(1.01, row, text, fontsize=NOTE, va="center", color=colour, transform=axes.get_yaxis_transform())


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height))
    return canvas, canvas.add_subplot()


def _bare(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.locator_params(axis="x", nbins=6)
    axes.set_axisbelow(True)


def _percent(setter: Callable[..., object], last: float = 1.0, step: float = 0.2) -> None:
    ticks = np.arange(0, last + 1e-9, step)
    setter(ticks, [f"{tick:.0%}" for tick in ticks])


def _short(figure: Figure, signed: bool = False) -> str:
    if figure.value is None:
        return "not defined"
    return number(figure.value, signed) if figure.low is None else interval(figure, signed)
