"""Unit `all`: encode the states with the SAEs and follow their latents, then write the files of the tracking phase."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.language_model import LanguageModel, load_language_model
from common.sae import JumpReLUSAE
from common.stage import Job
from stages.track import outputs
from stages.track.associate import follow
from stages.track.clusters import cluster_latents, promoted_tokens

NODE_TYPES = {
    "question": np.int32, "position": np.int16, "track": np.int32, "layer": np.int16,
    "latent": np.int32, "activation": np.float32, "link": np.float32,
}  # fmt: skip


def run(job: Job) -> dict[str, Any]:
    if job.rank:
        return {}
    settings, layers = job.config.tracking, job.config.layers
    model = load_language_model(job.input_dir("prepare/model"), job.config.model.dtype)
    saes = {
        layer: JumpReLUSAE.load(job.input(f"sae_train/layer_{layer}", f"sae_layer_{layer}_best.pt"))
        for layer in layers
    }
    generations = outputs.read_jsonl(job.input("track/answers", "generations.jsonl"))
    stored = torch.load(job.input("track/answers", "states.pt"), mmap=True, weights_only=True)
    pieces = []
    for rows in torch.arange(len(stored["states"])).split(2048):
        latents, activations = _encode(
            stored["states"][rows].float(), list(saes.values()), settings.top_k_features
        )
        tracks = follow(latents, activations, [sae.W_dec for sae in saes.values()], settings.min_cosine)
        columns = {
            "question": stored["question"].numpy()[rows][tracks.problem],
            "position": stored["position"].numpy()[rows][tracks.problem],
            "track": tracks.track, "layer": np.array(layers)[tracks.layer], "latent": tracks.latent,
            "activation": tracks.activation, "link": tracks.link,
        }  # fmt: skip
        pieces.append({name: np.asarray(columns[name], dtype=kind) for name, kind in NODE_TYPES.items()})
    nodes = {name: np.concatenate([piece[name] for piece in pieces]) for name in NODE_TYPES}
    order = np.lexsort((nodes["layer"], nodes["track"], nodes["position"], nodes["question"]))
    nodes = {name: values[order] for name, values in nodes.items()}
    _write(job, model, saes, generations, nodes)
    return _metrics(nodes)


def _encode(states: Tensor, saes: list[JumpReLUSAE], k: int) -> tuple[Tensor, Tensor]:
    """The strongest latents of every layer: two [n_problems, n_layers, k]. states: [n_problems, n_layers, d_model]."""
    pairs = [sae.top_k(states[:, index], k) for index, sae in enumerate(saes)]
    return (
        torch.stack([latents for latents, _ in pairs], dim=1).long(),
        torch.stack([activations for _, activations in pairs], dim=1),
    )


def _write(
    job: Job,
    model: LanguageModel,
    saes: dict[int, JumpReLUSAE],
    generations: list[dict[str, Any]],
    nodes: dict[str, np.ndarray],
) -> None:
    settings, layers = job.config.tracking, job.config.layers
    clusters = cluster_latents(
        nodes["layer"], nodes["latent"], nodes["activation"],
        {layer: sae.W_dec for layer, sae in saes.items()}, settings.clusters, job.config.seed,
    )  # fmt: skip
    centroids = torch.from_numpy(np.stack([cluster["centroid"] for cluster in clusters]))
    norm_weight = getattr(model.final_norm, "weight", torch.ones(model.d_model)).float().cpu()
    labels = promoted_tokens(centroids, norm_weight, model.unembedding.float().cpu(), model.tokenizer)
    for cluster, tokens in zip(clusters, labels, strict=True):
        cluster["tokens"] = tokens
    outputs.write_clusters(job.output("semantic_clusters.pkl"), clusters, layers)
    outputs.write_parquet(job.output("tracks.parquet"), nodes)
    ids = [generation["id"] for generation in generations]
    outputs.write_activations(job.output("feature_activations.pt"), nodes, layers, ids)
    outputs.write_trajectories(
        job.output("hypothesis_trajectories.json"), generations, nodes, layers, settings.strongest_tracks
    )


def _metrics(nodes: dict[str, np.ndarray]) -> dict[str, Any]:
    starts = np.isnan(nodes["link"])
    lengths = np.diff(np.append(np.flatnonzero(starts), len(starts)))
    life = np.repeat(lengths, lengths)
    return {
        "positions": len(np.unique(np.stack([nodes["question"], nodes["position"]]), axis=1).T),
        "tracks": int(starts.sum()),
        "nodes": len(starts),
        "mean_track_life": round(float(lengths.mean()), 3),
        "activation_weighted_track_life": round(float(np.average(life, weights=nodes["activation"])), 3),
        "linked_fraction": round(float((~starts).sum() / max((nodes["layer"] > nodes["layer"].min()).sum(), 1)), 4),
    }  # fmt: skip
