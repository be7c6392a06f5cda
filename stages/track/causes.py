"""Which tracks an answer hangs on: effects predicted to first order, controls of the same size, and what was measured.

Taking a track out over its life sets each of its latents to zero where it is seen. A latent that the residual stream carried
on from the ones before is partly gone already when its turn comes, or silent; only what is then left is taken. That, times
the gradient of the logit difference along its decoder row, summed over the track, is the predicted effect.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.common.models.interventions import Edit
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track.nodes import Nodes

SET_SIZES = (1, 2, 4, 8, 16, 32, 64)
BOOTSTRAP = 500


class Effects(NamedTuple):
    """Of every track at some problems, a value a track: problem, number, predicted drop."""

    problem: Ints
    number: Ints
    predicted: Floats

    def strongest(self, count: int) -> Ints:
        """Those that would lower the answer most if they went, the most first; only such that would lower it."""
        order = np.argsort(-self.predicted, kind="stable")
        return order[self.predicted[order] > 0][:count]


def track_effects(
    nodes: Nodes, gradient: Tensor, saes: Sequence[JumpReLUSAE], units: Sequence[Tensor | float]
) -> Effects:
    """How far a logit difference would drop without each track, to first order (see the module's head), in logits.

    gradient: [n_layers, n, d_model], of the difference by the state of each problem at each layer; units: of each layer the
    unit of its SAE's thresholds at each problem ([n, 1] or 1), which is held.
    """
    problem, number = nodes.where[0], nodes.track[nodes.where]
    code, owner = np.unique((problem * (1 << 32) + number).numpy(), return_inverse=True)
    track = torch.full(nodes.track.shape, -1)
    track[nodes.where] = torch.from_numpy(owner.ravel())
    predicted = torch.zeros(len(code))
    for slopes, (row, _, own, _, change) in zip(gradient, _taken(nodes, track, saes, units), strict=True):
        predicted[own] += (change * slopes[row]).sum(1)
    return Effects(code >> 32, code & ((1 << 32) - 1), predicted.double().numpy())


def _taken(
    nodes: Nodes,
    group: Tensor,
    saes: Sequence[JumpReLUSAE],
    units: Sequence[Tensor | float],
    factor: float = 0.0,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Layer by layer, what goes from the stream when groups of nodes are taken out, or all but `factor` of their activations, to
    first order: rows and ranks of the layer's nodes [m], their groups [m], activation that goes [m], change of the state
    [m, d_model] with its sign turned. group: by node, -1 for what stays."""
    gone = torch.zeros(int(group.max()) + 1, saes[0].d_model)
    for place, (sae, unit) in enumerate(zip(saes, units, strict=True)):
        row, rank = (group[:, place] >= 0).nonzero(as_tuple=True)
        own, latent, activation = (each[row, place, rank] for each in (group, *nodes.active))
        left = activation - sae.scale * (gone[own] * sae.W_enc.T[latent]).sum(1)
        taken = left * (left > (unit[row, 0] if isinstance(unit, Tensor) else unit) * sae.threshold[latent])
        taken = taken - factor * activation
        change = taken[:, None] * sae.W_dec[latent] / sae.scale
        gone.index_add_(0, own, change)
        yield row, rank, own, taken, change


Node = tuple[int, int, int]
"""Problem, place of the layer, and rank there."""


def nodes_of(nodes: Nodes, tracks: Sequence[tuple[int, int]], *, at_birth: bool = False) -> list[Node]:
    """All nodes of tracks (problem and number of each), or the first of each."""
    return [
        (problem, place, rank)
        for problem, number in tracks
        for place, rank in (nodes.track[problem] == number).nonzero().tolist()[: 1 if at_birth else None]
    ]


def edits_of(
    nodes: Nodes, layers: Sequence[int], places: Sequence[int], left: Iterable[tuple[Node, float]]
) -> list[Edit]:
    """Edits that leave so much of nodes' activations. places: token of each problem."""
    return [Edit(layers[at[1]], places[at[0]], int(nodes.active.latents[at]), value) for at, value in left]


def controls_of(
    nodes: Nodes,
    chosen: Sequence[Node],
    saes: Sequence[JumpReLUSAE],
    units: Sequence[Tensor | float],
    factor: float = 0.0,
) -> list[tuple[Node, float]]:
    """For every node another one at its place, of the nearest activation, and the activation that is left of it where as much
    goes as of the node itself, to first order: none of those nodes' tracks, and each once. What the stream carried on from a
    track's earlier nodes is gone already when a later one's turn comes; of other latents, whole, far more would go."""
    activations = nodes.active.activations
    free, group = activations > 0, torch.full(nodes.track.shape, -1)
    for at in chosen:
        free[at[0]] &= nodes.track[at[0]] != nodes.track[at]
        group[at] = at[0]
    size, found = activations.clamp(min=1e-12).log(), dict[Node, tuple[Node, float]]()
    for place, (row, rank, _, taken, _) in enumerate(_taken(nodes, group, saes, units, factor)):
        for problem, own, goes in zip(row.tolist(), rank.tolist(), taken.tolist(), strict=True):
            distance = torch.where(
                free[problem, place], (size[problem, place] - size[problem, place, own]).abs(), torch.inf
            )
            nearest = int(distance.argmin())
            if goes and free[problem, place, nearest]:
                free[problem, place, nearest] = False
                left = max(0.0, float(activations[problem, place, nearest]) - goes)
                found[problem, place, own] = (problem, place, nearest), left
    return [found[at] for at in sorted(found)]


class Agreement(NamedTuple):
    """Of measured drops with predicted ones: least-squares slope, Spearman's rank correlation, each with its 95 % interval
    by a bootstrap of questions; n: interventions."""

    slope: float
    slope_interval: tuple[float, float]
    rank_correlation: float
    rank_interval: tuple[float, float]
    n: int


def agreement(predicted: Floats, drop: Floats, question: Ints, seed: int) -> Agreement | None:
    """None for fewer than three questions."""
    numbers, owner = np.unique(question, return_inverse=True)
    if len(numbers) < 3 or np.ptp(predicted) == 0:
        return None
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(BOOTSTRAP, len(numbers)))
    times = np.stack([np.bincount(row, minlength=len(numbers)) for row in drawn])[:, owner].astype(np.float64)
    slopes, ranks = _figures(predicted, drop, times)
    defined = np.isfinite(slopes) & np.isfinite(ranks)
    low, high = np.percentile(np.stack([slopes, ranks], axis=1)[defined], [2.5, 97.5], axis=0)
    [slope], [rank] = _figures(predicted, drop, np.ones((1, len(drop))))
    return Agreement(float(slope), (low[0], high[0]), float(rank), (low[1], high[1]), len(drop))


