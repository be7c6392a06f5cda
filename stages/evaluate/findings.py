"""From figures to statements: the headlines, and expectations with met or not met."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ghosttrack.common.formats.final_report import (
    Comparison,
    Expectation,
    Figure,
    Headline,
    MethodCard,
    MethodReport,
    Metric,
    Permutation,
    SaeLayer,
    SplitReport,
)
from ghosttrack.common.formats.scores import TRANSFER

L0_WANTED = (50, 100)
MSE_WANTED = 0.01
AUROC_WANTED = 0.90
F1_WANTED = 0.85
HELD_OUT_WANTED = 0.87
WITHIN_WANTED = 0.82
ECE_WANTED = 0.03

LOOKED_AT: tuple[tuple[str, Metric, str, str], ...] = (
    ("grouped", "auroc", "all questions", ""),
    ("grouped", "auroc_within_relation", "questions of one relation", "within relations "),
    ("relations", "auroc", "relations held out", "with relations held out "),
)
"""Split and figure that sentences are on, and what they call it."""


def headline(
    detector: str, cards: Mapping[str, MethodCard], splits: Mapping[str, SplitReport], main_rung: str | None
) -> Headline:
    """What was found: of the hypotheses, of the detector, of the tracking. main_rung: the rung of the association that
    the detector's tracks were made by."""
    grouped = splits["grouped"]
    tracking, helps = tracking_sentence(grouped, cards, detector, main_rung)
    contexts, found = contexts_sentence(cards, splits), detector_sentence(detector, cards, splits)
    return Headline(contexts=contexts, detector=found, tracking=tracking, helps=helps)


def contexts_sentence(cards: Mapping[str, MethodCard], splits: Mapping[str, SplitReport]) -> str:
    """What the answers' standing in other contexts adds to everything that one prompt tells; empty where it was not read."""
    parts: list[str] = []
    other = [
        (name, "auroc", f"another data set, the detector of {report.origin} as it is" if report.origin else "another data set")
        for name, report in splits.items() if name.startswith(TRANSFER)
    ]  # fmt: skip
    for split, metric, where in (*(each[:3] for each in LOOKED_AT), *other):
        report = splits.get(split)
        if report and (found := comparison(report, "contexts", "anchored", metric, "full")):
            parts.append(f"{interval(found.difference, signed=True)} on {where} ({found.verdict})")
    if not parts:
        return ""
    return (
        f"Hypotheses, the candidate answers read again in other contexts, change the AUROC of {cards['full'].title} of one prompt "
        f"by {'; '.join(parts)}."
    )


def detector_sentence(
    detector: str, cards: Mapping[str, MethodCard], splits: Mapping[str, SplitReport]
) -> str:
    """Whether the main detector beats the best baseline: pooled, within relations, and with relations held out."""
    parts: list[str] = []
    for split, metric, _, where in LOOKED_AT:
        report = splits.get(split)
        found = report and comparison(report, "detector", detector, metric)
        if not report or not found:
            continue
        both = (method_of(report, name).figures for name in (detector, found.against))
        ours, theirs = (number(getattr(figures, metric).value) for figures in both)
        baseline = cards[found.against].title
        gain = interval(found.difference, signed=True)
        if parts:
            parts.append(f"{where}it {_verb(found)} {baseline}: {ours} against {theirs}, {gain}")
        else:
            parts.append(
                f"{_verb(found)} the best single method without tracks, {baseline}: AUROC {ours} against {theirs}, "
                f"paired difference {gain}"
            )
    name = cards[detector].title
    if not parts:
        return f"The detector ({name}) was scored without a baseline beside it."
    return f"The detector ({name}) {'; '.join(parts)}."


def tracking_sentence(
    report: SplitReport, cards: Mapping[str, MethodCard], detector: str, main_rung: str | None
) -> tuple[str, bool | None]:
    """Whether tracking helps, from three paired differences, and whether all three are above zero."""
    compared = [each for each in report.comparisons if each.metric == "auroc"]
    against = [each for each in compared if each.about == "association" and each.method == main_rung]
    increments = [each for each in compared if each.about == "increment"]
    widest = max((len(cards[each.method].signals) for each in increments), default=0)
    increments = [each for each in increments if each.method == detector] or [
        each for each in increments if len(cards[each.method].signals) == widest
    ][:1]
    if not against + increments:
        return "Whether tracking helps was not measured: no association was compared.", None

    named = [(f"{cards[each.method].title} over", each) for each in against]
    named += [("tracks added to", each) for each in increments]
    parts = [
        f"{what} {cards[each.against].title} {interval(each.difference, signed=True)} ({each.verdict})"
        for what, each in named
    ]
    better = [each.verdict == "better" for each in against + increments]
    if len(against) == 2 and increments:
        helps = all(better)
        opening = "Tracks add to the other signals" if helps else "Tracks add nothing to the other signals" if not any(better) else (
            f"Tracks help in {sum(better)} of {len(better)} comparisons, too few to say that they help"
        )  # fmt: skip
    else:
        helps, opening = None, "Whether tracking helps was measured in part"
    return f"{opening}. Differences of AUROC: {'; '.join(parts)}.", helps


