"""Figures of merit for scores that say how likely an answer is wrong.

Every function takes `weights`, a weight a row in each of B resamples ([B, n], of any type of number), and returns B values, so
that two thousand bootstrap replicates cost a few matrix operations and a point estimate is the case of one row of ones.
Label 1 (wrong) is the positive class; a higher score means more likely wrong. Definitions: Fawcett 2006 (ROC), Davis
and Goadrich 2006 (average precision as a sum over distinct thresholds), Naeini et al. 2015 (ECE), Geifman, Uziel and
El-Yaniv 2019 (risk–coverage), Malinin and Gales 2021 and lm-polygraph (prediction rejection). Not here: resampling
itself (`common/maths/bootstrap.py`) and calibration (`common/maths/calibration.py`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from ghosttrack.common.maths.arrays import Floats, Ints

Weights = NDArray[np.uint8] | Floats

_VALUES_AT_ONCE = 40_000  # rows x resamples worked on together: a dozen arrays of them fit the cache
_FACTORS_AT_ONCE = 1 << 22  # of a matrix of weights that is multiplied


class RankMetrics(NamedTuple):
    """Threshold-free metrics of B resamples; NaN where a resample lacks a class.

    The last six are of selective answering: answers are kept from the least suspicious on, and the risk is the share
    of wrong ones among those kept. Answers of equal score are kept together.
    """

    auroc: Floats  # [B] P(score of a wrong answer > score of a right one), ties count one half
    auprc_wrong: Floats  # [B] average precision, wrong answers positive
    auprc_right: Floats  # [B] average precision, right answers positive, ranked from the low end
    aurc: Floats  # [B] mean over answers of the risk when just they and less suspicious ones are kept
    e_aurc: Floats  # [B] aurc − that of an oracle that puts every right answer first
    prr: Floats  # [B] (A − A_random) / (A_oracle − A_random), A = 1 − aurc; 0 chance, 1 oracle
    prr_half: Floats  # [B] the same with A over the keeping of more than half
    coverage_80: Floats  # [B] largest share that can be kept at an accuracy of at least 0.8
    coverage_90: Floats  # [B] at least 0.9


class DecisionMetrics(NamedTuple):
    """Metrics of a yes/no decision in B resamples; NaN where the denominator is empty."""

    precision: Floats
    recall: Floats
    f1: Floats
    accuracy: Floats


def ones(n_rows: int) -> Floats:
    """The trivial resample, [1, n_rows]: every row once."""
    return np.ones((1, n_rows))


def rank_metrics(labels: ArrayLike, scores: ArrayLike, weights: Weights) -> RankMetrics:
    """All threshold-free metrics.

    labels: [n] 0/1; scores: [n] finite; weights: [B, n] counts of each row. AUROC and average precision equal
    scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    y, starts = y[order], _run_starts(s[order])
    parts = [
        _rank_metrics_of_sorted(y, starts, weights[rows].take(order, axis=1).astype(np.float64))
        for rows in _batches(weights.shape)
    ]
    return RankMetrics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rank_metrics_of_sorted(y: Floats, starts: Ints, weights: Floats) -> RankMetrics:
    """`rank_metrics` for rows in descending order of score; `starts`: first row of each run of equal scores."""
    d_tp, d_all = _by_run(weights * y, starts), _by_run(weights, starts)
    d_fp = d_all - d_tp
    tp, above = np.cumsum(d_tp, axis=1), np.cumsum(d_all, axis=1)
    wrong, total = tp[:, -1].copy(), above[:, -1].copy()
    right = total - wrong
    kept, kept_wrong = total[:, None] - above + d_all, wrong[:, None] - tp + d_tp
    precision, risk = _ratio(tp, above), _ratio(kept_wrong, kept)
    tp -= 0.5 * d_tp
    right_risk, wrong_risk = _row_dot(d_fp, risk), _row_dot(d_tp, risk)
    half = np.ceil(total / 2)
    beyond_half = np.clip(kept - half[:, None], 0.0, d_all)
    with np.errstate(invalid="ignore", divide="ignore"):
        base = wrong / total
        aurc = (right_risk + wrong_risk) / total
        best = (wrong - right * _harmonic(right, total)) / total
        risk_half = _row_dot(beyond_half, risk) / (total - half)
        kept_right_first = np.maximum(right - half, 0) + right * _harmonic(np.maximum(right, half), total)
        best_half = 1 - kept_right_first / (total - half)
        values = RankMetrics(
            auroc=_row_dot(d_fp, tp) / (wrong * right),
            auprc_wrong=_row_dot(d_tp, precision) / wrong,
            auprc_right=(right - right_risk) / right,
            aurc=aurc,
            e_aurc=aurc - best,
            prr=(base - aurc) / (base - best),
            prr_half=(base - risk_half) / (base - best_half),
            coverage_80=_coverage(kept, risk, 0.8),
            coverage_90=_coverage(kept, risk, 0.9),
        )
    missing = (wrong == 0) | (right == 0)
    return RankMetrics(*(np.where(missing, np.nan, value) for value in values))


def _run_starts(ordered: Floats) -> Ints:
    """First row of each run of equal values."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def _by_run(values: Floats, starts: Ints) -> Floats:
    """Sums over runs of columns, [B, n_runs]."""
    return values if len(starts) == values.shape[1] else np.add.reduceat(values, starts, axis=1)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is (and with it the numerator)."""
    return numerator / np.maximum(denominator, 1e-300)


def _row_dot(left: Floats, right: Floats) -> Floats:
    return np.einsum("bk,bk->b", left, right)


def _harmonic(start: Floats, end: Floats) -> Floats:
    """Σ 1/k over start < k ≤ end."""
    return np.asarray(digamma(end + 1) - digamma(start + 1))


