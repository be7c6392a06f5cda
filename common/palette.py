"""The colours of all pictures: those of Okabe and Ito (2008), told apart with any kind of colour vision, the yellow darker so
that it is seen on white; and greys for what is beside them. The dashboard has its own in `style.css`, light and dark."""

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A7400"
AMBER = "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
"""In the order in which series take them."""
INK, MUTED, GREY, RULE = "#222222", "#666666", "#9A9A9A", "#E6E6E6"
"""Text and axes, what is secondary, what is not of interest, grids."""
