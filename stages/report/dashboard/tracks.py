"""Which tracks the page draws, and what all tracks together say of latents. Functions on arrays of track nodes.

Nodes are the rows of `tracks.parquet` beside those of `ladder.parquet`, sorted by question, position and layer. A cell is
a position of a question. A page cannot hold every track of thousands of questions: of each cell it has the strongest, by
activation and by effect on the answer in turn.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ghosttrack.common.formats.cells import cell_of

Nodes = Mapping[str, NDArray[Any]]
Ints = NDArray[np.int64]

STRONGEST = 20
"""Most tracks of a cell that are drawn."""
EXAMPLES = 5
"""Questions named on the page of a latent."""


def whole_questions(batches: Iterable[Nodes]) -> Iterator[Nodes]:
    """The same rows in pieces that end where a question ends."""
    rest: dict[str, NDArray[Any]] | None = None
    for batch in batches:
        joined = {name: np.concatenate([rest[name], batch[name]]) if rest else batch[name] for name in batch}
        question = joined["question"]
        if not len(question):
            continue
        cut = int(np.searchsorted(question, question[-1]))
        if cut:
            yield {name: values[:cut] for name, values in joined.items()}
        rest = {name: values[cut:] for name, values in joined.items()}
    if rest:
        yield rest


def ranks(nodes: Nodes, track: NDArray[Any]) -> Ints:
    """Of each node, the place of its track among those of its cell, [n]: 0 is the strongest.

    track: [n] number of the node's track within its cell, by any associator. The order takes the first by total
    activation, the first by total size of effect, the second by activation, and so on.
    """
    cell = _cell(nodes)
    key, row = np.unique(cell * (int(track.max(initial=0)) + 1) + track, return_inverse=True)
    owner = key // (int(track.max(initial=0)) + 1)
    activation = np.bincount(row, nodes["activation"], len(key))
    effect = np.bincount(row, np.abs(np.nan_to_num(nodes["effect"])), len(key))
    turn = np.minimum(2 * _rank_within(owner, activation), 2 * _rank_within(owner, effect) + 1)
    return _rank_within(owner, -turn.astype(np.float64))[row]


def _cell(nodes: Nodes) -> Ints:
    return cell_of(nodes["question"], nodes["position"])


def _rank_within(owner: Ints, strength: NDArray[Any]) -> Ints:
    """Place of each value among those of its owner, the largest first; owner: ascending."""
    rank = np.empty(len(owner), dtype=np.int64)
    rank[np.lexsort((-strength, owner))] = place_in_run(owner)
    return rank


def place_in_run(keys: NDArray[Any]) -> Ints:
    """Of each key, [n] ascending, how many equal ones stand before it."""
    return np.arange(len(keys)) - np.searchsorted(keys, keys)


class LatentLinks(NamedTuple):
    """How often a latent's track goes on in a latent of a later layer. A row a pair, sorted by source."""

    source: Ints
    """layer · width + latent"""
    target: Ints
    times: Ints
    cosine: NDArray[np.float64]
    posterior: NDArray[np.float64]
    """Mean over the links."""


class Examples(NamedTuple):
    """Where latents are most active. A row a place, sorted by latent and falling activation."""

    latent: Ints
    question: Ints
    position: Ints
    activation: NDArray[np.float64]


class Parts(NamedTuple):
    """In how many answers each latent is on a track; ascending latents."""

    latent: Ints
    wrong: Ints
    right: Ints


@dataclass
class Census:
    """Counts over all nodes, a piece after another; a latent is layer · width + latent."""

    width: int
    label: NDArray[np.float64]
    """Of each question: 1 wrong, 0 right, NaN excluded."""
    _links: list[LatentLinks] = field(default_factory=list)
    _examples: list[Examples] = field(default_factory=list)
    _parts: list[Parts] = field(default_factory=list)

    def add(self, nodes: Nodes) -> int:
        """Count some nodes; the number of their tracks."""
        latent = nodes["layer"].astype(np.int64) * self.width + nodes["latent"]
        links = links_of(nodes, latent)
        self._links.append(links)
        self._examples.append(
            strongest_places(latent, nodes["question"], nodes["position"], nodes["activation"])
        )
        self._parts.append(parts_in(latent, nodes["question"], self.label))
        if len(self._links) >= 16:
            self._merge()
        return len(latent) - int(links.times.sum())  # every node but a track's first has a link

    @property
    def seen(self) -> bool:
        return bool(self._links)

    def _merge(self) -> None:
        self._links = [merged_links(self._links)]
        joined = (np.concatenate(column) for column in zip(*self._examples, strict=True))
        self._examples = [strongest_places(*joined)]
        self._parts = [merged_parts(self._parts)]

    def result(self) -> tuple[LatentLinks, Examples, Parts]:
        self._merge()
        return self._links[0], self._examples[0], self._parts[0]


def parts_in(latent: Ints, question: NDArray[Any], label: NDArray[np.float64]) -> Parts:
    """In how many wrong and right answers latents are on a track, of whole questions."""
    missing = int(question.max(initial=-1)) + 1 - len(label)  # a run may have tracks and lack its answers
    label = np.append(label, np.full(max(missing, 0), np.nan))
    owner, number = np.divmod(np.unique(latent * len(label) + question), max(len(label), 1))
    return merged_parts([Parts(owner, (label[number] == 1).astype(int), (label[number] == 0).astype(int))])


