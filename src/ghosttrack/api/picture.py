"""A question's picture: what the logit lens reads from layer to layer, and the tracks that speak for or against the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghosttrack.common.pictures import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ghosttrack.api.question import Question

LANES = 12
SAID, RIVAL, QUIET = BLUE, ORANGE, GREY


def draw(question: Question, position: int) -> Figure:
    """Log-probabilities by the lens above, the strongest tracks as lanes below."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    shown = question.candidates[question.candidates["position"] == max(position, 0)]
    names = [_quoted(text) for text in shown["text"].head(2)]
    _lens(above, question, position, names)
    _lanes(below, question, position, names)
    below.set_xlabel("layer")
    title = question.text if len(question.text) <= 90 else f"…{question.text[-89:]}"
    figure.suptitle(f"{_plain(title)} → {_plain(question.answer)}", fontsize=11)
    return figure


def _lens(axes: Axes, question: Question, position: int, names: list[str]) -> None:
    rows = question.lens[question.lens["position"] == position]
    styles = ((SAID, "-", "said"), (RIVAL, "--", "rival"))
    for column, (colour, line, what), name in zip(("logprob", "rival_logprob"), styles, names, strict=False):
        axes.plot(rows["layer"], rows[column], color=colour, linestyle=line, label=f"{what}: {name}")
    axes.set_ylabel("log-probability (nats)")
    axes.set_title("logit lens", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _lanes(axes: Axes, question: Question, position: int, names: list[str]) -> None:
    rows = question.tracks[question.tracks["position"] == position]
    weight = rows["effect"].abs().groupby(rows["track"]).sum().sort_values(ascending=False)
    strongest = weight.index[:LANES].tolist()
    most = float(rows["effect"].abs().max()) if len(rows) else 1.0
    labels = []
    for lane, track in enumerate(strongest):
        nodes = rows[rows["track"] == track].sort_values("layer")
        axes.plot(nodes["layer"], np.full(len(nodes), lane), color=QUIET, linewidth=1, zorder=1)
        colour = np.where(nodes["effect"] >= 0, SAID, RIVAL)
        size = 12 + 160 * (nodes["effect"].abs() / most) ** 0.7
        axes.scatter(nodes["layer"], np.full(len(nodes), lane), s=size, c=colour, zorder=2)
        loudest = nodes.loc[nodes["activation"].idxmax()]
        label = loudest.get("label")
        if not isinstance(label, str):  # a missing one is NaN
            label = f"no label, {loudest['layer']}:{loudest['latent']}"
        labels.append(_plain(label if len(label) <= 24 else f"{label[:23]}…"))
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_title(
        "strongest tracks, by what they are active on; size: effect on the logits", loc="left", fontsize=9
    )
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"for {name}")
        for colour, name in zip((SAID, RIVAL), names, strict=False)
    ]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _quoted(text: str) -> str:
    return _plain(f"“{text.strip() or repr(text)}”")


def _plain(text: str) -> str:
    """Without what matplotlib would take for mathematics, without line breaks, and with control characters as numbers."""
    line = " ".join(text.replace("$", r"\$").split())
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in line)
