"""The blocks of the question explorer: an index of all questions, and their trajectories, some questions to a block."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.cells import cell_of, cells_of, position_of
from ghosttrack.common.formats.file import Table, only
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.origins import ORIGINS
from ghosttrack.common.formats.snapshot import TOKENIZER
from ghosttrack.common.formats.tracks import TRACKS, first_row
from ghosttrack.common.models.vocabulary import token_texts
from ghosttrack.stages.report.dashboard import tracks
from ghosttrack.stages.report.dashboard.account import Contestants, account_table, contestants
from ghosttrack.stages.report.dashboard.packing import thousandths
from ghosttrack.stages.report.dashboard.tracks import STRONGEST, Census, Nodes, place_in_run, whole_questions
from ghosttrack.stages.report.results import Results

NODES_AT_ONCE = 1_500_000
QUESTIONS_A_BLOCK = 20
WIDTH = 1 << 20
"""Latents of a SAE, at most."""
CANDIDATES_SHOWN = 16
"""Candidate answers of a position that are shown."""

LAYER_COLUMNS = ("n_active", "births", "deaths", "association_entropy", "error")
LENS_COLUMNS = ("logprob", "entropy", "top", "rank")
DRAWN = (
    "cell",
    "place",
    "layer",
    "latent",
    "activation",
    "effect",
    "track",
    "link",
    "posterior",
    "existence",
    "birth",
)
WHOLE = {
    "place", "birth", "layer", "latent", "track", "n_active", "births", "deaths", "leader", "top", "rank", "token", "side",
}  # fmt: skip
"""Columns of whole numbers; the others go as thousandths."""
INDEXED = ("id", "relation", "question", "answer", "gold", "label", "excluded")
"""Of an answer's record, the same."""
SCORE_KEYS = (
    "score", "threshold", "predicted", "interval", "error_type", "unfamiliar", "baseline", "other_form",
)  # fmt: skip
"""Of a question's record in hallucination_scores.json or scores.jsonl, what lists and search need."""
TEXTS = ("prompt", "gold", "aliases", "subject", "group", "strict_label", "tokens", "token_ids", "logprobs",
         "entropies", "samples", "subject_found", "texts", "explanation", "reason", "interventions", "contexts", "risk")  # fmt: skip


@dataclass(frozen=True)
class Detail:
    """How much of each question and latent the page holds."""

    positions: int
    """Positions of a question: the last prompt token, the subject, the answer tokens from the first."""
    tracks: int
    contexts: int


_DETAILS = (
    (12, STRONGEST, 20), (12, STRONGEST, 14), (12, STRONGEST, 10), (6, 16, 10), (3, 16, 6), (3, 12, 4), (2, 12, 4),
    (2, 10, 3), (1, 10, 3), (1, 6, 2), (1, 4, 1),
)  # fmt: skip
DETAILS = tuple(Detail(*each) for each in _DETAILS)
"""Fullest first; a page takes the first that keeps it small enough."""


@dataclass
class DrawnTracks:
    """The strongest nodes of every cell with what else is known of the cell; each table sorted by cell and then as drawn.

    A table is its columns, and `cell` [n] (`ghosttrack.common.formats.cells`).
    """

    nodes: dict[str, NDArray[Any]]
    account: dict[str, NDArray[Any]]
    layers: dict[str, NDArray[Any]]
    lens: dict[str, NDArray[Any]]
    candidates: dict[str, NDArray[Any]]
    census: Census
    n_tracks: int
    """Of all cells, drawn or not."""


def read_trajectories(
    results: Results,
    records: Sequence[Mapping[str, Any]],
    said: Sequence[int] = (),
    questions: range | None = None,
    strongest: int = STRONGEST,
) -> tuple[DrawnTracks, dict[str, str]]:
    """The strongest tracks of each cell. questions: those of the records, where they are not all; strongest: tracks of a cell. Tables that are not there are empty. With the texts of the tokens
    that they name, and of those `said` elsewhere."""
    census = Census(WIDTH, labels_of(records))
    kept: list[dict[str, NDArray[Any]]] = []
    n_tracks = 0
    pieces = whole_questions(_batches(results, questions)) if results.has_table(TRACKS) else []
    with ThreadPoolExecutor(2) as pool:  # sorting, which is most of it, leaves the other thread to work
        for nodes in pieces:
            counted, drawn = pool.submit(census.add, nodes), pool.submit(_kept, nodes, strongest)
            kept.append(drawn.result())
            n_tracks += counted.result()
    lens = _table(results, LENS, LENS_COLUMNS, ("layer",), questions)
    candidates = _table(results, CANDIDATES, ("token", "logprob"), ("rank",), questions)
    named = [table[column] for table, column in ((lens, "top"), (candidates, "token")) if table]
    texts = texts_of_tokens(results, np.unique(np.concatenate([*named, [*said]]).astype(np.int64)).tolist())
    followed = contestants(candidates, texts, records) if candidates else Contestants.none()
    if candidates:
        cells = np.searchsorted(followed.cell, candidates["cell"])
        rank = place_in_run(candidates["cell"])
        candidates["side"] = np.select(
            [rank == 0, rank == followed.right[cells], rank == followed.rival[cells]], [1, 2, 3], 0
        )
    found = DrawnTracks(
        _joined(kept),
        account_table(results, followed, questions),
        _table(results, LAYERS, LAYER_COLUMNS, ("layer",), questions),
        lens,
        candidates,
        census,
        n_tracks,
    )
    return found, texts


