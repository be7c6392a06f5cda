"""layers.parquet as features: association entropy, births, the SAE's error, and how the candidate answers compete."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.stages.detect.evidence import PLACES, place_rows
from ghosttrack.stages.detect.features.table import FeatureTable

COMPETITION = ("n_active", "births", "deaths", "association_entropy", "margin", "competition_entropy")


def curves_by_place(
    table: pd.DataFrame, names: Sequence[str], n_questions: int, layers: list[int]
) -> dict[str, Floats]:
    """Columns as [n_questions, 4, n_layers]; NaN where a place is absent. Raises CorruptInputError, NumericError."""
    depth = len(layers)
    if len(table) % depth or (table["layer"].to_numpy().reshape(-1, depth) != layers).any():
        raise CorruptInputError(
            f"layers.parquet does not have the layers {layers} at every position; run track again"
        )
    question = table["question"].to_numpy(dtype=np.int64)[::depth]
    rows = place_rows(question, table["position"].to_numpy(dtype=np.int64)[::depth], n_questions)
    there = rows >= 0
    result = {}
    for name in names:
        values: NDArray[Any] = table[name].to_numpy(dtype=np.float64).reshape(-1, depth)
        if not np.isfinite(values).all():
            bad = int(question[np.argmin(np.isfinite(values).all(axis=1))])
            raise NumericError(f"layers.parquet: {name} of question {bad} is not finite; run track again")
        result[name] = np.full((n_questions, len(PLACES), depth), np.nan)
        result[name][there] = values[rows[there]]
    return result


def layer_features(curves: dict[str, Floats], signal: str, layers: Sequence[int]) -> FeatureTable:
    """Every curve at every place and layer, `<signal>.<place>.<curve>.<layer>`."""
    columns = [values[:, place] for place in range(len(PLACES)) for values in curves.values()]
    names = [f"{signal}.{place}.{curve}.{layer}" for place in PLACES for curve in curves for layer in layers]
    return FeatureTable(np.concatenate(columns, axis=1), names)


def lead_changes(leader: Floats) -> FeatureTable:
    """Of the candidate that leads by its tracks' effects: how often the lead changes, how long the answer itself holds it.

    leader: [n, 4, n_layers] rank of the leading candidate in the model's final distribution, 0 the answer itself.
    """
    absent = np.isnan(leader[:, :, 0])
    depth = leader.shape[2]
    ours = leader == 0
    held = np.flip(np.minimum.accumulate(np.flip(ours, axis=2), axis=2), axis=2).sum(axis=2)
    measures = {
        "lead_changes": (leader[:, :, 1:] != leader[:, :, :-1]).sum(axis=2) / depth,
        "layers_led": ours.mean(axis=2),
        "commitment": (depth - held) / depth,
    }
    columns = [
        np.where(absent, np.nan, values)[:, place]
        for place in range(len(PLACES))
        for values in measures.values()
    ]
    return FeatureTable(
        np.stack(columns, axis=1), [f"competition.{place}.{name}" for place in PLACES for name in measures]
    )