def comparison(
    report: SplitReport, about: str, method: str, metric: str, against: str | None = None
) -> Comparison | None:
    wanted = (about, method, metric)
    found = (each for each in report.comparisons if (each.about, each.method, each.metric) == wanted)
    return next((each for each in found if against in (None, each.against)), None)


def method_of(report: SplitReport, name: str) -> MethodReport:
    return next(each for each in report.methods if each.name == name)


def _verb(found: Comparison) -> str:
    verbs = {"better": "beats", "worse": "does worse than"}
    return verbs.get(found.verdict, "shows no clear difference from")


def expectations(
    detector: str, splits: Mapping[str, SplitReport], sae: Sequence[SaeLayer], permutation: Permutation | None
) -> list[Expectation]:
    """The reference page's four expected figures, where an interval over layers is their range; then our own."""
    rows = _of_saes(sae)
    if grouped := splits.get("grouped"):
        rows += _of_detection(detector, grouped, splits.get("relations"))
    if permutation:
        rows.append(
            Expectation(
                metric="AUROC, labels permuted", source="this project", wanted="0.48–0.52",
                found=Figure(value=permutation.mean, low=permutation.low, high=permutation.high), met=permutation.met,
                note=f"mean and range of {permutation.n:,} permutations within relations; the real one must be beyond them all",
            )
        )  # fmt: skip
    return rows


def _of_saes(sae: Sequence[SaeLayer]) -> list[Expectation]:
    mse, l0 = [layer.mse for layer in sae], [layer.l0 for layer in sae]
    fvu = np.mean([layer.fvu for layer in sae])
    return [
        Expectation(
            metric="Reconstruction loss", source="reference page", wanted=f"< {MSE_WANTED}", found=_range(mse),
            met=max(mse) < MSE_WANTED,
            note=f"mean over layers, range over layers; the share of variance unexplained is {fvu:.2f}",
        ),
        Expectation(
            metric="Active latents", source="reference page", wanted=f"{L0_WANTED[0]}–{L0_WANTED[1]}",
            found=_range(l0), met=L0_WANTED[0] <= min(l0) and max(l0) <= L0_WANTED[1],
            note="mean over layers, range over layers; met if every layer is inside",
        ),
    ]  # fmt: skip


def _of_detection(detector: str, grouped: SplitReport, held_out: SplitReport | None) -> list[Expectation]:
    figures, pooled = method_of(grouped, detector).figures, "all questions pooled"
    guessing = f"calling every answer wrong gives {grouped.f1_all_called_wrong:.2f}"
    rows = [
        _above("AUROC", "reference page", AUROC_WANTED, figures.auroc, pooled),
        _above("F1", "reference page", F1_WANTED, figures.f1, guessing),
        _above("AUROC within relations", "this project", WITHIN_WANTED, figures.auroc_within_relation,
               "mean over relations"),
    ]  # fmt: skip
    rows += [
        _above("AUROC, relations held out", "this project", HELD_OUT_WANTED, each.figures.auroc, pooled)
        for each in (held_out.methods if held_out else ())
        if each.name == detector
    ]
    rows.append(
        Expectation(
            metric="Calibration error (ECE)", source="this project", wanted=f"≤ {ECE_WANTED}", found=figures.ece,
            met=None if figures.ece.value is None else figures.ece.value <= ECE_WANTED,
            note=f"15 bins of equal mass; exact probabilities have {number(figures.ece_by_chance.value)} on so many answers",
        )
    )  # fmt: skip
    return rows


def _above(
    metric: str, source: Literal["reference page", "this project"], wanted: float, found: Figure, note: str
) -> Expectation:
    return Expectation(
        metric=metric,
        source=source,
        wanted=f"{'>' if source == 'reference page' else '≥'} {wanted:.2f}",
        found=found,
        met=None if found.value is None else found.value > wanted,
        note=note,
    )


def number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "undefined"
    return f"{value:{'+' if signed else ''}.3f}".replace("-", "−")


def interval(figure: Figure, signed: bool = False) -> str:
    """`0.812 [0.780, 0.840]`."""
    return f"{number(figure.value, signed)} [{number(figure.low, signed)}, {number(figure.high, signed)}]"


def _range(values: Sequence[float]) -> Figure:
    return Figure(value=float(np.mean(values)), low=min(values), high=max(values))
