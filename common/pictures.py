"""What all pictures share: colours, styles, and how a curve, a figure with its interval and a canvas are drawn.

Colours are those of Okabe and Ito (2008), told apart with any kind of colour vision, the yellow darker so that it is seen on
white; and greys for what is beside them. The dashboard has its own in `style.css`, light and dark. No meaning rests on colour
alone. Figures are made without pyplot, so that nothing depends on a display.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A7400"
AMBER = "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), "-.", (0, (1, 1.2)), (0, (9, 3)), (0, (3, 1)))
LINES = tuple(zip(COLOURS, STYLES, strict=True))
"""Colour and style of a line, in the order in which series take them."""
INK, MUTED, GREY, RULE = "#222222", "#666666", "#9A9A9A", "#E6E6E6"
"""Text and axes, what is secondary, what is not of interest, grids."""
FAINT: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": ":", "zorder": 1}
"""A line to compare with."""

P = ParamSpec("P")


def style(title: float, label: float, tick: float) -> dict[Any, Any]:
    """Settings of matplotlib by sizes of text (points)."""
    sizes = {"axes.titlesize": title, "figure.titlesize": title, "axes.labelsize": label}
    sizes |= dict.fromkeys(
        ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize"), tick
    )
    inks = dict.fromkeys(
        ("text.color", "axes.titlecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    plain = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
    }
    return {**sizes, **inks, **plain}


def drawn_in(settings: Mapping[Any, Any]) -> Callable[[Callable[P, Figure]], Callable[P, Figure]]:
    """The picture that a function draws, in a style. What is left to the drawing (ticks, and the layout where a legend stands
    outside the axes) is settled in it too."""

    def decorate(draw: Callable[P, Figure]) -> Callable[P, Figure]:
        @functools.wraps(draw)
        def within(*args: P.args, **kwargs: P.kwargs) -> Figure:
            with mpl.rc_context(dict(settings)):
                canvas = draw(*args, **kwargs)
                canvas.draw_without_rendering()
            return canvas

        return within

    return decorate


def curve(axes: Axes, x: Any, y: Any, low: Any = None, high: Any = None, **line: Any) -> None:
    """A line, and the band of its interval where it has one."""
    [drawn] = axes.plot(x, y, **line)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0, zorder=2)


class Mark(NamedTuple):
    """A figure in a row. figure: with `value, low, high`, each of which may be None, as may the figure."""

    figure: Any
    colour: str
    offset: float = 0.0
    filled: bool = True
    marker: str = "o"
    label: str | None = None


def forest(axes: Axes, names: Sequence[str], rows: Sequence[Sequence[Mark]]) -> None:
    """Marks with their intervals, a named row above the other."""
    for row, marks in enumerate(rows):
        for figure, colour, offset, filled, marker, label in marks:
            if figure is None or figure.value is None:
                continue
            y, face = row + offset, colour if filled else "white"
            if figure.low is not None and figure.high is not None:
                axes.plot([figure.low, figure.high], [y, y], color=colour, zorder=2)
            axes.plot(figure.value, y, marker, color=colour, markerfacecolor=face, label=label, zorder=3)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.6, len(rows) - 0.4)
