"""Nested, grouped cross-validation: an honest score for every question.

The outer folds hold questions back; on what remains, inner folds choose the classifier by AUROC, fit the calibration
(Platt) and choose the threshold (best F1), all on scores of rows that the scoring model had not seen. The chosen
classifier is then fitted on the whole training side and scores the held-out fold. Nothing is chosen on held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from common.calibration import Platt, fit_platt
from common.errors import NumericError
from common.metrics import auroc, best_f1_threshold
from stages.detect.folds import grouped_folds
from stages.detect.models import CANDIDATES, Candidate, Model

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class FoldModel(NamedTuple):
    """What one training side chose, and the classifier fitted on all of it."""

    chosen: str
    inner_auroc: dict[str, float]  # candidate → AUROC of its inner out-of-fold scores
    threshold: float  # on the calibrated probability
    model: Model
    platt: Platt

    def probability(self, values: Floats) -> Floats:
        """Calibrated probability of being wrong, [n]."""
        return self.platt(self.model.score(values))


class OutOfFold(NamedTuple):
    """Scores of all rows by models that had not seen their group."""

    probability: Floats  # [n] NaN for rows with missing features
    threshold: Floats  # [n] of the row's fold
    models: list[FoldModel]  # one a fold


def out_of_fold(
    values: Floats,
    labels: Floats,
    groups: Ints,
    folds: Ints,
    *,
    inner_folds: int,
    seed: int,
    candidates: Sequence[Candidate] = CANDIDATES,
    on_fold: Callable[[], None] = lambda: None,
) -> OutOfFold:
    """Fits on the labelled rows of all folds but one and scores every row of that one.

    values: [n, n_features]; labels: [n] 1 wrong, 0 right, NaN excluded from fitting; groups: [n] group numbers;
    folds: [n] outer fold numbers, a group in one only. One thread, so that equal input gives equal bits.
    """
    labelled = ~np.isnan(labels)
    complete = np.isfinite(values).all(axis=1)
    if (labelled & ~complete).any():
        row = int(np.argmax(labelled & ~complete))
        column = int(np.argmin(np.isfinite(values[row])))
        raise NumericError(f"feature {column} of question {row} is {values[row, column]}; run track again")
    probability, threshold = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    models = []
    with threadpool_limits(1):
        for fold in range(int(folds.max()) + 1):
            train, test = labelled & (folds != fold), complete & (folds == fold)
            fitted = fit_nested(
                values[train], labels[train], groups[train], inner_folds, seed + fold, candidates
            )
            if test.any():
                probability[test] = fitted.probability(values[test])
            threshold[folds == fold] = fitted.threshold
            models.append(fitted)
            on_fold()
    return OutOfFold(probability, threshold, models)


def fit_nested(
    values: Floats, labels: Floats, groups: Ints, inner_folds: int, seed: int, candidates: Sequence[Candidate]
) -> FoldModel:
    """Chooses, calibrates and fits on one training side; all rows labelled, groups kept whole in the inner folds."""
    inner = grouped_folds(labels, groups, inner_folds, seed)
    scores = np.zeros((len(candidates), len(labels)))
    for fold in range(inner_folds):
        train, test = inner != fold, inner == fold
        for row, candidate in enumerate(candidates):
            scores[row, test] = candidate.fit(values[train], labels[train], seed).score(values[test])
    aurocs = [auroc(labels, row) for row in scores]
    best = int(np.argmax(aurocs))
    platt = fit_platt(scores[best], labels)
    return FoldModel(
        chosen=candidates[best].name,
        inner_auroc={candidate.name: value for candidate, value in zip(candidates, aurocs, strict=True)},
        threshold=best_f1_threshold(labels, platt(scores[best])),
        model=candidates[best].fit(values, labels, seed),
        platt=platt,
    )


def importance(
    scored: OutOfFold,
    values: Floats,
    labels: Floats,
    folds: Ints,
    columns: dict[str, list[int]],
    seed: int,
    repeats: int = 3,
) -> dict[str, float]:
    """How much held-out AUROC is lost when some columns are shuffled among the held-out rows.

    columns: name → column numbers shuffled together. Mean over folds and `repeats`; folds with one class are left out.
    """  # fmt: skip
    generator = np.random.default_rng(seed)
    losses: dict[str, list[float]] = {name: [] for name in columns}
    with threadpool_limits(1):
        for fold, fitted in enumerate(scored.models):
            rows = np.flatnonzero((folds == fold) & ~np.isnan(labels))
            if len(np.unique(labels[rows])) < 2:
                continue
            whole = auroc(labels[rows], fitted.model.score(values[rows]))
            for name, numbers in columns.items():
                for _ in range(repeats):
                    shuffled = values[rows]
                    shuffled[:, numbers] = shuffled[generator.permutation(len(rows))][:, numbers]
                    losses[name].append(whole - auroc(labels[rows], fitted.model.score(shuffled)))
    return {name: float(np.mean(loss)) if loss else float("nan") for name, loss in losses.items()}
