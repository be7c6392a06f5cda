"""Answer, label and track the questions shard by shard, then write the files of the tracking phase."""

import json
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import DataError
from common.files import fsync
from common.language_model import LanguageModel, load_language_model
from common.sae import JumpReLUSAE
from common.stage import Job
from stages.track import outputs
from stages.track.associate import follow
from stages.track.clusters import cluster_latents, promoted_tokens
from stages.track.generate import Answer, answer_batch, encode, ending_tokens, prefix_cache
from stages.track.labels import judge, normalise
from stages.track.questions import Batch, plan_shards, read_questions

NODE_TYPES = {
    "question": np.int32, "position": np.int16, "track": np.int32, "layer": np.int16,
    "latent": np.int32, "activation": np.float32, "link": np.float32,
}  # fmt: skip


def run(job: Job) -> dict[str, Any]:
    settings, layers = job.config.tracking, job.config.layers
    questions = read_questions(job.input("prepare/questions", "questions.jsonl"))
    if not questions:
        raise DataError("questions.jsonl is empty; check data.questions and data.relations")
    model = load_language_model(job.input_dir("prepare/model"), job.config.model.dtype)
    saes = {
        layer: JumpReLUSAE.load(job.input(f"sae_train/layer_{layer}", f"sae_layer_{layer}_best.pt"))
        for layer in layers
    }
    decoders = [saes[layer].W_dec for layer in layers]
    prefixes = [question["prefix"] for question in questions]
    shards = plan_shards(prefixes, settings.shard_questions, settings.batch_size)
    todo = [number for number in range(len(shards)) if not job.done(_step(number))]
    count_before = len(questions) - sum(len(batch.numbers) for number in todo for batch in shards[number])
    with job.progress(len(questions), "questions", "answers and tracks", count_before) as progress:
        ends = ending_tokens(model.tokenizer, model.unembedding.shape[0])

        def do_shard(number: int) -> None:
            answers: dict[int, Answer] = {}
            for batch in shards[number]:
                answers |= _answer(model, batch, questions, layers, ends, settings.max_new_tokens)
                progress.update(len(batch.numbers))
            owners = [(line, place) for line in sorted(answers) for place in range(len(answers[line].states))]
            states = torch.cat([answers[line].states for line in sorted(answers)])
            latents, activations = _encode(states, [saes[layer] for layer in layers], settings.top_k_features)
            tracks = follow(latents, activations, decoders, settings.min_cosine)
            owner = np.array(owners)[tracks.problem]
            columns = {
                "question": owner[:, 0], "position": owner[:, 1], "track": tracks.track,
                "layer": np.array(layers)[tracks.layer], "latent": tracks.latent,
                "activation": tracks.activation, "link": tracks.link,
            }  # fmt: skip
            nodes = {name: np.asarray(columns[name], dtype=kind) for name, kind in NODE_TYPES.items()}
            arrays, lines = job.scratch(f"{_step(number)}.npz"), job.scratch(f"{_step(number)}.jsonl")
            np.savez(arrays, **nodes)  # type: ignore[arg-type]
            outputs.write_jsonl(
                lines,
                ({"line": line, **_record(questions[line], answers[line])} for line in sorted(answers)),
            )
            for file in (arrays, lines):
                fsync(file)

        for number in todo:
            job.step(_step(number), lambda number=number: do_shard(number))  # type: ignore[misc]
    generations, nodes = _gather(job, len(shards))
    _write(job, model, saes, generations, nodes)
    return _metrics(generations, nodes)


def _answer(
    model: LanguageModel,
    batch: Batch,
    questions: list[dict[str, Any]],
    layers: list[int],
    ends: Tensor,
    max_new_tokens: int,
) -> dict[int, Answer]:
    """Line number to answer, for the questions of a batch."""
    cache, prefix_length = prefix_cache(model, batch.prefix)
    queries = [encode(model, questions[number]["query"]) for number in batch.numbers]
    longest = getattr(model.model.config, "max_position_embeddings", None)
    for number, query in zip(batch.numbers, queries, strict=True):
        length = prefix_length + len(query)
        if not query or length < 2:  # position 0 is a sink and is never tracked
            raise DataError(f"question {questions[number]['id']!r}: its prompt is shorter than two tokens")
        if longest and length + max_new_tokens > longest:
            raise DataError(
                f"question {questions[number]['id']!r}: its prompt of {length} tokens does not fit the model's "
                f"context of {longest}; lower data.shots or remove the question"
            )
    answers = answer_batch(model, cache, prefix_length, queries, layers, ends, max_new_tokens)
    return dict(zip(batch.numbers, answers, strict=True))


