"""The picture of the validation: scenes, life, likelihood and causes, a panel each. Colours of Okabe and Ito 2008."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.pictures import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, drawn_in, style

ASSOCIATORS = {
    "none": ("no association", GREY),
    "random": ("random", PINK),
    "feature_id": ("same latent number", AMBER),
    "nearest": ("nearest neighbour", BLUE),
    "marginals": ("marginal probabilities", GREEN),
    "nearest_look_back": ("nearest, looking back", SKY),
    "hypotheses": ("several hypotheses", ORANGE),
}
"""Those of planted scenes: what each is called, and its colour."""
REAL, NULL = BLUE, GREY


@drawn_in(style(13, 11, 10))
def draw(path: Path, report: Mapping[str, Any], likelihood: Mapping[str, Floats]) -> Figure:
    """Draw and write the picture. report: validation.json; likelihood: log densities a token by kind of link."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    scenes = report["scenes"]
    width = 0.8 / len(ASSOCIATORS)
    for number, (name, (words, colour)) in enumerate(ASSOCIATORS.items()):
        heights = [scenes[scene][name]["gospa"] for scene in scenes]
        at = np.arange(len(scenes)) + (number - (len(ASSOCIATORS) - 1) / 2) * width
        axes[0, 0].bar(at, heights, width, color=colour, label=words)
    axes[0, 0].set_xticks(range(len(scenes)), [{"all": "all at once"}.get(scene, scene) for scene in scenes])
    axes[0, 0].set(title="Planted scenes", ylabel="mean GOSPA (lower is better)")
    axes[0, 0].legend(fontsize=8, ncols=2)
    life = report["life"]
    kinds = {
        "real": "decoders as they are",
        "random": "same lengths,\ndealt at random",
        "permuted": "decoders permuted",
    }
    axes[0, 1].bar(list(kinds.values()), [life[kind] for kind in kinds], color=[REAL, NULL, NULL])
    axes[0, 1].set(title="Life of tracks", ylabel="activation-weighted mean, layers")
    if len(likelihood["linked"]):
        bins = np.histogram_bin_edges(np.concatenate([likelihood["linked"], likelihood["random"]]), 40)
        shown = {"random": (NULL, "links dealt at random"), "linked": (REAL, "links that were made")}
        for kind, (colour, label) in shown.items():
            axes[1, 0].hist(likelihood[kind], bins, color=colour, alpha=0.7, label=label)
        axes[1, 0].legend()
    density = "nats a link, mean over a token's links"
    axes[1, 0].set(title="Log density of the next activation", xlabel=density, ylabel="tokens")
    by_layer = report["causes"]["by_layer"]
    places = [layer["layer"] for layer in by_layer]
    lost = {"drop_linked": (REAL, "linked latent"), "drop_control": (NULL, "control of equal strength")}
    for key, (colour, label) in lost.items():
        axes[1, 1].plot(places, [layer[key] for layer in by_layer], "o-", color=colour, label=label)
    axes[1, 1].axhline(0, color=INK, linewidth=0.8)
    share = "share of the latent at l + 1 that goes"
    axes[1, 1].set(title="Taken out at layer l", xlabel="layer l", ylabel=share)
    axes[1, 1].legend(loc="center")
    figure.savefig(path, dpi=110)
    return figure
