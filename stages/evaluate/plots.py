"""Three pictures to be read at a glance: ROC curves, the confusion matrix, and AUROCs with their intervals.

Colours are those of Okabe and Ito 2008, which colour-blind readers can tell apart. Figures are made without pyplot,
so nothing depends on a display or on global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stages.evaluate.baselines import Method
from stages.evaluate.findings import number
from stages.evaluate.schema import Confusion, Figure, MethodReport

Floats = NDArray[np.float64]

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#9A9A9A", "#222222"
DETECTOR_COLOURS = (BLUE, GREEN, "#CC79A7", "#56B4E9")
TITLE, LABEL, TICK = 19, 16, 14
DPI = 130
MAX_BAND_RESAMPLES = 400

TITLES = {
    "tracks": "tracks",
    "tracks+logits": "tracks + token probabilities",
    "logits": "token probabilities, trained",
    "logprob_mean": "mean log-probability",
    "logprob_min": "lowest log-probability",
    "token_entropy": "token entropy",
    "answer_length": "answer length",
    "relation_identity": "relation alone",
}


def title_of(name: str) -> str:
    return TITLES.get(name, name)


def roc_curve(labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """False and true alarm rates at every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    y, s = labels[order], scores[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    tp, fp = np.cumsum(y)[ends], np.cumsum(1 - y)[ends]
    return np.append(0.0, fp / fp[-1]), np.append(0.0, tp / tp[-1])


def roc_band(labels: Floats, scores: Floats, weights: Floats, grid: Floats, confidence: float) -> Floats:
    """Pointwise interval of the true alarm rate over resamples, [2, n_grid]; grid: false alarm rates."""
    order = np.argsort(-scores, kind="stable")
    y, s, w = labels[order], scores[order], weights[:MAX_BAND_RESAMPLES][:, order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    tp = np.cumsum(w * y, axis=1)[:, ends]
    fp = np.cumsum(w, axis=1)[:, ends] - tp
    curves = [
        np.interp(grid, np.append(0.0, f / f[-1]), np.append(0.0, t / t[-1]))
        for t, f in zip(tp, fp, strict=True)
        if t[-1] and f[-1]
    ]
    tail = (1 - confidence) / 2
    return np.quantile(curves, [tail, 1 - tail], axis=0)


def plot_roc(
    path: Path, labels: Floats, methods: Sequence[Method], reports: Sequence[MethodReport], best_baseline: str,
    weights: Floats, confidence: float,
) -> None:  # fmt: skip
    """The detectors in colour, the first with its band; the best baseline dashed; the other baselines in grey."""
    by_name = {report.name: report for report in reports}
    canvas, axes = _canvas(8.6, 8.2)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", zorder=1)
    detectors = [method for method in methods if method.kind == "detector"]
    colours = dict(zip([m.name for m in detectors], DETECTOR_COLOURS, strict=False)) | {best_baseline: ORANGE}
    entries: list[tuple[Figure | None, str, str]] = []
    for method in reversed(methods):
        colour = colours.get(method.name)
        x, y = roc_curve(labels, method.score)
        axes.plot(
            x,
            y,
            color=colour or GREY,
            linestyle="--" if method.name == best_baseline else "-",
            linewidth=3.2 if colour else 1.1,
            alpha=1.0 if colour else 0.7,
            zorder=3 if colour else 2,
        )
        if colour:
            entries.append((by_name[method.name].figures.auroc, title_of(method.name), colour))
    first = detectors[0]
    grid = np.linspace(0, 1, 201)
    low, high = roc_band(labels, first.score, weights, grid, confidence)
    axes.fill_between(grid, low, high, color=colours[first.name], alpha=0.15, linewidth=0, zorder=2)
    entries.sort(key=lambda entry: -((entry[0] and entry[0].value) or 0))
    if len(methods) > len(entries):
        entries.append((None, "other methods without tracks", "#707070"))
    for row, (figure, name, colour) in enumerate(reversed(entries)):
        text = name if figure is None else f"{name}  {_short(figure)}"
        axes.text(0.985, 0.035 + 0.058 * row, text, color=colour, fontsize=LABEL - 1, ha="right", va="bottom",
                  fontweight="normal" if figure is None else "bold", zorder=5,
                  bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})  # fmt: skip
    axes.text(0.985, 0.035 + 0.058 * len(entries), f"AUROC [{confidence:.0%} interval]", color=INK,
              fontsize=TICK, ha="right", va="bottom")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.005))
    axes.set_aspect("equal")
    axes.set_xlabel("right answers called wrong", fontsize=LABEL)
    axes.set_ylabel("wrong answers called wrong", fontsize=LABEL)
    _percent_ticks(axes)
    axes.set_title("How well wrong answers are found", fontsize=TITLE, loc="left", pad=14, color=INK)
    canvas.savefig(path, dpi=DPI)