def _encode(states: Tensor, saes: list[JumpReLUSAE], k: int) -> tuple[Tensor, Tensor]:
    """The strongest latents of every layer: two [n_problems, n_layers, k]. states: [n_problems, n_layers, d_model]."""
    pairs = [sae.top_k(states[:, index], k) for index, sae in enumerate(saes)]
    return (
        torch.stack([latents for latents, _ in pairs], dim=1).long(),
        torch.stack([activations for _, activations in pairs], dim=1),
    )


def _record(question: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """A line of generations.jsonl."""
    judgement = judge(answer.text, question["aliases"], question["query"])
    return {
        "id": question["id"],
        "relation": question["relation"],
        "subject": question["subject"],
        "group": normalise(question["subject"]) or question["id"],
        "prompt": question["prefix"] + question["query"],
        "answer": answer.text,
        "gold": question["answer"],
        "aliases": question["aliases"],
        "label": judgement.label,
        "strict_label": judgement.strict,
        "excluded": judgement.excluded,
        "token_ids": answer.token_ids,
        "tokens": answer.tokens,
        "logprobs": answer.logprobs,
        "entropies": answer.entropies,
    }


def _gather(job: Job, n_shards: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """All shards' records in the order of questions.jsonl, and their nodes sorted."""
    records: list[dict[str, Any]] = []
    pieces = []
    for number in range(n_shards):
        lines = job.scratch(f"{_step(number)}.jsonl").read_text(encoding="utf-8").splitlines()
        records += [json.loads(line) for line in lines]
        with np.load(job.scratch(f"{_step(number)}.npz")) as arrays:
            pieces.append({name: arrays[name] for name in NODE_TYPES})
    records.sort(key=lambda record: record.pop("line"))
    nodes = {name: np.concatenate([piece[name] for piece in pieces]) for name in NODE_TYPES}
    order = np.lexsort((nodes["layer"], nodes["track"], nodes["position"], nodes["question"]))
    return records, {name: values[order] for name, values in nodes.items()}


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
    outputs.write_jsonl(job.output("generations.jsonl"), generations)
    outputs.write_parquet(job.output("tracks.parquet"), nodes)
    ids = [generation["id"] for generation in generations]
    outputs.write_activations(job.output("feature_activations.pt"), nodes, layers, ids)
    outputs.write_trajectories(
        job.output("hypothesis_trajectories.json"), generations, nodes, layers, settings.strongest_tracks
    )


def _metrics(generations: list[dict[str, Any]], nodes: dict[str, np.ndarray]) -> dict[str, Any]:
    labels = [generation["label"] for generation in generations if generation["label"] is not None]
    starts = np.isnan(nodes["link"])
    lengths = np.diff(np.append(np.flatnonzero(starts), len(starts)))
    life = np.repeat(lengths, lengths)
    return {
        "questions": len(generations),
        "labelled": len(labels),
        "accuracy": round(1 - sum(labels) / len(labels), 4) if labels else None,
        "excluded": dict(Counter(g["excluded"] for g in generations if g["label"] is None)),
        "positions": len(np.unique(np.stack([nodes["question"], nodes["position"]]), axis=1).T),
        "tracks": int(starts.sum()),
        "nodes": len(starts),
        "mean_track_life": round(float(lengths.mean()), 3),
        "activation_weighted_track_life": round(float(np.average(life, weights=nodes["activation"])), 3),
        "linked_fraction": round(float((~starts).sum() / max((nodes["layer"] > nodes["layer"].min()).sum(), 1)), 4),
    }  # fmt: skip


def _step(number: int) -> str:
    return f"shard_{number:05}"