def _coverage(kept: Floats, risk: Floats, accuracy: float) -> Floats:
    """Largest share of the rows that can be kept at a risk of at most 1 − accuracy; 0 if none.

    `kept` falls along a row, so that the first run that qualifies is the answer; where nothing is kept the risk is 0.
    """
    allowed = np.concatenate([risk <= 1 - accuracy + 1e-12, np.ones((len(risk), 1), dtype=bool)], axis=1)
    first = np.argmax(allowed, axis=1)
    padded = np.minimum(first, kept.shape[1] - 1)
    return np.where(first < kept.shape[1], kept[np.arange(len(kept)), padded], 0.0) / kept[:, 0]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """AUROC of one sample; NaN if a class is missing."""
    y = np.asarray(labels)
    return float(rank_metrics(y, scores, ones(len(y))).auroc[0])


def auroc_by_block(labels: ArrayLike, scores: ArrayLike, blocks: ArrayLike, weights: Weights) -> Floats:
    """AUROC inside each block (relation) of each resample.

    blocks: [n] block number 0…m−1, none empty; returns [B, m], NaN where a block lacks a class in a resample.
    """
    y, s, b = np.asarray(labels, dtype=np.float64), np.asarray(scores), np.asarray(blocks)
    order = np.lexsort((-s, b))
    y, b = y[order], b[order]
    starts = np.union1d(_run_starts(s[order]), _run_starts(b))
    first_run = np.searchsorted(starts, _run_starts(b))
    results = []
    for rows in _batches(weights.shape):
        w = weights[rows].take(order, axis=1).astype(np.float64)
        d_tp, d_all = _by_run(w * y, starts), _by_run(w, starts)
        d_fp = d_all - d_tp
        before = np.cumsum(d_tp, axis=1) - d_tp
        wrong, right = np.add.reduceat(d_tp, first_run, axis=1), np.add.reduceat(d_fp, first_run, axis=1)
        pairs = (
            np.add.reduceat(d_fp * (before + 0.5 * d_tp), first_run, axis=1) - right * before[:, first_run]
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            results.append(np.where(wrong * right > 0, pairs / (wrong * right), np.nan))
    return np.concatenate(results)


def decision_metrics(labels: ArrayLike, predicted: ArrayLike, weights: Weights) -> DecisionMetrics:
    """Precision, recall, F1 and accuracy of 0/1 decisions (1 = called wrong); labels, predicted: [n]."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    tp, called, positives, correct, total = (
        weighted(weights, np.stack([y * p, p, y, y == p, np.ones_like(y)], axis=1))
    ).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return DecisionMetrics(tp / called, tp / positives, 2 * tp / (called + positives), correct / total)


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: Weights) -> Floats:
    """Mean squared error of the probability of being wrong, [B]; 0 is perfect."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    return weighted(weights, (p - y) ** 2) / weights.sum(axis=1)


def brier_skill(labels: ArrayLike, probabilities: ArrayLike, weights: Weights) -> Floats:
    """1 − Brier / Brier of always saying the resample's share of wrong answers, [B]; NaN where a class is missing."""
    share = weighted(weights, np.asarray(labels, dtype=np.float64)) / weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        skill = 1 - brier(labels, probabilities, weights) / (share * (1 - share))
    return np.where(np.isfinite(skill), skill, np.nan)


def equal_mass_bins(probabilities: ArrayLike, n_bins: int = 15) -> Ints:
    """Bin number of each row, [n], bins of equal count by rank; equal probabilities always share a bin."""
    p = np.asarray(probabilities)
    if len(p) == 0:
        return np.zeros(0, dtype=np.int64)
    first_rank = np.searchsorted(np.sort(p), p, side="left")
    return (first_rank * min(n_bins, len(p)) // len(p)).astype(np.int64)


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weights: Weights, n_bins: int = 15
) -> Floats:
    """Σ_b (n_b / n) · |share wrong − mean probability| over equal-mass bins, [B]; bins are those of the full sample."""
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    bins = equal_mass_bins(p, n_bins)
    gaps = np.zeros((len(y), int(bins.max(initial=0)) + 1))
    gaps[np.arange(len(y)), bins] = y - p
    return np.asarray(np.abs(weighted(weights, gaps)).sum(axis=1) / weights.sum(axis=1))


def calibration_error_by_chance(probabilities: ArrayLike, weights: Weights) -> Floats:
    """What the ECE of exact probabilities is on average, [B]: labels fall as they say, and a bin's share strays from its mean.

    A bin's Σ(y − p) has variance Σp(1 − p), and the mean of |z| of a normal z is √(2/π) of its deviation.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    bins = equal_mass_bins(p)
    variance = np.zeros((len(p), int(bins.max(initial=0)) + 1))
    variance[np.arange(len(p)), bins] = p * (1 - p)
    return np.asarray(np.sqrt(2 / np.pi * weighted(weights, variance)).sum(axis=1) / weights.sum(axis=1))


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


def weighted(weights: Weights, values: Floats) -> Floats:
    """weights @ values in float64, some resamples at a time. values: [n] or [n, k]."""
    batches = _batches(weights.shape, _FACTORS_AT_ONCE)
    # Column by column in memory: in which order BLAS adds up, and so the last digit, depends on it.
    return np.concatenate([weights[rows].astype(np.float64, order="F") @ values for rows in batches])


def _batches(shape: tuple[int, ...], values: int = _VALUES_AT_ONCE) -> list[slice]:
    """Slices over resamples that keep the working set small."""
    step = max(1, values // max(1, shape[1]))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def mean_of_defined(values: Floats) -> Floats:
    """Mean over the columns that are defined, [B, m] to [B]; NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