def plot_confusion(path: Path, confusion: Confusion, detector: str) -> None:
    """Two rows (what the answer was) by two columns (what the detector called it), with counts and row shares."""
    counts = np.array(
        [
            [confusion.wrong_called_wrong, confusion.wrong_called_right],
            [confusion.right_called_wrong, confusion.right_called_right],
        ]
    )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    canvas, axes = _canvas(8.2, 7.4)
    good = np.eye(2, dtype=bool)
    for row in range(2):
        for column in range(2):
            colour = BLUE if good[row, column] else ORANGE
            strength = 0.10 + 0.45 * share[row, column]
            axes.add_patch(_tile(column, row, colour, strength))
            axes.text(column, row - 0.06, f"{counts[row, column]:,}", color=INK, fontsize=40, ha="center",
                      va="center", fontweight="bold")  # fmt: skip
            axes.text(column, row + 0.24, f"{share[row, column]:.0%} of {('wrong', 'right')[row]} answers", color=INK,
                      fontsize=LABEL, ha="center", va="center")  # fmt: skip
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.set_xticks([0, 1], ["called wrong", "called right"], fontsize=LABEL)
    axes.set_yticks([0, 1], ["was\nwrong", "was\nright"], fontsize=LABEL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        f"Decisions of the detector ({title_of(detector)})", fontsize=TITLE, loc="left", pad=18, color=INK
    )
    canvas.savefig(path, dpi=DPI)


def plot_metrics(path: Path, reports: Sequence[MethodReport], wanted: float, confidence: float) -> None:
    """Forest plot: every method's AUROC, pooled (filled) and within relation (hollow), with intervals."""
    rows = sorted(reports, key=lambda report: report.figures.auroc.value or 0)
    canvas, axes = _canvas(11.5, 1.9 + 0.78 * len(rows))
    lows = [
        f.low for r in rows for f in (r.figures.auroc, r.figures.auroc_within_relation) if f.low is not None
    ]
    left = min(0.45, *lows) - 0.01 if lows else 0.4
    for position, report in enumerate(rows):
        colour = BLUE if report.kind == "detector" else "#555555"
        for figure, offset, fill in (
            (report.figures.auroc, 0.16, colour),
            (report.figures.auroc_within_relation, -0.18, "white"),
        ):
            if figure.value is not None and figure.low is not None and figure.high is not None:
                axes.plot(
                    [figure.low, figure.high], [position + offset] * 2, color=colour, linewidth=2.4, zorder=2
                )
                axes.plot(figure.value, position + offset, marker="o", markersize=10, markerfacecolor=fill,
                          markeredgecolor=colour, markeredgewidth=2.2, zorder=3)  # fmt: skip
            axes.text(1.012, position + offset, _short(figure), fontsize=TICK - 1, va="center", color=colour,
                      fontweight="bold" if fill == colour else "normal")  # fmt: skip
    top = len(rows) - 0.42
    for x, text, side in ((0.5, "chance", "left"), (wanted, f"wanted {wanted:.2f}", "center")):
        axes.axvline(x, color=GREY, linewidth=1.2, linestyle=":", zorder=1)
        axes.text(x, top, f" {text}", fontsize=TICK - 1, color="#707070", va="bottom", ha=side)
    axes.set(xlim=(left, 1.0), ylim=(-0.6, top))
    axes.set_yticks(range(len(rows)), [title_of(report.name) for report in rows], fontsize=LABEL)
    for tick, report in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(BLUE if report.kind == "detector" else INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        f"AUROC, {confidence:.0%} interval: ● all questions   ○ within a relation", fontsize=LABEL
    )
    axes.set_title("Methods that see tracks (blue) and methods that do not", fontsize=TITLE, loc="left", pad=30,
                   color=INK)  # fmt: skip
    canvas.savefig(path, dpi=DPI)


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    canvas.get_layout_engine().set(w_pad=0.14, h_pad=0.14)  # type: ignore[union-attr,call-arg]
    axes = canvas.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=TICK, colors=INK)
    return canvas, axes


def _tile(column: int, row: int, colour: str, strength: float) -> Rectangle:
    return Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=colour, alpha=strength, linewidth=0)


def _percent_ticks(axes: Axes) -> None:
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])


def _short(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    return (
        f"{number(figure.value, digits=2)} [{number(figure.low, digits=2)}, {number(figure.high, digits=2)}]"
    )
