"""Semantic clusters: which directions the tracks of a run carry, and what they promote.

A latent is described by its decoder direction and by the profile of its direct effects on all tokens, in equal parts.
The distance between two profiles needs no profile: with M the read-out's second moments over tokens, it is that of
M^(1/2) times the directions.
"""

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ghosttrack.common.maths.arrays import Floats

MOST_LATENTS = 4000
"""Latents with the highest total activation take part."""


def effect_geometry(read_out: Tensor) -> Tensor:
    """M^(1/2), [d_model, d_model]. read_out: [n_vocabulary, d_model]."""
    moments = (read_out.T @ read_out).double() / len(read_out)
    values, vectors = torch.linalg.eigh(moments)
    return (vectors * values.clamp(min=0).sqrt() @ vectors.T).float()


def cluster_latents(
    weight: list[Floats],
    layers: list[int],
    decoders: list[Tensor],
    geometry: Tensor,
    n_clusters: int,
    seed: int,
) -> list[dict[str, Any]]:
    """k-means over the latents that tracks pass through, weighted by their total activation.

    weight: total activation of every latent, [d_hidden] a layer; decoders: [d_hidden, d_model], unit rows; geometry: from
    `effect_geometry`. Returns clusters by falling weight: `{"id", "weight", "centroid": float32 [d_model] unit decoder
    direction, "members": int32 [n, 2] of (layer, latent), heaviest first}`; none where no latent is active.
    """
    place = np.concatenate([np.full(len(values), index) for index, values in enumerate(weight)])
    latent = np.concatenate([np.arange(len(values)) for values in weight])
    total = np.concatenate(weight)
    chosen = np.argsort(-total, kind="stable")[:MOST_LATENTS]
    chosen = chosen[total[chosen] > 0]
    if not len(chosen):
        return []
    place, latent, total = place[chosen], latent[chosen], total[chosen]
    vectors = torch.stack([decoders[i][j] for i, j in zip(place.tolist(), latent.tolist(), strict=True)])
    profiles = torch.nn.functional.normalize(vectors @ geometry, dim=1)
    means = KMeans(min(n_clusters, len(vectors)), n_init=1, random_state=seed)
    assigned = means.fit_predict(
        torch.cat([vectors, profiles], dim=1).numpy(), sample_weight=total / total.mean()
    )
    directions = vectors.numpy()
    clusters = []
    for number in np.unique(assigned):
        inside = assigned == number
        centroid = (directions[inside] * total[inside, None]).sum(axis=0)
        centroid = (centroid / max(float(np.linalg.norm(centroid)), 1e-12)).astype(np.float32)
        members = np.stack([np.array(layers)[place[inside]], latent[inside]], axis=1).astype(np.int32)
        clusters.append({"weight": float(total[inside].sum()), "centroid": centroid, "members": members})
    clusters.sort(key=lambda cluster: -cluster["weight"])
    return [{"id": number, **cluster} for number, cluster in enumerate(clusters)]