def read_census(results: Results, census: Census) -> Census:
    """What all tracks of a run say of its latents."""
    if results.has_table(TRACKS):
        for nodes in whole_questions(_batches(results, None)):
            census.add(nodes)
    return census


def labels_of(records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Of each question 1 wrong, 0 right, NaN excluded."""
    return np.array([record["label"] for record in records], dtype=float)  # NaN for None


def texts_of_tokens(results: Results, ids: list[int]) -> dict[str, str]:
    """Text of the tokens that are named by number."""
    tokenizer = results.json_if_there(TOKENIZER)
    found = {} if tokenizer is None else token_texts(tokenizer, ids)
    return {str(number): text for number, text in found.items()}


def _batches(results: Results, questions: range | None) -> Iterator[Nodes]:
    path = results.path(TRACKS)
    if questions is not None:
        nodes = TRACKS.read(path, TRACKS.names, where=only(questions))
        birth = _births(results, first_row(path, questions.start), len(nodes["question"]))
        yield {**_from_first(nodes, questions), "birth": birth}
        return
    first = 0
    for batch in pq.ParquetFile(path).iter_batches(NODES_AT_ONCE, columns=TRACKS.names):
        nodes = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
        yield {**nodes, "birth": _births(results, first, len(batch))}
        first += len(batch)


def _births(results: Results, first: int, count: int) -> NDArray[np.int8]:
    """Column `birth` of so many nodes from the first; −1 where there is no account."""
    if not (count and results.has_table(ORIGINS)):
        return np.full(count, -1, dtype=np.int8)
    rows = ORIGINS.rows(results.path(ORIGINS), range(first, first + count), ["birth"])
    return rows["birth"].to_numpy()


def _from_first(table: dict[str, NDArray[Any]], questions: range | None) -> dict[str, NDArray[Any]]:
    """With its questions counted from the first of those that were wanted."""
    return {**table, "question": table["question"] - questions.start} if questions else table


def _joined(pieces: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}


def _kept(nodes: Nodes, strongest: int) -> dict[str, NDArray[Any]]:
    """The nodes of the strongest tracks, track by track."""
    rank = tracks.ranks(nodes, nodes["track"])
    rows = np.flatnonzero(rank < strongest)
    cell = cell_of(nodes["question"], nodes["position"])
    rows = rows[np.lexsort((nodes["layer"][rows], rank[rows], cell[rows]))]
    wanted = [name for name in nodes if name not in ("question", "position")]
    return {"cell": cell[rows], "place": rank[rows], **{name: nodes[name][rows] for name in wanted}}


def _table(
    results: Results, file: Table, columns: Sequence[str], order: Sequence[str], questions: range | None
) -> dict[str, NDArray[Any]]:
    if not results.has(file):
        return {}
    names = ["question", "position", *order, *columns]
    values = _from_first(file.read(results.path(file), names, where=only(questions)), questions)
    cell = cell_of(values.pop("question"), values.pop("position"))
    rows = np.lexsort((*(values[name] for name in reversed(order)), cell))
    return {"cell": cell[rows], **{name: column[rows] for name, column in values.items()}}


def kept_positions(cells: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of one question's cells, the first `count` positions to show: 0, −1, 1, 2, …"""
    positions = position_of(cells)
    order = np.argsort(np.where(positions == 0, -2, positions), kind="stable")
    return np.sort(positions[order[:count]])


def question_block(
    numbers: Sequence[int], records: Sequence[Mapping[str, Any]], found: DrawnTracks, detail: Detail
) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """The questions `numbers` with their trajectories: header and columns of their block."""
    heads: list[dict[str, Any]] = []
    columns: dict[str, NDArray[Any]] = {}
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _tables(found)}
    lengths = dict.fromkeys(rows, 0)
    for number in numbers:
        cells = []
        there = _cells_of(found.layers, number)
        for position in kept_positions(there, detail.positions).tolist():
            cell: dict[str, Any] = {"position": position}
            for name, table in _tables(found).items():
                picked = _rows(table, cell_of(number, position), name, detail)
                cell[name] = [lengths[name], lengths[name] + len(picked)]
                lengths[name] += len(picked)
                rows[name].append(picked)
            cells.append(cell)
        texts = {key: value for key in TEXTS if (value := records[number].get(key)) is not None}
        heads.append({**texts, "cells": cells})
    for name, table in _tables(found).items():
        picked = np.concatenate(rows[name]) if rows[name] else np.array([], dtype=np.int64)
        for column in table:
            if column != "cell":
                values = table[column][picked]
                columns[f"{name}.{column}"] = values if column in WHOLE else thousandths(values)
    return heads, columns


