"""What hypothesis_trajectories.json says of a question: its strongest tracks, the competition, links over the answer.

What each field means stands in `ghosttrack.common.formats.trajectories`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ghosttrack.stages.track.effects import course

Rows = Mapping[str, NDArray[Any]]
LEAST_OVERLAP = 0.3
"""Cosine of two tracks' activations over (layer, latent) below which one does not continue the other."""


class Labels(NamedTuple):
    """Names of things: `tokens`, the text of every token of the vocabulary; `promoted`, of each (layer, latent); the
    number of the semantic `cluster` of each (layer, latent) that is in one."""

    tokens: Sequence[str]
    promoted: Mapping[tuple[int, int], list[str]]
    clusters: Mapping[tuple[int, int], int]


def question_record(
    generation: Mapping[str, Any],
    number: int,
    nodes: Rows,
    layers: Rows,
    candidates: Rows,
    strongest: int,
    labels: Labels,
) -> dict[str, Any]:
    """One question's record from its rows of tracks.parquet, layers.parquet and candidates.parquet."""
    keys = ("id", "relation", "subject", "prompt", "answer", "gold", "label", "excluded")
    record: dict[str, Any] = {"question": number, **{key: generation[key] for key in keys}, "positions": []}
    before: list[dict[str, Any]] = []
    for position in np.unique(layers["position"]).tolist():
        here = {name: values[nodes["position"] == position] for name, values in nodes.items()}
        tracks, left_out = strongest_tracks(here, strongest, labels)
        _continue(before, tracks)
        before = tracks
        token = generation["tokens"][position - 1] if position > 0 else None
        competition = _competition(layers, candidates, position, labels)
        found = {
            "position": position,
            "token": token,
            **competition,
            "tracks": tracks,
            "tracks_left_out": left_out,
        }
        record["positions"].append(found)
    return record


def strongest_tracks(nodes: Rows, count: int, labels: Labels) -> tuple[list[dict[str, Any]], int]:
    """The tracks of one position with the most total activation, and how many others there are."""
    order = np.argsort(nodes["track"], kind="stable")
    numbers, first, length = np.unique(nodes["track"][order], return_index=True, return_counts=True)
    total = np.add.reduceat(nodes["activation"][order], first) if len(first) else np.zeros(0)
    tracks = []
    for index in np.argsort(-total, kind="stable")[:count].tolist():
        rows = order[first[index] : first[index] + length[index]]
        layer, latent, activation = (nodes[name][rows].tolist() for name in ("layer", "latent", "activation"))
        posterior, link = nodes["posterior"][rows].tolist(), nodes["link"][rows][1:]
        peak = (layer[at := int(np.argmax(activation))], latent[at])
        tracks.append(
            {
                "id": int(numbers[index]),
                "birth": layer[0],
                "death": layer[-1],
                "existence": round(float(nodes["existence"][rows].mean()), 3),
                "effect": round(float(nodes["effect"][rows[-1]]), 4),
                "mean_link": round(float(link.mean()), 4) if len(link) else None,
                "promoted": labels.promoted[peak],
                "cluster": labels.clusters.get(peak),
                "continues": None,
                "path": [
                    [one, two, round(three, 3), round(four, 3)]
                    for one, two, three, four in zip(layer, latent, activation, posterior, strict=True)
                ],
            }
        )
    return tracks, max(len(numbers) - count, 0)


def _competition(layers: Rows, candidates: Rows, position: int, labels: Labels) -> dict[str, Any]:
    rows = layers["position"] == position
    asked = candidates["position"] == max(position, 0)
    leader, depth = layers["leader"][rows].tolist(), layers["layer"][rows].tolist()
    commitment, changes, override = course(leader, depth)
    return {
        "candidates": [
            [labels.tokens[token], round(logprob, 4)]
            for token, logprob in zip(candidates["token"][asked].tolist(), candidates["logprob"][asked].tolist(), strict=True)
        ],
        "margin": [round(value, 4) for value in layers["margin"][rows].tolist()],
        "leader": leader,
        "commitment": commitment,
        "lead_changes": changes,
        "late_override": override,
    }  # fmt: skip


def _continue(before: Sequence[Mapping[str, Any]], tracks: Sequence[dict[str, Any]]) -> None:
    """Say of each track which one of the position before it continues: `{"id", "overlap"}`, at most one each."""
    if not before or not tracks:
        return
    vectors = [
        {(layer, latent): activation for layer, latent, activation, _ in track["path"]}
        for track in (*before, *tracks)
    ]
    places = {node: place for place, node in enumerate({node for vector in vectors for node in vector})}
    table = np.zeros((len(vectors), len(places)))
    for row, vector in enumerate(vectors):
        table[row, [places[node] for node in vector]] = list(vector.values())
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    overlap = table[: len(before)] @ table[len(before) :].T
    overlap[overlap < LEAST_OVERLAP] = 0
    for earlier, later in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[earlier, later] > 0:
            share = round(float(overlap[earlier, later]), 3)
            tracks[later]["continues"] = {"id": before[earlier]["id"], "overlap": share}
