"""The files of the tracking phase, written piece by piece so that memory does not grow with them."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from ghosttrack.common.formats.cells import cell_of
from ghosttrack.common.formats.clusters import CLUSTERS, PICKLED_CLUSTERS
from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.states import TensorFile, reserve_tensors
from ghosttrack.common.maths.arrays import Ints, Singles

Rows = Mapping[str, NDArray[Any]]
"""Column to values."""


def write_parquet(path: Path, columns: Rows) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def columns_of(table: Table, rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Rows of values by column as columns of the types that a table has."""
    of_texts = {"string": np.str_}
    return {
        column.name: np.array(
            [row[column.name] for row in rows], dtype=of_texts.get(column.type, column.type)
        )
        for column in table.columns
    }


def gathered(table: Table, paths: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """A table's rows from the files of all shards, by question; within a question they are in order already. A column at a time,
    so that little more than the table is held."""

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([table.read(path, [name])[name] for path in paths])

    order = np.argsort(column("question"), kind="stable")
    return {name: column(name)[order] for name in table.names}


def write_activations(
    path: Path, pieces: Iterable[Rows], n_nodes: int, owner: Ints, layers: list[int], d_hidden: int
) -> None:
    """`feature_activations.pt`: a sparse matrix in compressed rows, a row a (question, position, layer).

    pieces: nodes in order, with `question, position, layer, latent, activation`; owner: [n_problems, 2], question and
    position, sorted. Opens with `torch.load(weights_only=True)`; `torch.sparse_csr_tensor(crow, latent, activation, shape)` is
    the matrix. Row `problem · n_layers + place of the layer in layers`; activation float16 (`in_half`).
    """
    n_rows = len(owner) * len(layers)
    crow = np.zeros(n_rows + 1, dtype=np.int64)
    known = {
        "question": owner[:, 0].astype(np.int32),
        "position": owner[:, 1].astype(np.int16),
        "layers": np.array(layers, dtype=np.int16),
        "shape": np.array([n_rows, d_hidden]),
        "crow": crow,
    }
    tensors = {name: torch.from_numpy(values) for name, values in known.items()}
    sizes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    of_nodes = {"latent": ((n_nodes,), torch.int32), "activation": ((n_nodes,), torch.float16)}
    reserve_tensors(path, {**sizes, **of_nodes})
    cells = cell_of(owner[:, 0], owner[:, 1])
    with TensorFile(path) as file:
        written = 0
        for nodes in pieces:
            problem = np.searchsorted(cells, cell_of(nodes["question"], nodes["position"]))
            np.add.at(crow, problem * len(layers) + np.searchsorted(layers, nodes["layer"]) + 1, 1)
            file.put("latent", written, torch.from_numpy(nodes["latent"].astype(np.int32)))
            file.put("activation", written, torch.from_numpy(in_half(nodes["activation"])))
            written += len(nodes["latent"])
        np.cumsum(crow, out=crow)
        for name, tensor in tensors.items():
            file.put(name, 0, tensor)
        file.sync()


def in_half(activations: Singles) -> NDArray[np.float16]:
    """float16, at most its largest number: those of SAEs that take states as they are go beyond it where states do."""
    return np.minimum(activations, np.finfo(np.float16).max).astype(np.float16)


def write_clusters(folder: Path, clusters: list[dict[str, Any]], layers: list[int]) -> None:
    """`semantic_clusters.pkl`, plain builtins and numpy arrays only, and its JSON twin."""
    content = {"layers": layers, "clusters": clusters}
    with (folder / PICKLED_CLUSTERS.name).open("wb") as file:
        pickle.dump({"schema_version": CLUSTERS.version, **content}, file, protocol=4)
    CLUSTERS.write(folder / CLUSTERS.name, content)
