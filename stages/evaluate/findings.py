"""From figures to statements: the headline, and the reference page's expectations with met or not met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.evaluate.schema import Comparison, Expectation, Figure, MethodReport, SaeLayer

L0_WANTED = (50, 100)
MSE_WANTED = 0.01
AUROC_WANTED = 0.90
F1_WANTED = 0.85


def headline(detector: MethodReport, baseline: MethodReport, comparison: Comparison) -> str:
    """Whether the detector beats the best baseline, with both figures and the paired interval."""
    says = {
        "better": "beats the best method without tracks",
        "worse": "does worse than the best method without tracks",
        "not told apart": "cannot be told apart from the best method without tracks",
    }[comparison.verdict]
    ours, theirs = detector.figures.auroc.value, baseline.figures.auroc.value
    return (
        f"Detector {detector.name!r} {says}, {baseline.name}: AUROC {number(ours)} against {number(theirs)}, "
        f"paired difference {interval(comparison.difference, signed=True)}."
    )


def expectations(detector: MethodReport, f1_all_wrong: float, sae: Sequence[SaeLayer]) -> list[Expectation]:
    """The reference page's four expected figures; an interval over layers is their range."""
    mse, l0 = [layer.mse for layer in sae], [layer.l0 for layer in sae]
    fvu = np.mean([layer.fvu for layer in sae])
    auroc, f1 = detector.figures.auroc, detector.figures.f1
    return [
        Expectation(
            metric="Reconstruction loss",
            wanted=f"< {MSE_WANTED}",
            found=_range(mse),
            met=max(mse) < MSE_WANTED,
            note=f"mean over layers, range over layers; the share of variance unexplained is {fvu:.2f}",
        ),
        Expectation(
            metric="Active features",
            wanted=f"{L0_WANTED[0]}–{L0_WANTED[1]}",
            found=_range(l0),
            met=L0_WANTED[0] <= min(l0) and max(l0) <= L0_WANTED[1],
            note="mean over layers, range over layers; met if every layer is inside",
        ),
        Expectation(
            metric="AUROC",
            wanted=f"> {AUROC_WANTED:.2f}",
            found=auroc,
            met=auroc.value > AUROC_WANTED if auroc.value is not None else None,
            note=f"detector {detector.name!r}, all questions pooled",
        ),
        Expectation(
            metric="F1",
            wanted=f"> {F1_WANTED:.2f}",
            found=f1,
            met=f1.value > F1_WANTED if f1.value is not None else None,
            note=f"detector {detector.name!r}; calling every answer wrong gives {f1_all_wrong:.2f}",
        ),
    ]


def number(value: float | None, signed: bool = False, digits: int = 3) -> str:
    if value is None:
        return "undefined"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(figure: Figure, signed: bool = False, digits: int = 3) -> str:
    """`0.812 [0.780, 0.840]`."""
    low, high = number(figure.low, signed, digits), number(figure.high, signed, digits)
    return f"{number(figure.value, signed, digits)} [{low}, {high}]"


def _range(values: Sequence[float]) -> Figure:
    return Figure(value=float(np.mean(values)), low=min(values), high=max(values))
