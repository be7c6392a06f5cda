"""layers.parquet as features: association entropy, births, the SAE's error, and how the candidate answers compete."""

from collections.abc import Sequence

import numpy as np

from ghosttrack.common.maths.arrays import Floats
from ghosttrack.stages.detect.evidence import PLACES, FeatureTable

COMPETITION = ("n_active", "births", "deaths", "association_entropy", "margin", "competition_entropy")


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
    values = np.where(absent[..., None], np.nan, np.stack([*measures.values()], axis=2))
    names = [f"competition.{place}.{name}" for place in PLACES for name in measures]
    return FeatureTable(values.reshape(-1, len(names)), names)
