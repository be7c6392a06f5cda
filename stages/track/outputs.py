"""The files of the tracking phase, written from plain arrays."""

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

SCHEMA_VERSION = 1

Nodes = Mapping[str, NDArray[Any]]
"""Track nodes, a value a node, sorted by question, position, track and layer: `question` int32,
`position` int16, `track` int32, `layer` int16, `latent` int32, `activation` float32, `link` float32."""


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_parquet(path: Path, nodes: Nodes) -> None:
    pq.write_table(pa.table(dict(nodes)), path, compression="zstd")


def write_activations(path: Path, nodes: Nodes, layers: list[int], question_ids: list[str]) -> None:
    """`feature_activations.pt`: the active latents as coordinates; opens with `torch.load(weights_only=True)`."""
    columns = ("question", "position", "layer", "latent", "activation")
    torch.save(
        {
            "schema_version": SCHEMA_VERSION,
            **{name: torch.from_numpy(np.ascontiguousarray(nodes[name])) for name in columns},
            "layers": layers,
            "question_ids": question_ids,
        },
        path,
    )


def write_clusters(path: Path, clusters: list[dict[str, Any]], layers: list[int]) -> None:
    """`semantic_clusters.pkl`: plain builtins and numpy arrays only."""
    with path.open("wb") as file:
        pickle.dump(
            {"schema_version": SCHEMA_VERSION, "layers": layers, "clusters": clusters}, file, protocol=4
        )


def write_trajectories(
    path: Path,
    generations: list[dict[str, Any]],
    nodes: Nodes,
    layers: list[int],
    strongest: int,
) -> None:
    """`hypothesis_trajectories.json`, a question at a time so that memory does not grow with the file.

    A track is `{"id", "birth", "death", "mean_link", "path": [[layer, latent, activation], ...]}`; death is
    the last layer at which it is seen. A position keeps its `strongest` tracks by total activation.
    """
    question, position = nodes["question"], nodes["position"]
    with path.open("w", encoding="utf-8") as file:
        head = {"schema_version": SCHEMA_VERSION, "layers": layers, "tracks_per_position": strongest}
        file.write(json.dumps(head)[:-1] + ', "questions": [')
        for number, generation in enumerate(generations):
            start, stop = np.searchsorted(question, [number, number + 1])
            record = {
                key: generation[key]
                for key in ("id", "relation", "prompt", "answer", "gold", "label", "excluded")
            }
            record["positions"] = [
                {
                    "position": int(place),
                    "token": "(prompt)" if place == 0 else generation["tokens"][place - 1],
                    "tracks": _strongest_tracks(nodes, start + np.flatnonzero(position[start:stop] == place), strongest),
                }
                for place in np.unique(position[start:stop]).tolist()
            ]  # fmt: skip
            file.write(("," if number else "") + "\n" + json.dumps(record, ensure_ascii=False))
        file.write("\n]}\n")


def _strongest_tracks(nodes: Nodes, rows: NDArray[np.intp], count: int) -> list[dict[str, Any]]:
    track, activation = nodes["track"][rows], nodes["activation"][rows]
    numbers, first, length = np.unique(track, return_index=True, return_counts=True)
    total = np.add.reduceat(activation, first)
    tracks = []
    for index in np.argsort(-total, kind="stable")[:count]:
        piece = rows[first[index] : first[index] + length[index]]
        links = nodes["link"][piece][1:]
        path = zip(nodes["layer"][piece], nodes["latent"][piece], nodes["activation"][piece], strict=True)
        tracks.append(
            {
                "id": int(numbers[index]),
                "birth": int(nodes["layer"][piece[0]]),
                "death": int(nodes["layer"][piece[-1]]),
                "mean_link": round(float(links.mean()), 4) if len(links) else None,
                "path": [[int(layer), int(latent), round(float(value), 3)] for layer, latent, value in path],
            }
        )
    return tracks
