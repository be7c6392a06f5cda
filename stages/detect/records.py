"""The detector's results as plain records: scores a question, and what was chosen and why a detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.answers import Answer
from common.metrics import auroc
from stages.detect.crossval import OutOfFold, importance
from stages.detect.features.table import FeatureTable, family_of

SCHEMA_VERSION = 1
TOP_FEATURES = 20

CSV_COLUMNS = ("id", "relation", "question", "answer", "gold", "label", "excluded", "score", "threshold", "predicted",
               "fold")  # fmt: skip


def question_records(
    answers: Sequence[Answer], folds: NDArray[np.int64], scored: Mapping[str, OutOfFold]
) -> list[dict[str, Any]]:
    """A record a question; `score` is the out-of-fold probability of being wrong by the first detector of `scored`.

    `predicted` is 1 (wrong) where score ≥ threshold; score and predicted are null for answers without tracks.
    """
    main = next(iter(scored))
    return [
        {
            "id": answer.id,
            "relation": answer.relation,
            "group": answer.group,
            "question": answer.question,
            "answer": answer.answer,
            "gold": answer.gold,
            "label": answer.label,
            "excluded": answer.reason,
            "fold": int(folds[row]),
            **_decision(scored[main], row),
            "detectors": {name: _decision(result, row) for name, result in scored.items()},
        }
        for row, answer in enumerate(answers)
    ]


def _decision(result: OutOfFold, row: int) -> dict[str, Any]:
    score, threshold = float(result.probability[row]), float(result.threshold[row])
    if np.isnan(score):
        return {"score": None, "threshold": threshold, "predicted": None}
    return {"score": score, "threshold": threshold, "predicted": int(score >= threshold)}


def csv_rows(records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Header and rows of classifications.csv; null is an empty cell."""
    rows = [["" if record[name] is None else record[name] for name in CSV_COLUMNS] for record in records]
    return [list(CSV_COLUMNS), *rows]


def sample_summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Counts of what was learned from, and of what was left out by reason."""
    labels = [answer.label for answer in answers if answer.label is not None]
    return {
        "n_questions": len(answers),
        "n_labelled": len(labels),
        "n_wrong": sum(labels),
        "n_right": len(labels) - sum(labels),
        "prevalence": sum(labels) / len(labels) if labels else None,
        "n_groups": len({answer.group for answer in answers if answer.label is not None}),
        "n_relations": len({answer.relation for answer in answers if answer.label is not None}),
        "excluded": dict(sorted(Counter(answer.reason for answer in answers if answer.reason).items())),
    }


def detector_summary(
    table: FeatureTable, labels: NDArray[np.float64], folds: NDArray[np.int64], scored: OutOfFold, seed: int
) -> dict[str, Any]:
    """Out-of-fold AUROC, what each fold chose, and which features and families the held-out scores rest on."""
    rows = ~np.isnan(labels)
    families: dict[str, list[int]] = {}
    for column, name in enumerate(table.names):
        families.setdefault(family_of(name), []).append(column)
    losses = importance(
        scored, table.values, labels, folds, {n: [c] for c, n in enumerate(table.names)}, seed, repeats=2
    )
    top = sorted(losses, key=lambda name: (-losses[name], name))[:TOP_FEATURES]
    return {
        "n_features": len(table.names),
        "auroc": auroc(labels[rows], scored.probability[rows]),
        "families": {
            name: {"n_features": len(families[name]), "auroc_loss": loss}
            for name, loss in importance(
                scored, table.values, labels, folds, families, seed, repeats=5
            ).items()
        },
        "top_features": [
            {
                "feature": name,
                "family": family_of(name),
                "auroc_loss": losses[name],
                "auroc_alone": auroc(labels[rows], table.values[rows, table.names.index(name)]),
            }
            for name in top
        ],
        "folds": [
            {
                "fold": fold,
                "n_labelled": int((rows & (folds == fold)).sum()),
                "chosen": model.chosen,
                "inner_auroc": model.inner_auroc,
                "threshold": model.threshold,
            }
            for fold, model in enumerate(scored.models)
        ],
    }
