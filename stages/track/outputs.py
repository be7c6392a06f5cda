"""The files of the tracking phase, written piece by piece so that memory does not grow with them."""

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from ghosttrack.common.formats.states import TensorFile, reserve_tensors

SCHEMA_VERSION = 2

Rows = Mapping[str, NDArray[Any]]
"""Column to values."""


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_parquet(path: Path, columns: Rows) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def write_activations(
    path: Path,
    pieces: Iterable[Rows],
    n_nodes: int,
    owner: NDArray[np.int64],
    layers: list[int],
    d_hidden: int,
) -> None:
    """`feature_activations.pt`: a sparse matrix in compressed rows, a row a (question, position, layer).

    pieces: nodes in order, with `question, position, layer, latent, activation`; owner: [n_problems, 2], question and
    position. Opens with `torch.load(weights_only=True)`; `torch.sparse_csr_tensor(crow, latent, activation, shape)` is
    the matrix. Row `problem · n_layers + place of the layer in layers`; activation float16.
    """
    n_rows = len(owner) * len(layers)
    crow = np.zeros(n_rows + 1, dtype=np.int64)
    reserve_tensors(
        path,
        {
            "question": ((len(owner),), torch.int32),
            "position": ((len(owner),), torch.int16),
            "layers": ((len(layers),), torch.int16),
            "shape": ((2,), torch.int64),
            "crow": ((n_rows + 1,), torch.int64),
            "latent": ((n_nodes,), torch.int32),
            "activation": ((n_nodes,), torch.float16),
        },
    )
    place_of = {layer: place for place, layer in enumerate(layers)}
    places = np.array([place_of.get(layer, -1) for layer in range(max(layers) + 1)])
    starts = {tuple(pair): number for number, pair in enumerate(owner.tolist())}
    with TensorFile(path) as file:
        written = 0
        for nodes in pieces:
            pairs, inverse = np.unique(
                np.stack([nodes["question"], nodes["position"]], axis=1), axis=0, return_inverse=True
            )
            problem = np.array([starts[tuple(pair)] for pair in pairs.tolist()], dtype=np.int64)[
                inverse.ravel()
            ]
            np.add.at(crow, problem * len(layers) + places[nodes["layer"]] + 1, 1)
            file.put("latent", written, torch.from_numpy(nodes["latent"].astype(np.int32)))
            file.put("activation", written, torch.from_numpy(nodes["activation"].astype(np.float16)))
            written += len(nodes["latent"])
        for name, values in (
            ("question", owner[:, 0].astype(np.int32)),
            ("position", owner[:, 1].astype(np.int16)),
            ("layers", np.array(layers, dtype=np.int16)),
            ("shape", np.array([n_rows, d_hidden])),
            ("crow", np.cumsum(crow)),
        ):
            file.put(name, 0, torch.from_numpy(values))
        file.sync()


def write_clusters(folder: Path, clusters: list[dict[str, Any]], layers: list[int]) -> None:
    """`semantic_clusters.pkl`, plain builtins and numpy arrays only, and its JSON twin."""
    content = {"schema_version": SCHEMA_VERSION, "layers": layers, "clusters": clusters}
    with (folder / "semantic_clusters.pkl").open("wb") as file:
        pickle.dump(content, file, protocol=4)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=lambda array: array.tolist())
    (folder / "semantic_clusters.json").write_text(text + "\n", encoding="utf-8")


def write_trajectories(
    path: Path, head: Mapping[str, Any], questions: Iterator[dict[str, Any]]
) -> dict[str, int]:
    """`hypothesis_trajectories.json`, a question at a time. Returns how many tracks it names and leaves out."""
    named = left_out = 0
    with path.open("w", encoding="utf-8") as file:
        start = json.dumps({"schema_version": SCHEMA_VERSION, **head}, ensure_ascii=False)
        file.write(start[:-1] + ', "questions": [')
        for number, record in enumerate(questions):
            named += sum(len(place["tracks"]) for place in record["positions"])
            left_out += sum(place["tracks_left_out"] for place in record["positions"])
            file.write(
                ("," if number else "") + "\n" + json.dumps(record, ensure_ascii=False, allow_nan=False)
            )
        file.write("\n]}\n")
    return {"named": named, "left_out": left_out}
