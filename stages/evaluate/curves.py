"""Curves as a hundred points each, with pointwise intervals, for plots and pages.

Every curve is read at fixed places, so that repeats and resamples can be averaged point by point.
ROC: Fawcett 2006; reliability over bins of equal mass: Naeini et al. 2015; risk–coverage: Geifman, Uziel and El-Yaniv
2019.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ghosttrack.common.formats.final_report import Curve, Curves
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.maths.metrics import equal_mass_bins, weighted
from ghosttrack.stages.evaluate.scorecard import Sample
from ghosttrack.stages.evaluate.scores import Scores

Steps = Callable[[Floats, Floats], tuple[Floats, Floats]]

GRID = np.linspace(0, 1, 101)
MAX_RESAMPLES = 400
"""Of the sample's resamples, the first; the band of a curve needs no more digits than a plot shows."""


def curves(sample: Sample, scored: Mapping[str, Scores]) -> Curves:
    """Of some methods on a sample."""
    kinds: dict[str, tuple[Steps, bool]] = {
        "roc": (roc_steps, False), "precision_recall": (precision_recall_steps, False),
        "risk_coverage": (risk_coverage_steps, True),
    }  # fmt: skip
    stepped = {
        kind: [
            _band(name, GRID if kind == "roc" else GRID[1:], sample,
                  [_on_grid(sample, score, steps, GRID if kind == "roc" else GRID[1:], reverse) for score in scores.probability])
            for name, scores in scored.items()
        ]
        for kind, (steps, reverse) in kinds.items()
    }  # fmt: skip
    return Curves(
        **stepped, reliability=[_reliability(name, sample, scores) for name, scores in scored.items()]
    )


def roc_steps(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """(false alarm rate, share of wrong answers found) at every threshold; tp, fp: counts from the top."""
    return fp / fp[-1], tp / tp[-1]


def precision_recall_steps(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """(recall, precision) at every threshold."""
    return tp / tp[-1], tp / np.maximum(tp + fp, 1e-300)


def risk_coverage_steps(tp: Floats, fp: Floats) -> tuple[Floats, Floats]:
    """(share kept, share wrong among them) at every threshold; tp, fp: counts from the least suspicious on."""
    kept = tp + fp
    return kept / kept[-1], tp / np.maximum(kept, 1e-300)


def _on_grid(sample: Sample, score: Floats, steps: Steps, grid: Floats, reverse: bool) -> Floats:
    """y at each place of the grid in each resample, [1 + B', n_grid]; NaN where a resample lacks a class.

    Read at the first threshold whose x reaches the place; ROC between thresholds as a straight line, which is what
    guessing among equal scores comes to, and of thresholds of equal x at the last.
    """
    order = np.argsort(score if reverse else -score, kind="stable")
    s = score[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    weights, labels = sample.weights[: 1 + MAX_RESAMPLES], sample.labels[order]
    result = np.full((len(weights), len(grid)), np.nan)
    for row, drawn in enumerate(weights):
        w = drawn[order].astype(np.float64)
        t = np.cumsum(w * labels)[ends]
        f = np.cumsum(w)[ends] - t
        if t[-1] and f[-1]:
            x, y = steps(t, f)
            if steps is roc_steps:
                result[row] = np.interp(grid, np.append(0.0, x), np.append(0.0, y))
            else:
                result[row] = y[np.searchsorted(x, grid - 1e-12, side="left")]
    return result


def _reliability(name: str, sample: Sample, scores: Scores) -> Curve:
    """Bins of equal mass; x: mean probability of the bin, y: share wrong in it. Bins are those of the full sample."""
    weights = sample.weights[: 1 + MAX_RESAMPLES]
    found = []
    for probability in scores.probability:
        bins = equal_mass_bins(probability)
        inside = np.eye(int(bins.max()) + 1)[bins]
        inside = inside[:, inside.any(axis=0)]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = weighted(weights, sample.labels[:, None] * inside) / weighted(weights, inside)
        found.append((probability @ inside / inside.sum(axis=0), share))
    least = min(len(x) for x, _ in found)  # ties can leave a repeat with fewer bins
    kept = [(x, y) for x, y in found if len(x) == least]
    return _band(name, np.mean([x for x, _ in kept], axis=0), sample, [y for _, y in kept])


def _band(name: str, x: Floats, sample: Sample, repeats: Iterable[Floats]) -> Curve:
    """The mean over repeats, and its pointwise interval over resamples."""
    y = np.mean(list(repeats), axis=0)
    resampled = y[1:][np.isfinite(y[1:]).all(axis=1)]
    tail = (1 - sample.confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0) if len(resampled) else (None, None)
    return Curve(
        method=name, x=_rounded(x), y=_rounded(y[0]),
        low=None if low is None else _rounded(low), high=None if high is None else _rounded(high),
    )  # fmt: skip


def _rounded(values: Floats) -> list[float]:
    """To a ten-thousandth, a tenth of a pixel in the largest plot."""
    return [round(float(value), 4) for value in values]
