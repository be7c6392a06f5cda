"""Semantic clusters: which directions the tracks of a run carry, labelled by the tokens they promote."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor


def promoted_tokens(
    directions: Tensor, norm_weight: Tensor, unembedding: Tensor, tokenizer: Any, count: int = 8
) -> list[list[str]]:
    """The tokens whose logits each direction raises most, relative to all directions' mean.

    directions: [n, d_model]; norm_weight: [d_model], the final norm's gain; unembedding: [n_vocabulary, d_model].
    """
    logits = (directions * norm_weight) @ unembedding[: len(tokenizer)].T
    best = logits.topk(count, dim=1).indices
    return [[tokenizer.decode([token]) for token in row] for row in best.tolist()]


def cluster_latents(
    layers: NDArray[np.int16],
    latents: NDArray[np.int32],
    activations: NDArray[np.float32],
    decoders: dict[int, Tensor],
    n_clusters: int,
    seed: int,
    most: int = 4000,
) -> list[dict[str, Any]]:
    """Spherical k-means over the decoder vectors of the latents that tracks pass through.

    layers, latents, activations: a value a track node. decoders: layer to [d_hidden, d_model], unit rows.
    The `most` latents with the highest total activation take part, weighted by it. Returns clusters by
    falling weight: `{"id", "weight", "centroid": float32 [d_model], "members": int32 [n, 2] of (layer, latent)}`.
    """
    nodes, inverse = np.unique(np.stack([layers, latents], axis=1), axis=0, return_inverse=True)
    weight = np.bincount(inverse.ravel(), weights=activations)
    chosen = np.sort(np.argsort(-weight, kind="stable")[:most])
    nodes, weight = nodes[chosen], weight[chosen]
    vectors = torch.stack([decoders[int(layer)][int(latent)] for layer, latent in nodes]).numpy()
    means = KMeans(min(n_clusters, len(vectors)), n_init=1, random_state=seed)
    assigned = means.fit_predict(vectors, sample_weight=weight / weight.mean())
    clusters = []
    for number in np.unique(assigned):
        members = assigned == number
        centroid = (vectors[members] * weight[members, None]).sum(axis=0)
        clusters.append(
            {
                "weight": float(weight[members].sum()),
                "centroid": (centroid / np.linalg.norm(centroid)).astype(np.float32),
                "members": nodes[members].astype(np.int32),
            }
        )
    clusters.sort(key=lambda cluster: -cluster["weight"])
    return [{"id": number, **cluster} for number, cluster in enumerate(clusters)]