def _cells_of(layers: Mapping[str, NDArray[Any]], number: int) -> NDArray[np.int64]:
    """The cells of a question, ascending. layers: the table that has all of them."""
    if not layers:
        return np.array([], dtype=np.int64)
    start, stop = np.searchsorted(layers["cell"], cells_of(number))
    return np.unique(layers["cell"][start:stop])


def _tables(found: DrawnTracks) -> dict[str, dict[str, NDArray[Any]]]:
    tables = {
        "nodes": {name: found.nodes[name] for name in DRAWN if found.nodes},
        **{name: getattr(found, name) for name in ("account", "layers", "lens", "candidates")},
    }
    return {name: table for name, table in tables.items() if table}


def _rows(table: Mapping[str, NDArray[Any]], cell: int, name: str, detail: Detail) -> NDArray[np.int64]:
    start, stop = np.searchsorted(table["cell"], [cell, cell + 1])
    rows = np.arange(start, stop)
    if name == "nodes":
        return rows[table["place"][rows] < detail.tracks]
    return rows[:CANDIDATES_SHOWN] if name == "candidates" else rows


def extent_of(found: DrawnTracks, questions: int, detail: Detail) -> dict[str, list[int]]:
    """How many positions and tracks the page holds, and how many there are."""
    every = [_cells_of(found.layers, number) for number in range(questions)]
    kept = [cell_of(n, kept_positions(cells, detail.positions)) for n, cells in enumerate(every)]
    extent = {"positions": [sum(map(len, kept)), sum(map(len, every))]}
    if found.nodes and kept:
        shown = np.isin(found.nodes["cell"], np.concatenate(kept)) & (found.nodes["place"] < detail.tracks)
        pairs = found.nodes["cell"][shown] * STRONGEST + found.nodes["place"][shown]
        extent["tracks"] = [len(np.unique(pairs)), found.n_tracks]
    return extent


def latents_in(found: DrawnTracks, tracks: int) -> NDArray[np.int64]:
    """Latents (layer · width + latent) of the tracks that are drawn, ascending."""
    if not found.nodes:
        return np.array([], dtype=np.int64)
    drawn = found.nodes["place"] < tracks
    return np.unique(found.nodes["layer"][drawn].astype(np.int64) * WIDTH + found.nodes["latent"][drawn])


def index(
    records: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], new: int = 0
) -> list[dict[str, Any]]:
    """A short record a question for lists and search, in the order of generations.jsonl.

    records: generations.jsonl; scores: the records of hallucination_scores.json, or none; new: so many at the end are new
    questions, which are set beside a right answer of the run and never beside one of its own.
    """
    scored = {score["id"]: score for score in scores}
    labels = labels_of(records)
    labels[len(labels) - new :] = np.nan
    length = np.array([len(record["tokens"]) for record in records])
    confidence = np.array([np.mean(record["logprobs"]) if record["logprobs"] else 0.0 for record in records])
    relation = np.array([record["relation"] for record in records], dtype=str)
    beside, same = tracks.matches(labels, relation, length, confidence)
    found = []
    for number, record in enumerate(records):
        entry = {name: record[name] for name in INDEXED}
        entry |= {"beside": int(beside[number]), "same_relation": bool(same[number])}
        if number >= len(records) - new:
            entry["new"] = True
        if score := scored.get(record["id"]):
            entry["scored"] = {key: score[key] for key in SCORE_KEYS if key in score}
        found.append(entry)
    return found
