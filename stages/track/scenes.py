"""Planted scenes: SAEs and scans in which it is known which latents are one feature, to try associators on.

Latents of neighbouring layers are numbered anew at every layer, so that only directions and activations tell who is who.
A feature is born at some layer, its direction turns a little from layer to layer (drift), its activation wanders, and it is
missed now and then (dropout). Pairs of features pass close by each other and exchange places (crossing), or become one latent,
one of the two ending there (merge). Latents that belong to no feature are active for one layer (clutter).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Scans
from ghosttrack.stages.track.scoring import Score, Snapshot, score

CUTOFF = 0.7
"""Distance of states, (direction, log-activation), beyond which a track has found nothing: 40 degrees."""
LEAST_EXISTENCE = 0.5
"""A detection counts as found where it more probably belongs to a feature than not."""


@dataclass(frozen=True)
class Planted:
    """What a scene is made of. Numbers are of features or latents a problem, or of layers."""

    n_layers: int = 12
    d_model: int = 12
    latents: int = 80
    features: int = 8
    drift: float = 0.3
    """Length of the random step that a direction takes from layer to layer, before it is made a unit vector again."""
    crossing: float = 0.0
    """Share of features that cross another."""
    merge: float = 0.0
    """Share of features that merge with another."""
    dropout: float = 0.0
    """Probability that a feature is not detected at a layer."""
    clutter: float = 0.0
    """Mean number of detections of no feature at a layer."""
    wander: float = 0.1
    """Standard deviation of the change of log-activation from layer to layer."""
    noise: float = 0.05
    """Standard deviation of measured log-activation."""
    lasting: bool = False
    """All features are there from the first layer to the last."""


SCENES = {
    "drift": Planted(),
    "crossing": Planted(crossing=0.75),
    "merge": Planted(merge=0.75),
    "dropout": Planted(dropout=0.15),
    "clutter": Planted(clutter=6.0),
    "all": Planted(crossing=0.5, merge=0.25, dropout=0.1, clutter=4.0),
}
"""By name."""


class Scene(NamedTuple):
    """decoders: a layer's [latents, d_model], unit rows; scans; truth: of each problem, a snapshot a layer of all features that
    are there, detected or not: their numbers and states (direction, log-activation); path_of: int64 [n_layers, latents], the
    number of the feature that a latent would be, if it were not clutter."""

    decoders: list[Tensor]
    scans: Scans
    truth: list[list[Snapshot]]
    path_of: Ints


def plant(planted: Planted, n_problems: int, seed: int) -> Scene:
    """A scene of this kind; the same seed gives the same one."""
    random = np.random.default_rng(seed)
    directions, partner, joined = _directions(planted, random)
    latent_of = np.argsort(random.random((planted.n_layers, planted.latents)), axis=1)
    rows = np.argsort(latent_of, axis=1)
    decoders = [torch.from_numpy(directions[layer][rows[layer]]).float() for layer in range(planted.n_layers)]
    problems = [_problem(planted, directions, partner, joined, random) for _ in range(n_problems)]
    k = max(len(scan) for scans, _ in problems for scan in scans)
    latents = np.zeros((n_problems, planted.n_layers, k), dtype=np.int64)
    activations = np.zeros(latents.shape, dtype=np.float32)
    for number, (scans, _) in enumerate(problems):
        for layer, scan in enumerate(scans):
            falling = sorted(scan.items(), key=lambda item: -item[1])
            latents[number, layer, : len(scan)] = [latent_of[layer, path] for path, _ in falling]
            activations[number, layer, : len(scan)] = np.exp([level for _, level in falling])
    return Scene(decoders, Scans(latents, activations), [truth for _, truth in problems], rows)


def _directions(planted: Planted, random: np.random.Generator) -> tuple[Floats, dict[int, int], Floats]:
    """Paths of directions through the layers, [n_layers, latents, d_model]; who crosses or merges with whom; and the
    layer at which each merges with its partner, infinity where it does not, [latents]."""
    n, shape = planted.latents, (planted.n_layers, planted.latents, planted.d_model)
    step = random.normal(0, planted.drift / np.sqrt(planted.d_model), shape)
    paths = np.empty(shape)
    paths[0] = _unit(random.normal(size=shape[1:]))
    for layer in range(1, planted.n_layers):
        paths[layer] = _unit(paths[layer - 1] + step[layer])
    partner: dict[int, int] = {}
    joined = np.full(n, np.inf)
    part = np.linspace(0, 1, planted.n_layers)[:, None]
    pairs = [(first, first + 1) for first in range(0, n - 1, 2)]
    n_crossing = round(planted.crossing * len(pairs))
    for number, (one, two) in enumerate(pairs[: n_crossing + round(planted.merge * len(pairs))]):
        partner |= {one: two, two: one}
        start, end = paths[:, one].copy(), paths[:, two].copy()
        if number < n_crossing:
            paths[:, one] = _unit((1 - part) * start + part * end)
            paths[:, two] = _unit((1 - part) * end + part * start)
        else:
            joined[two] = random.integers(planted.n_layers // 3, 2 * planted.n_layers // 3 + 1)
            near = np.minimum(np.arange(planted.n_layers) / joined[two], 1)[:, None]
            paths[:, two] = _unit((1 - near) * end + near * start)
    return paths, partner, joined


def _problem(
    planted: Planted, directions: Floats, partner: dict[int, int], joined: Floats, random: np.random.Generator
) -> tuple[list[dict[int, float]], list[Snapshot]]:
    """Scans, a layer's path to log-activation, and the truth."""
    chosen: list[int] = []
    for path in random.permutation(planted.latents).tolist():
        if path not in chosen and len(chosen) < planted.features:
            chosen += [path, *([partner[path]] if path in partner else [])]
    scans: list[dict[int, float]] = [{} for _ in range(planted.n_layers)]
    there: list[dict[int, Floats]] = [{} for _ in range(planted.n_layers)]
    for path in chosen:
        birth, length = 0, planted.n_layers
        if not planted.lasting:
            birth = int(random.integers(0, planted.n_layers // 3))
            length = int(random.integers(planted.n_layers // 3, planted.n_layers))
        level = random.normal(0.5, 0.5)
        for layer in range(birth, min(birth + length, planted.n_layers)):
            if layer >= joined[path]:
                break
            level += random.normal(0, planted.wander)
            there[layer][path] = np.append(directions[layer, path], level)
            if random.random() >= planted.dropout:
                scans[layer][path] = level + random.normal(0, planted.noise)
    for layer, scan in enumerate(scans if planted.clutter else ()):
        free = np.setdiff1d(np.flatnonzero(joined > layer), chosen)
        number = min(random.poisson(planted.clutter), len(free))
        for path in random.choice(free, number, replace=False).tolist():
            scan[path] = random.normal(0.5, 0.5)
    return scans, [_snapshot(here, planted.d_model) for here in there]


def reported(scans: Scans, tracks: Tracks, decoders: Sequence[Tensor], problem: int) -> list[Snapshot]:
    """What tracks say is there, a snapshot a layer. Where a track was missed, its state is between those around."""
    k = scans.latents.shape[2]
    states: list[dict[int, Floats]] = [{} for _ in decoders]
    for layer, decoder in enumerate(decoders):
        for rank in np.flatnonzero(tracks.existence[problem, layer] >= LEAST_EXISTENCE).tolist():
            direction = decoder[scans.latents[problem, layer, rank]].numpy().astype(np.float64)
            state = np.append(direction, np.log(float(scans.activations[problem, layer, rank])))
            number, previous = (int(each[problem, layer, rank]) for each in (tracks.track, tracks.previous))
            states[layer][number] = state
            if previous >= 0 and previous // k == layer - 2 and number in states[layer - 2]:
                between = (states[layer - 2][number] + state) / 2
                between[:-1] = _unit(between[:-1])
                states[layer - 1][number] = between
    return [_snapshot(here, decoders[0].shape[1]) for here in states]


def _snapshot(states: dict[int, Floats], d_model: int) -> Snapshot:
    """Of states by number: direction and log-activation."""
    return Snapshot(
        np.array(list(states), dtype=np.int64), np.array(list(states.values())).reshape(-1, d_model + 1)
    )


def scores(scene: Scene, tracks: Tracks) -> list[Score]:
    """Of every problem of a scene."""
    return [
        score(truth, reported(scene.scans, tracks, scene.decoders, problem), CUTOFF)
        for problem, truth in enumerate(scene.truth)
    ]


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