def agreement_of(table: Mapping[str, NDArray[Any]], rows: Bools, seed: int) -> Agreement | None:
    """`agreement` of these rows of causes.parquet."""
    predicted, drop = (table[name][rows].astype(np.float64) for name in ("predicted", "drop"))
    return agreement(predicted, drop, table["question"][rows], seed)


def share(flags: Bools) -> tuple[float, float, float] | None:
    """A share with its 95 % interval (Wilson); None of nothing."""
    if not len(flags):
        return None
    low, high = stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    return float(flags.mean()), float(low), float(high)


def _figures(predicted: Floats, drop: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Slope and rank correlation where each pair counts so many times: [B] each, NaN where one side does not vary. times: [B, n]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        variance, _, covariance = _moments(predicted[None], drop[None], times)
        slope = covariance / variance
        variance, other, covariance = _moments(_ranks(predicted, times), _ranks(drop, times), times)
        return slope, covariance / np.sqrt(variance * other)


def _moments(x: Floats, y: Floats, times: Floats) -> tuple[Floats, ...]:
    """Var x, var y and their covariance, [B] each."""
    count = times.sum(1)
    x, y = (values - ((times * values).sum(1) / count)[:, None] for values in (x, y))
    return tuple((times * product).sum(1) / count for product in (x * x, y * y, x * y))


def _ranks(values: Floats, times: Floats) -> Floats:
    """Rank of each value, equal ones in the middle, where each is there so many times: [B, n]."""
    _, first, place = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    each = np.add.reduceat(times[:, order], first, axis=1)
    found = np.empty_like(times)
    found[:, order] = (each.cumsum(1) - (each - 1) / 2)[:, place]
    return found
