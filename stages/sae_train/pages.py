"""Pictures of what was measured: a page for each layer's SAE, and one of how latents keep their identity over depth."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from ghosttrack.common import pictures
from ghosttrack.common.pictures import BLUE, GREEN, GREY, INK, ORANGE
from ghosttrack.stages.sae_train.evaluate import OVER_DENSE

LABEL = 11
PAGE = pictures.style(15, LABEL, 10) | {
    "axes.titlesize": LABEL, "lines.linewidth": 1.4, "lines.markersize": 4, "figure.figsize": (13.5, 8.2),
    "figure.subplot.left": 0.05, "figure.subplot.right": 0.985, "figure.subplot.bottom": 0.075, "figure.subplot.top": 0.86,
}  # fmt: skip
DPI = 110
HEADROOM = 1.2
"""Axis over data, for the legend."""
WORST = 2.0
"""Loss recovered is drawn down to minus this share; its number stands at the bar."""

Json = Mapping[str, Any]


@pictures.drawn_in(PAGE)
def layer_page(record: Json, report: Json) -> Canvas:
    """One layer on one page. record: its entry of `report["layers"]`; report: sae_quality.json."""
    canvas = _canvas(headline(record))
    spaces = {"wspace": 0.22, "hspace": 0.36}
    (loss, dead, l0), (rates, recovered, same) = canvas.subplots(2, 3, gridspec_kw=spaces)
    if "curve" in record:
        _loss(loss, record)
        _dead(dead, record)
    else:
        _no_training(loss, record)
        dead.set_axis_off()
    _l0(l0, record)
    _rates(rates, record)
    _recovered(recovered, record, report)
    _neighbours(same, record, report)
    return canvas


def headline(record: Json) -> str:
    """Two lines of key figures."""
    recovered = record["splice"]["ce_recovered"]["mean"]
    where = "held-out states" if record["measured_on"] == "held_out_states" else "the spliced text"
    return (
        f"Layer {record['layer']}: L0 {record['l0']:.1f} of {record['target_l0']:g} · FVU {record['fvu']:.3f} "
        f"({record['fvu_unmasked']:.3f} with position 0 and outliers) · MSE {record['mse']:.3f}\n"
        f"dead {record['dead_fraction']:.1%} · over-dense {record['over_dense_fraction']:.1%} · cross-entropy "
        f"recovered {percent(recovered)} of mean-ablation · {record['held_out_tokens']:,} tokens of {where}"
    )


def percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}".replace("-", "−")


def _loss(axes: Axes, record: Json) -> None:
    curve, checks = record["curve"], [check for check in record["checks"] if "tokens" in check]
    axes.plot(curve["tokens"], curve["loss"], color=BLUE, label="training loss (MSE)")
    tokens, fvu = ([check[name] for check in checks] for name in ("tokens", "held_out_fvu"))
    axes.plot(tokens, fvu, "o--", color=ORANGE, markersize=6, label="held-out FVU")
    axes.set_title("Loss in training")
    _tokens_axis(axes)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left")


def _dead(axes: Axes, record: Json) -> None:
    curve = record["curve"]
    dead = [100 * value for value in curve["dead_fraction"]]
    axes.plot(curve["tokens"], dead, color=BLUE)
    axes.set_title("Dead latents in training, %")
    _tokens_axis(axes)
    axes.set_ylim(0, 1.1 * max([1.0, *dead]))


def _no_training(axes: Axes, record: Json) -> None:
    axes.set_axis_off()
    text = ["No curves: this SAE was not trained here."] if record.get("pretrained") else ["No curves."]
    if source := record.get("source"):
        text += textwrap.wrap(f"It is from {source}", 44)
    axes.text(0.0, 0.95, "\n".join(text), fontsize=LABEL, va="top", transform=axes.transAxes)


def _l0(axes: Axes, record: Json) -> None:
    found = record["l0_histogram"]
    edges, counts = found["edges"], found["counts"]
    total = sum(counts)
    axes.stairs([100 * count / total for count in counts], edges, fill=True, color=BLUE, alpha=0.75)
    quantiles, highest = record["l0_quantiles"], 100 * max(counts) / total
    for name, colour in (("0.05", GREY), ("0.5", INK), ("0.95", GREY)):
        axes.vlines(quantiles[name], 0, highest, color=colour, linewidth=1.2, linestyle=":")
    axes.vlines(record["target_l0"], 0, highest, color=ORANGE, linestyle="--", label="target of the mean")
    axes.set_title("Active latents a token, % of tokens")
    said = (
        f"{name} {quantiles[key]:.0f}" for name, key in (("5%", "0.05"), ("median", "0.5"), ("95%", "0.95"))
    )
    axes.set_xlabel(" · ".join(said))
    axes.set_ylim(0, HEADROOM * highest)
    axes.legend(loc="upper right")


def _rates(axes: Axes, record: Json) -> None:
    found = record["firing_rate_histogram"]
    axes.stairs(found["counts"], found["log10_edges"], fill=True, color=BLUE, alpha=0.75)
    axes.axvline(math.log10(OVER_DENSE), color=ORANGE, linestyle="--", label="over-dense beyond")
    low = math.floor(found["log10_edges"][0])
    axes.set_xticks(range(low, 1), [_power(number) for number in range(low, 1)])
    axes.set_title("Latents by firing rate")
    axes.set_xlabel(f"share of tokens that a latent fires on; {found['never']:,} never did")
    axes.set_ylim(0, HEADROOM * max(1, *found["counts"]))
    axes.legend(loc="upper left")


def _recovered(axes: Axes, record: Json, report: Json) -> None:
    """Bars of the layer alone, and all layers at once beside them."""
    bars = [(name, against) for name in ("ce_recovered", "kl_recovered") for against in ("zero", "mean")]
    lowest = 0.0
    for offset, losses, colour, label in (
        (-0.2, record["splice"], BLUE, "this layer alone"),
        (0.2, report["all_layers"], GREEN, "all layers at once"),
    ):
        values = [losses[name][against] for name, against in bars]
        heights = [100 * min(1.0, max(-WORST, value or 0.0)) for value in values]
        lowest = min([lowest, *heights])
        places = [place + offset for place in range(len(bars))]
        axes.bar(places, heights, width=0.38, color=colour, label=label)
        for place, height, value in zip(places, heights, values, strict=True):
            text = "–" if value is None else f"{100 * value:.0f}".replace("-", "−")
            up = height >= 0
            axes.annotate(text, (place, height), (0, 2 if up else -2), ha="center", va="bottom" if up else "top",
                          textcoords="offset points")  # fmt: skip
    axes.set_xticks(range(len(bars)), ["CE\nzero", "CE\nmean", "KL\nzero", "KL\nmean"])
    axes.set_ylim(1.25 * lowest, 100 + 0.28 * (100 - lowest))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title("Loss recovered against ablation, %")
    axes.legend(loc="upper right", ncols=2)


def _neighbours(axes: Axes, record: Json, report: Json) -> None:
    """Cosine and self-match of this layer's latents to those of base and neighbours; random directions in grey."""
    layer, same = record["layer"], report["identity"]
    rows: list[tuple[str, float, float]] = []
    if "base_cosine" in record:
        rows.append(("base", record["base_cosine"], record["base_self_match"]))
    for pair in same["adjacent"]:
        if layer in (pair["layer"], pair["next"]):
            other = pair["layer"] if layer == pair["next"] else pair["next"]
            rows.append((f"layer {other}", pair["cosine"], pair["self_match"]))
    random = same["random"]
    rows.append(("random", random["cosine"], random["self_match"]))
    for place, (name, cosine, match) in enumerate(rows):
        colours = (GREY, GREY) if name == "random" else (BLUE, GREEN)
        for offset, value, colour in ((-0.2, cosine, colours[0]), (0.2, match, colours[1])):
            axes.barh(place + offset, max(value, 0.0), height=0.38, color=colour)
            axes.text(max(value, 0.0) + 0.02, place + offset, f"{value:.2f}".replace("-", "−"), va="center")
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -1.0)
    axes.set_xlim(0, 1.18)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_title("Are latents the same ones as in …")
    handles = [Patch(color=BLUE, label="decoder cosine"), Patch(color=GREEN, label="nearest is itself")]
    axes.legend(handles=handles, loc="upper right", ncols=2, columnspacing=1.0)


