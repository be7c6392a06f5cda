"""The plots of a comparison of models, as SVG."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from ghosttrack.common import pictures
from ghosttrack.common.pictures import COLOURS, MUTED, Mark
from ghosttrack.stages.report.compare.facts import SAE_FIGURES, ModelFacts, stages_of

STYLE = pictures.style(11, 10, 9) | {"lines.markersize": 4, "figure.constrained_layout.use": True}
BESIDE: Any = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
MARKS = ("o", "s", "^", "D", "v", "P")


def draw(facts: Sequence[ModelFacts]) -> dict[str, str]:
    """File name to SVG: SAE quality over relative depth, AUROCs, time and storage of the stages."""
    wanted = {
        "sae_by_depth.svg": sae_plot if any(each.sae for each in facts) else None,
        "auroc.svg": auroc_plot if any(each.figures for each in facts) else None,
        "time_and_storage.svg": cost_plot,
    }
    with mpl.rc_context(STYLE):
        return {name: _svg(plot(facts)) for name, plot in wanted.items() if plot}


def sae_plot(facts: Sequence[ModelFacts]) -> Canvas:
    canvas = Canvas(figsize=(11, 3.8))
    for axes, (key, title) in zip(canvas.subplots(1, 3), SAE_FIGURES.items(), strict=True):
        for number, each in enumerate(facts):
            known = [(layer["depth"], layer[key]) for layer in each.sae if layer[key] is not None]
            if known:
                x, y = zip(*known, strict=True)
                axes.plot(x, y, MARKS[number % 6] + "-", color=COLOURS[number % 6], label=each.name)
        axes.set(xlabel="depth (0 first block, 1 last)", title=title)
    canvas.axes[0].legend()
    return canvas


def auroc_plot(facts: Sequence[ModelFacts]) -> Canvas:
    shown = [each for each in facts if each.figures]
    canvas = Canvas(figsize=(8, 1.2 + 0.9 * len(shown)))
    axes = canvas.add_subplot()
    kinds = (
        ("auroc", "detector", 0.22, COLOURS[0], True),
        ("auroc_within_relation", "detector, within a relation", 0.0, COLOURS[0], False),
        ("baseline", "best baseline", -0.22, MUTED, True),
    )
    rows = [
        [
            Mark(each.figures.get(key), colour, offset, filled, label=None if row else label)
            for key, label, offset, colour, filled in kinds
        ]
        for row, each in enumerate(reversed(shown))
    ]
    pictures.forest(axes, [each.name for each in reversed(shown)], rows)
    axes.set_xlabel("AUROC with 95 % interval")
    axes.legend(**BESIDE)
    return canvas


def cost_plot(facts: Sequence[ModelFacts]) -> Canvas:
    canvas = Canvas(figsize=(11, 1.2 + 0.5 * len(facts) * 2))
    left, right = canvas.subplots(1, 2)
    names = [each.name for each in facts]
    for axes, title, scale, of in ((left, "hours", 3600.0, "seconds"), (right, "GB on disk", 1e9, "bytes")):
        start = [0.0] * len(facts)
        for number, stage in enumerate(stages_of(facts)):
            amounts = [getattr(each, of).get(stage, 0.0) / scale for each in facts]
            axes.barh(names, amounts, left=start, label=stage, color=COLOURS[number % 6])
            start = [a + b for a, b in zip(start, amounts, strict=True)]
        axes.set_title(title)
        axes.invert_yaxis()
    right.legend(**BESIDE)
    return canvas


def _svg(canvas: Canvas) -> str:
    file = io.StringIO()
    canvas.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
