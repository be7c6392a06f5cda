"""The logit lens along the layers: when the answer comes up, how far it leads, and how steadily."""

from collections.abc import Sequence

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Singles
from ghosttrack.stages.detect.evidence import PLACES, FeatureTable

COLUMNS = ("logprob", "rival_logprob", "entropy", "rank")


def lens_features(lens: dict[str, Singles], layers: Sequence[int]) -> FeatureTable:
    """Log-probability, lead over the rival, entropy and log rank by place and layer, and what the curves do in all.

    lens: of each of `COLUMNS` [n, 4, n_layers].
    """
    curves = {
        "logprob": lens["logprob"],
        "lead": lens["logprob"] - lens["rival_logprob"],
        "entropy": lens["entropy"],
        "log_rank": np.log1p(lens["rank"]),
    }
    columns: list[Floats] = []
    names: list[str] = []
    for place_number, place in enumerate(PLACES):
        for curve, values in curves.items():
            columns.append(values[:, place_number].astype(np.float64))
            names += [f"lens.{place}.{curve}.{layer}" for layer in layers]
        summary = _summary(curves["lead"][:, place_number], lens["rank"][:, place_number])
        for name, column in summary.items():
            columns.append(column[:, None])
            names.append(f"lens.{place}.{name}")
    return FeatureTable(np.concatenate(columns, axis=1), names)


def _summary(lead: Singles, rank: Singles) -> dict[str, Floats]:
    """[n] each, in fractions of the depth; NaN where there is no such place."""
    depth = lead.shape[1]
    absent = np.isnan(rank[:, 0])
    first = rank == 0
    held = np.flip(np.minimum.accumulate(np.flip(first, axis=1), axis=1), axis=1)
    ahead = lead > 0
    summary = {
        "first_on_top": np.where(first.any(axis=1), first.argmax(axis=1), depth) / depth,
        "commitment": (depth - held.sum(axis=1)) / depth,
        "lead_changes": (ahead[:, 1:] != ahead[:, :-1]).sum(axis=1) / depth,
        "layers_ahead": ahead.mean(axis=1),
        "worst_lead": np.where(absent, 0.0, np.nan_to_num(lead).min(axis=1)),
    }
    return {name: np.where(absent, np.nan, values.astype(np.float64)) for name, values in summary.items()}