def merged_parts(pieces: Iterable[Parts]) -> Parts:
    latent, wrong, right = (np.concatenate(column) for column in zip(*pieces, strict=True))
    key, row = np.unique(latent, return_inverse=True)
    counts = (np.bincount(row, column, len(key)).astype(np.int64) for column in (wrong, right))
    return Parts(key, *counts)


def links_of(nodes: Nodes, latent: Ints) -> LatentLinks:
    """The links of some nodes, counted by pair."""
    key = _cell(nodes) * (int(nodes["track"].max(initial=0)) + 1) + nodes["track"]
    order = np.argsort(key * (int(nodes["layer"].max(initial=0)) + 1) + nodes["layer"])
    goes_on = key[order][1:] == key[order][:-1]
    before, after = order[:-1][goes_on], order[1:][goes_on]
    times, posterior = np.ones(len(after), dtype=np.int64), np.nan_to_num(nodes["posterior"][after])
    return merged_links([LatentLinks(latent[before], latent[after], times, nodes["link"][after], posterior)])


def merged_links(pieces: Iterable[LatentLinks]) -> LatentLinks:
    source, target, times, cosine, posterior = map(np.concatenate, zip(*pieces, strict=True))
    span = int(target.max(initial=0)) + 1
    key, first, row = np.unique(source * span + target, return_index=True, return_inverse=True)
    total = np.bincount(row, times, len(key)).astype(np.int64)
    mean = np.bincount(row, posterior * times, len(key)) / np.maximum(total, 1)
    return LatentLinks(key // span, key % span, total, cosine[first].astype(np.float64), mean)


def strongest_places(
    latent: Ints, question: NDArray[Any], position: NDArray[Any], activation: NDArray[Any]
) -> Examples:
    """Of each latent the places where it is most active, a place a question. activation: positive."""
    enough = EXAMPLES * (int(position.max(initial=0)) + 2)  # so many rows hold that many questions
    rows = _first_of_each(latent, activation, enough)
    rows = rows[np.lexsort((question[rows], latent[rows]))]  # stable: the strongest of a question stays first
    pair = latent[rows] * (int(question.max(initial=0)) + 1) + question[rows]
    rows = rows[np.unique(pair, return_index=True)[1]]
    rows = rows[_first_of_each(latent[rows], activation[rows], EXAMPLES)]
    question, position = (column[rows].astype(np.int64) for column in (question, position))
    return Examples(latent[rows], question, position, activation[rows].astype(np.float64))


def _first_of_each(latent: Ints, activation: NDArray[Any], count: int) -> Ints:
    """Rows sorted by latent and falling activation, the first of each latent.

    The bits of positive floats are in the order of the floats, so one integer sorts by both.
    """
    bits = activation.astype(np.float32).view(np.int32).astype(np.int64)
    order = np.argsort((latent << 32) | (0x7FFFFFFF - bits))
    return order[place_in_run(latent[order]) < count]


def matches(
    label: NDArray[np.float64], relation: NDArray[Any], length: NDArray[Any], confidence: NDArray[np.float64]
) -> tuple[Ints, NDArray[np.bool_]]:
    """Of each question the one to set beside it, and whether it is of the same relation; −1 where there is none.

    A wrong answer is set beside a right one and a right one beside a wrong one: of the same relation where it has one,
    else of any; then the nearest number of answer tokens, then the nearest confidence, then the first.
    label: [n] 1 wrong, 0 right, NaN excluded (set beside a right one); relation, length: [n] answer tokens;
    confidence: [n] mean log-probability of the answer.
    """
    found, same = np.full(len(label), -1, dtype=np.int64), np.zeros(len(label), dtype=bool)
    wanted = np.where(label == 0, 1.0, 0.0)
    for value in (0.0, 1.0):
        pool, asking = label == value, wanted == value
        for name in np.unique(relation[asking]):
            own = relation == name
            rows, same_relation = np.flatnonzero(asking & own), bool((pool & own).any())
            among = np.flatnonzero(pool & own if same_relation else pool)
            same[rows] = same_relation
            found[rows] = _nearest(among, rows, length, confidence)
    return found, same


def _nearest(pool: Ints, rows: Ints, length: NDArray[Any], confidence: NDArray[np.float64]) -> Ints:
    """Of each row the one of the pool, ascending, with the nearest length, then the nearest confidence, then the first; −1 where
    the pool is empty."""
    if not len(pool):
        return np.full(len(rows), -1)
    place = np.column_stack([length * 1e6, confidence])
    points, first = np.unique(place[pool], axis=0, return_index=True)
    # Four may be equally near: longer or shorter, surer or less sure.
    nearest = np.arange(1, min(len(points), 4) + 1)
    away, near = cKDTree(points).query(place[rows], nearest, p=1)
    return np.where(away == away[:, :1], pool[first[near]], len(place)).min(axis=1)
