"""Unit `shown`: what is only looked at of the tracks: semantic clusters, and the strongest tracks of every question with the
competition of its candidates. Its settings change nothing that is tracked or scored.

Who leads is read from the account, in which the SAE's error counts: at the last layer the emitted token does.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats import trajectories
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.file import only
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.vocabulary import all_texts
from ghosttrack.stages.track import outputs
from ghosttrack.stages.track.clusters import cluster_latents, effect_geometry
from ghosttrack.stages.track.loaded import language_model_of, load_saes
from ghosttrack.stages.track.readout import ReadOut
from ghosttrack.stages.track.trajectories import Labels, question_record

QUESTIONS_AT_A_TIME = 128
CLUSTER_TOKENS = 10
CLUSTER_CONTEXTS = 5
CONTEXT = ("before", "token", "after")

Table = dict[str, NDArray[Any]]


def run(job: Job) -> dict[str, Any]:
    saes = load_saes(job)
    model = language_model_of(job)
    read_out, tokenizer = ReadOut.of(model), model.tokenizer
    generations = GENERATIONS.read(job.input(GENERATIONS))
    weight = _total_activation(job, saes)
    pieces = all_texts(tokenizer)
    clusters = _clusters(job, saes, weight, read_out, pieces)
    outputs.write_clusters(job.output(""), clusters, job.config.layers)
    # Models have rows of unembedding beyond the tokenizer's tokens, and may put such a one among the likeliest.
    labels = _labels(job, clusters, [*pieces, *[""] * (len(read_out.weight) - len(pieces))])
    with job.progress(len(generations), "questions", "trajectories") as progress:

        def records() -> Iterator[dict[str, Any]]:
            for record in _records(job, generations, labels):
                progress.update(1)
                yield record

        head = {"layers": job.config.layers, "associator": job.config.tracking.associator}
        written = trajectories.write(job.output(trajectories.TRAJECTORIES), head, records())
    active = sum(int((total > 0).sum()) for total in weight)
    clustered = sum(len(cluster["members"]) for cluster in clusters)
    return {
        "tracks_in_trajectories": written["named"],
        "clusters": len(clusters),
        "latents_in_clusters": clustered,
        "left_out": {
            "weaker_than_trajectories_hold": written["left_out"],
            "active_latents_without_cluster": active - clustered,
        },
    }


def _total_activation(job: Job, saes: list[JumpReLUSAE]) -> list[Floats]:
    """Of each latent over all positions: [d_hidden] a layer."""
    totals = [np.zeros(sae.d_hidden) for sae in saes]
    file = pq.ParquetFile(job.input(TRACKS))
    for group in range(file.num_row_groups):
        nodes = file.read_row_group(group, columns=["layer", "latent", "activation"])
        layer, latent, activation = (column.to_numpy() for column in nodes.columns)
        for total, number in zip(totals, job.config.layers, strict=True):
            rows = layer == number
            total += np.bincount(latent[rows], weights=activation[rows], minlength=len(total))
    return totals


def _clusters(
    job: Job, saes: list[JumpReLUSAE], weight: list[Floats], read_out: ReadOut, pieces: list[str]
) -> list[dict[str, Any]]:
    """Clusters with what they promote and the strongest contexts of their heaviest latents."""
    decoders = [sae.W_dec for sae in saes]
    clusters = cluster_latents(
        weight, job.config.layers, decoders, effect_geometry(read_out.weight), job.config.tracking.clusters, job.config.seed
    )  # fmt: skip
    if not clusters:
        return []
    centroids = torch.from_numpy(np.stack([cluster["centroid"] for cluster in clusters]))
    (raised, _), _ = read_out.promoted(centroids, pieces, CLUSTER_TOKENS)
    path, columns = job.input(LATENT_CONTEXTS), ["layer", "latent", *CONTEXT]
    best = LATENT_CONTEXTS.frame(path, columns, where={"rank": range(1)}).set_index(["layer", "latent"])
    known = set(best.index)
    for cluster, tokens in zip(clusters, raised, strict=True):
        cluster["tokens"] = tokens
        members = [pair for pair in map(tuple, cluster["members"].tolist()) if pair in known]
        cluster["contexts"] = [
            {"layer": layer, "latent": latent, **{name: best.loc[(layer, latent), name] for name in CONTEXT}}
            for layer, latent in members[:CLUSTER_CONTEXTS]
        ]  # fmt: skip
    return clusters


def _labels(job: Job, clusters: list[dict[str, Any]], pieces: list[str]) -> Labels:
    table = LATENTS.table(job.input(LATENTS), ["layer", "latent", "promoted"])
    pairs = zip(table["layer"].to_pylist(), table["latent"].to_pylist(), strict=True)
    promoted = dict(zip(pairs, table["promoted"].to_pylist(), strict=True))
    number_of = {(layer, latent): one["id"] for one in clusters for layer, latent in one["members"].tolist()}
    return Labels(pieces, promoted, number_of)


def _records(job: Job, generations: list[dict[str, Any]], labels: Labels) -> Iterator[dict[str, Any]]:
    """The questions' records in order."""
    candidates = CANDIDATES.read(job.input(CANDIDATES))
    for start in range(0, len(generations), QUESTIONS_AT_A_TIME):
        numbers = range(start, min(start + QUESTIONS_AT_A_TIME, len(generations)))
        nodes = TRACKS.read(job.input(TRACKS), where=only(numbers))
        layers = _standing(job, numbers)
        for line in numbers:
            yield question_record(
                generations[line], line, _rows_of(nodes, line), _rows_of(layers, line), _rows_of(candidates, line),
                job.config.tracking.strongest_tracks, labels,
            )  # fmt: skip


def _standing(job: Job, numbers: range) -> Table:
    """By question, position and layer: who leads, and by how much the emitted token does."""
    names = ["question", "position", "layer", "leader", "logit"]
    table = ACCOUNT.read(job.input(ACCOUNT), names, where=only(numbers))
    logit = table.pop("logit")
    return {**table, "margin": logit[:, 0] - logit[:, 1:].max(axis=1)}


def _rows_of(table: Table, question: int) -> Table:
    start, stop = np.searchsorted(table["question"], [question, question + 1])
    return {name: values[start:stop] for name, values in table.items()}
