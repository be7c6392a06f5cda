"""A question's picture: how the answer's contestants stand from layer to layer, and the tracks that speak for or against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ghosttrack.common.errors import DataError
from ghosttrack.common.maths.parting import contestants
from ghosttrack.common.maths.text import normalise
from ghosttrack.common.pictures import BLUE, GREEN, GREY, ORANGE, drawn_in, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ghosttrack.api.question import Question

LANES = 12
SAID, RIGHT = ("said", BLUE, "-"), ("right", GREEN, "-.")
BESIDE: Any = {"bbox_to_anchor": (1.0, 1.0), "loc": "upper left", "fontsize": 8}


@drawn_in(style(10, 10, 9))
def draw(question: Question, position: int) -> Figure:
    """Shares of the contestants above, the strongest tracks as lanes below. Raises DataError for a position that is not there."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    before = max(position, 0)
    shown = question.candidates[question.candidates["position"] == before]
    if shown.empty:
        raise DataError(f"{question.id} has no position {position}")
    names = [_quoted(text) for text in shown["text"]]
    golds = [normalise(each) for each in question._answer.aliases or [question.gold or ""] if each]
    right, rival = contestants(shown["text"].tolist(), question._answer.tokens, before, golds)
    against = ("strongest rival" if question.wrong is None else "strongest wrong rival", ORANGE, "--")
    kinds = {0: SAID, **({} if question.wrong is False else {right: RIGHT}), rival: against}
    _shares(above, question, position, names, {rank: kinds[rank] for rank in kinds if rank >= 0})
    _lanes(below, question, position, names, kinds.get(1, against)[1])
    below.set_xlabel("layer")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = question.text if len(question.text) <= 90 else f"…{question.text[-89:]}"
    figure.suptitle(f"{_plain(title)} → {_plain(question.answer)}", fontsize=11)
    after = "".join(question._answer.tokens[:before])
    where = (
        "at the end of the subject"
        if position < 0
        else f"after {_quoted(after)}"
        if after
        else "where the answer begins"
    )
    above.set_title(f"who is ahead, {where}")
    return figure


def _shares(
    axes: Axes, question: Question, position: int, names: list[str], kinds: dict[int, tuple[str, str, str]]
) -> None:
    """Of the candidates' probability, by the account; of a new question without one only the lens of said and strongest."""
    rows, account = question.lens[question.lens["position"] == position], question._standing(position)
    if account is None:
        chance = np.exp(rows[["logprob", "rival_logprob"]].to_numpy())
        axes.set_ylabel("probability by the logit lens")
    else:
        chance = np.exp(account - account.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        axes.set_ylabel("share among candidates")
    drawn = {rank: kind for rank, kind in kinds.items() if rank < chance.shape[1]}
    for rank, (what, colour, line) in drawn.items():
        axes.plot(
            rows["layer"], chance[:, rank], color=colour, linestyle=line, label=f"{what}: {names[rank]}"
        )
    others = np.delete(chance, list(drawn), axis=1)
    if others.size:
        axes.plot(
            rows["layer"], others.max(axis=1), color=GREY, linestyle=":", label="strongest other candidate"
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(**BESIDE)


def _lanes(axes: Axes, question: Question, position: int, names: list[str], against: str) -> None:
    """against: the colour of the strongest rival."""
    rows = question.tracks[question.tracks["position"] == position]
    weight = rows["effect"].abs().groupby(rows["track"]).sum().sort_values(ascending=False)
    strongest = weight.index[:LANES].tolist()
    most = float(rows["effect"].abs().max()) if len(rows) else 1.0
    labels = []
    for lane, track in enumerate(strongest):
        nodes = rows[rows["track"] == track].sort_values("layer")
        axes.plot(nodes["layer"], np.full(len(nodes), lane), color=GREY, linewidth=1, zorder=1)
        colour = np.where(nodes["effect"] >= 0, BLUE, against)
        size = 12 + 160 * (nodes["effect"].abs() / most) ** 0.7
        axes.scatter(nodes["layer"], np.full(len(nodes), lane), s=size, c=colour, zorder=2)
        loudest = nodes.loc[nodes["activation"].idxmax()]
        label = loudest.get("label")
        if not isinstance(label, str):  # a missing one is NaN
            label = f"no label, {loudest['layer']}:{loudest['latent']}"
        labels.append(_plain(label if len(label) <= 24 else f"{label[:23]}…"))
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_title("strongest tracks, by what they are active on; size: effect on the logits")
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"for {name}")
        for colour, name in zip((BLUE, against), names, strict=False)
    ]
    axes.legend(handles=handles, **BESIDE)


def _quoted(text: str) -> str:
    return _plain(f"“{text.strip() or repr(text)}”")


def _plain(text: str) -> str:
    """Without what matplotlib would take for mathematics, without line breaks, and with control characters as numbers."""
    line = " ".join(text.replace("$", r"\$").split())
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in line)