@pictures.drawn_in(PAGE)
def identity_page(report: Json) -> Canvas:
    """Identity of latents, and the error of all SAEs together, over depth. report: sae_quality.json."""
    whole = report["all_layers"]["ce_recovered"]
    canvas = _canvas(
        "Do latents keep their identity over depth, and what do all SAEs together do?\n"
        f"all layers at once: cross-entropy recovered {percent(whole['zero'])} of zero-, {percent(whole['mean'])} of "
        f"mean-ablation · {report['text']['tokens']:,} held-out tokens"
    )
    spaces = {"wspace": 0.12, "hspace": 0.36}
    (cosines, matches), (recovered, errors) = canvas.subplots(2, 2, gridspec_kw=spaces)
    for axes in (cosines, matches, recovered, errors):
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _cosines(cosines, report["identity"])
    _matches(matches, report["identity"])
    _recovered_by_depth(recovered, report)
    _errors(errors, report)
    return canvas


def _cosines(axes: Axes, same: Json) -> None:
    pairs, random = same["adjacent"], same["random"]
    layers = [pair["layer"] for pair in pairs]
    low, high = ([pair["cosine_quantiles"][q] for pair in pairs] for q in ("0.05", "0.95"))
    axes.fill_between(layers, low, high, color=BLUE, alpha=0.15, linewidth=0, label="5–95% of latents")
    middle = [pair["cosine_quantiles"]["0.5"] for pair in pairs]
    axes.plot(layers, middle, "o-", color=BLUE, label="same latent in the next layer, median")
    nearest = [pair["nearest_cosine"] for pair in pairs]
    axes.plot(layers, nearest, "--", color=GREEN, label="nearest latent there, mean")
    ends = (random["cosine_quantiles"][q] for q in ("0.05", "0.95"))
    axes.axhspan(*ends, color=GREY, alpha=0.3, linewidth=0, label="same latent, random directions")
    axes.axhline(random["nearest_cosine"], color=GREY, linestyle="--", label="nearest, random")
    axes.set_title("Decoder cosine to the next layer")
    axes.set_ylim(min([random["cosine_quantiles"]["0.05"], *low]) - 0.05, 1.05)
    axes.legend(loc="center right")


