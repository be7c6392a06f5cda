"""Pages are pictures of their figures: everything on them, nothing cut off or on top of something else."""

import copy
import io
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from ghosttrack.stages.sae_train import pages

EDGES = [-5 + 0.25 * step for step in range(21)]


def record(layer: int) -> dict[str, Any]:
    """As of a layer that was trained here."""
    tokens = [1000.0 * step for step in range(1, 51)]
    return {
        "layer": layer, "target_l0": 64.0, "l0": 64.21, "fvu": 0.213 + 0.002 * layer, "fvu_unmasked": 0.247,
        "mse": 0.205, "dead_fraction": 0.012, "over_dense_fraction": 0.031, "held_out_tokens": 2012,
        "l0_quantiles": {"0.05": 22.0, "0.25": 45.0, "0.5": 60.0, "0.75": 80.0, "0.95": 121.0},
        "l0_histogram": {"edges": list(range(4, 205, 5)), "counts": [30 + 100 * (n == 9) for n in range(40)]},
        "firing_rate_histogram": {"log10_edges": EDGES, "counts": [n * (20 - n) for n in range(20)], "never": 14},
        "base_cosine": 0.91, "base_self_match": 0.99, "training_tokens": 50_000,
        "curve": {
            "tokens": tokens, "loss": [0.2 + 0.7 * math.exp(-t / 9000) for t in tokens], "l0": [64.0] * 50,
            "dead_fraction": [0.05 * math.exp(-t / 9000) for t in tokens],
        },
        "checks": [{"step": n, "tokens": 12_500 * n, "held_out_fvu": 0.4 - 0.04 * n} for n in range(1, 5)],
        "measured_on": "held_out_states", "splice": recovered(0.95),
    }  # fmt: skip


def imported(layer: int) -> dict[str, Any]:
    """As of a layer whose SAE was trained elsewhere."""
    kept = {
        name: value
        for name, value in record(layer).items()
        if name not in ("curve", "checks", "base_cosine", "base_self_match", "training_tokens")
    }
    return {**kept, "pretrained": True, "source": "a-release-with-a-long-name/blocks.11.hook_resid_post, downloaded",
            "measured_on": "splice"}  # fmt: skip


def recovered(share: float) -> dict[str, Any]:
    return {
        "ce": {"sae": 3.1, "zero": 9.8, "mean": 7.2}, "kl": {"sae": 0.3, "zero": 7.0, "mean": 4.2},
        "ce_recovered": {"zero": 0.98, "mean": share}, "kl_recovered": {"zero": 0.957, "mean": 0.93},
    }  # fmt: skip


def report(records: list[dict[str, Any]]) -> dict[str, Any]:
    layers = [entry["layer"] for entry in records]

    def pair(cosine: float) -> dict[str, Any]:
        quantiles = {"0.05": cosine - 0.1, "0.5": cosine, "0.95": cosine + 0.03}
        return {"cosine": cosine, "cosine_quantiles": quantiles, "nearest_cosine": cosine, "self_match": 0.97}

    return {
        "text": {"tokens": 4096, "predictions": 4000, "segments": 40, "ce": 3.1},
        "layers": records,
        "all_layers": {
            **recovered(-0.2), "error_by_depth": [{"layer": n, "fvu": 0.2 + 0.02 * n, "fvu_alone": 0.2} for n in layers],
        },
        "identity": {
            "adjacent": [
                {"layer": a, "next": b, **pair(0.9)} for a, b in itertools.pairwise(layers)
            ],
            "to_first": [{"layer": n, "first": layers[0], **pair(0.9 - 0.01 * n)} for n in layers[1:]],
            "random": {**pair(0.0), "nearest_cosine": 0.13, "self_match": 0.001},
        },
    }  # fmt: skip


WHOLE = report([record(n) for n in range(30)])


def texts_of(canvas: Figure) -> list[tuple[str, Any]]:
    """Every text that is drawn, with its box in pixels."""
    drawn: list[Text] = []
    draw = Text.draw

    def note(text: Text, *arguments: Any) -> None:
        drawn.append(text)
        draw(text, *arguments)

    canvas.set_dpi(pages.DPI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        canvas.savefig(io.BytesIO(), dpi=pages.DPI)
    return [(text.get_text(), text.get_window_extent()) for text in drawn if text.get_text().strip()]


def undefined(entry: dict[str, Any]) -> dict[str, Any]:
    """As where the ablation did no damage."""
    entry = copy.deepcopy(entry)
    for name in ("ce_recovered", "kl_recovered"):
        entry["splice"][name] = {"zero": None, "mean": -0.25}
    return entry


@pytest.mark.parametrize(
    "canvas",
    [
        lambda: pages.layer_page(WHOLE["layers"][12], WHOLE),
        lambda: pages.layer_page(WHOLE["layers"][0], WHOLE),
        lambda: pages.layer_page(imported(3), report([imported(n) for n in range(6)])),
        lambda: pages.layer_page(undefined(record(0)), report([undefined(record(0))])),
        lambda: pages.identity_page(WHOLE),
        lambda: pages.identity_page(report([undefined(record(0)), record(1)])),
    ],
    ids=["trained", "first", "imported", "the only layer", "depth", "depth of two"],
)
def test_every_text_is_inside_the_page_and_none_lies_on_another(canvas: Any) -> None:
    page = canvas()
    texts = texts_of(page)
    assert len(texts) > 20
    width, height = page.bbox.size
    for text, box in texts:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for number, (text, box) in enumerate(texts):
        for other, place in texts[number + 1 :]:
            wide = min(box.x1, place.x1) - max(box.x0, place.x0)
            high = min(box.y1, place.y1) - max(box.y0, place.y0)
            assert min(wide, high) < 2, f"{text!r} and {other!r}"


def test_key_figures_are_said_on_the_page() -> None:
    said = pages.headline(WHOLE["layers"][12])
    for words in (
        "Layer 12",
        "L0 64.2 of 64",
        "FVU 0.237",
        "MSE 0.205",
        "dead 1.2%",
        "over-dense 3.1%",
        "95.0%",
    ):
        assert words in said
    assert "2,012 tokens of held-out states" in said
    assert "spliced text" in pages.headline(imported(3))
    assert pages.percent(None) == "undefined"
    assert pages.percent(-0.125) == "−12.5%"


def test_pages_are_pictures_and_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    for number in (0, 1):
        pages.layer_page(WHOLE["layers"][3], WHOLE).savefig(tmp_path / f"layer_{number}.png", dpi=pages.DPI)
        pages.identity_page(WHOLE).savefig(tmp_path / f"depth_{number}.png", dpi=pages.DPI)
    for name in ("layer", "depth"):
        first, second = (tmp_path / f"{name}_{number}.png" for number in (0, 1))
        assert first.read_bytes() == second.read_bytes()
        pixels = imread(first)
        assert pixels.shape[0] > 800
        assert pixels.shape[1] > 1400
        assert np.ptp(pixels) > 0.5
