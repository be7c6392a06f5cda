"""Figures of merit for scores that say how likely an answer is wrong.

Every function takes `weights`, a weight a row in each of B resamples ([B, n]), and returns B values, so that two
thousand bootstrap replicates cost a few matrix operations and a point estimate is the case of one row of ones.
Label 1 (wrong) is the positive class; a higher score means more likely wrong. Definitions: Fawcett 2006 (ROC), Davis
and Goadrich 2006 (average precision as a sum over distinct thresholds), Naeini et al. 2015 (ECE). Not here:
resampling itself (`stages/evaluate/bootstrap.py`) and calibration (`common/calibration.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_VALUES_AT_ONCE = 1_000_000  # rows x resamples held in memory together


class RankMetrics(NamedTuple):
    """Threshold-free metrics of B resamples; NaN where a resample lacks a class."""

    auroc: Floats  # [B] P(score of a wrong answer > score of a right one), ties count one half
    auprc_wrong: Floats  # [B] average precision, wrong answers positive
    auprc_right: Floats  # [B] average precision, right answers positive, ranked from the low end


class DecisionMetrics(NamedTuple):
    """Metrics of a yes/no decision in B resamples; NaN where the denominator is empty."""

    precision: Floats
    recall: Floats
    f1: Floats
    accuracy: Floats


def ones(n_rows: int) -> Floats:
    """The trivial resample, [1, n_rows]: every row once."""
    return np.ones((1, n_rows))


def rank_metrics(labels: ArrayLike, scores: ArrayLike, weights: Floats) -> RankMetrics:
    """AUROC and average precision both ways.

    labels: [n] 0/1; scores: [n] finite; weights: [B, n] non-negative. Equals scikit-learn's `roc_auc_score` and
    `average_precision_score` with `sample_weight`.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))  # last row of each run of equal scores
    parts = [_rank_metrics_of_sorted(y, ends, weights[rows][:, order]) for rows in _batches(weights.shape)]
    return RankMetrics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rank_metrics_of_sorted(y: Floats, ends: Ints, w: Floats) -> tuple[Floats, Floats, Floats]:
    """`rank_metrics` for rows in descending order of score; thresholds lie after the rows `ends`."""
    tp = np.cumsum(w * y, axis=1)[:, ends]
    fp = np.cumsum(w, axis=1)[:, ends] - tp
    positives, negatives = tp[:, -1], fp[:, -1]
    d_tp, d_fp = np.diff(tp, axis=1, prepend=0.0), np.diff(fp, axis=1, prepend=0.0)
    above_tp, above_fp = tp - d_tp, fp - d_fp
    below_tp, below_fp = positives[:, None] - above_tp, negatives[:, None] - above_fp
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (d_fp * (above_tp + 0.5 * d_tp)).sum(axis=1) / (positives * negatives)
        ap_wrong = _weighted_ratio(d_tp, tp, tp + fp) / positives
        ap_right = _weighted_ratio(d_fp, below_fp, below_fp + below_tp) / negatives
    missing = (positives == 0) | (negatives == 0)
    return tuple(np.where(missing, np.nan, value) for value in (auroc, ap_wrong, ap_right))  # type: ignore[return-value]


def _weighted_ratio(weight: Floats, numerator: Floats, denominator: Floats) -> Floats:
    """Row sums of weight · numerator / denominator, empty denominators counting nothing."""
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return np.asarray((weight * ratio).sum(axis=1))


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """AUROC of one sample; NaN if a class is missing."""
    y = np.asarray(labels)
    return float(rank_metrics(y, scores, ones(len(y))).auroc[0])


def auroc_by_block(labels: ArrayLike, scores: ArrayLike, blocks: ArrayLike, weights: Floats) -> Floats:
    """AUROC inside each block (relation) of each resample.

    blocks: [n] block number 0…m−1; returns [B, m], NaN where a block lacks a class in a resample.
    """
    y, s, b = np.asarray(labels), np.asarray(scores), np.asarray(blocks)
    result = np.full((len(weights), int(b.max(initial=-1)) + 1), np.nan)
    for block in range(result.shape[1]):
        rows = np.flatnonzero(b == block)
        if len(np.unique(y[rows])) == 2:
            result[:, block] = rank_metrics(y[rows], s[rows], weights[:, rows]).auroc
    return result


def decision_metrics(labels: ArrayLike, predicted: ArrayLike, weights: Floats) -> DecisionMetrics:
    """Precision, recall, F1 and accuracy of 0/1 decisions (1 = called wrong); labels, predicted: [n]."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    tp, called, positives, correct, total = (
        weights @ np.stack([y * p, p, y, y == p, np.ones_like(y)], axis=1)
    ).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return DecisionMetrics(tp / called, tp / positives, 2 * tp / (called + positives), correct / total)


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: Floats) -> Floats:
    """Mean squared error of the probability of being wrong, [B]; 0 is perfect."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    return np.asarray(weights @ (p - y) ** 2 / weights.sum(axis=1))


def equal_mass_bins(probabilities: ArrayLike, n_bins: int = 15) -> Ints:
    """Bin number of each row, [n], bins of equal count by rank; equal probabilities always share a bin."""
    p = np.asarray(probabilities)
    if len(p) == 0:
        return np.zeros(0, dtype=np.int64)
    first_rank = np.searchsorted(np.sort(p), p, side="left")
    return (first_rank * min(n_bins, len(p)) // len(p)).astype(np.int64)


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weights: Floats, n_bins: int = 15
) -> Floats:
    """Σ_b (n_b / n) · |share wrong − mean probability| over equal-mass bins, [B]; bins are those of the full sample."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    bins = equal_mass_bins(p, n_bins)
    gaps = np.zeros((len(y), int(bins.max(initial=0)) + 1))
    gaps[np.arange(len(y)), bins] = y - p
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))


def best_f1_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold t for which calling `score >= t` wrong has the highest F1 on this sample.

    It lies halfway between two neighbouring scores; of equally good ones, the highest (fewest alarms) is taken.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    f1 = 2 * np.cumsum(y)[ends] / (ends + 1 + y.sum())
    best = int(ends[np.argmax(f1)])
    return float(s[best] if best + 1 == len(s) else (s[best] + s[best + 1]) / 2)


def _batches(shape: tuple[int, ...]) -> list[slice]:
    """Slices over resamples that keep the working set small."""
    step = max(1, _VALUES_AT_ONCE // max(1, shape[1]))
    return [slice(start, start + step) for start in range(0, shape[0], step)]