def _matches(axes: Axes, same: Json) -> None:
    first = same["to_first"]
    for entries, key, line, colour, label in (
        (same["adjacent"], "self_match", "o-", BLUE, "itself in the next layer"),
        (first, "self_match", "o--", ORANGE, "itself in the first layer (drift)"),
        (first, "cosine", ":", ORANGE, "cosine to the first layer, mean · 100"),
    ):
        layers, shares = [entry["layer"] for entry in entries], [100 * entry[key] for entry in entries]
        axes.plot(layers, shares, line, color=colour, label=label)
    axes.axhline(100 * same["random"]["self_match"], color=GREY, label="random directions")
    axes.set_title("Latents whose nearest is itself, %")
    axes.set_ylim(-3, 105)
    axes.legend(loc="best")


def _recovered_by_depth(axes: Axes, report: Json) -> None:
    layers = [record["layer"] for record in report["layers"]]
    lowest = 0.0
    for name, colour, label in (("ce_recovered", BLUE, "cross-entropy"), ("kl_recovered", GREEN, "KL")):
        for against, line in (("zero", "o:"), ("mean", "o-")):
            values = [record["splice"][name][against] for record in report["layers"]]
            shown = [math.nan if value is None else 100 * value for value in values]
            axes.plot(layers, shown, line, color=colour, label=f"{label} against {against}")
            lowest = min([lowest, *(value for value in shown if not math.isnan(value))])
    axes.axhline(100, color=GREY, linewidth=1, linestyle=":")
    axes.set_title("Loss recovered, each layer alone, %")
    axes.set_ylim(max(lowest, -100) - 3, 105)
    axes.legend(loc="best")


def _errors(axes: Axes, report: Json) -> None:
    depth = report["all_layers"]["error_by_depth"]
    layers = [entry["layer"] for entry in depth]
    for key, colour, label in (
        ("fvu", ORANGE, "all SAEs up to the layer at once"),
        ("fvu_alone", BLUE, "the layer's SAE alone"),
    ):
        axes.plot(layers, [entry[key] for entry in depth], "o-", color=colour, label=label)
    axes.set_title("Variance unexplained on the same text (FVU)")
    axes.set_yscale("log")  # a SAE may amplify what is far from its training states, layer after layer
    axes.legend(loc="best")


def _canvas(title: str) -> Canvas:
    canvas = Canvas()
    canvas.suptitle(title, x=0.015, y=0.975, ha="left")
    return canvas


def _tokens_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k, 1.5M
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _power(number: int) -> str:
    return {0: "all", -1: "10%", -2: "1%", -3: "0.1%"}.get(
        number, f"10{str(number).translate(_SUPERSCRIPTS)}"
    )


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
