"""How the tracks of an answer behave, as numbers: one feature vector a question.

Eight families (`FAMILIES`) are measured on each cell, that is on one token position of one question, at four places:
the last subject token, the last prompt token, the first and the last answer token. The input is the table of track
nodes and nothing else: no text, label or gold answer can reach a feature.

Series over layers are summarised by their mean in the early, middle and late third of the layers. All of it is
counting and sorting on flat arrays, linear in the number of nodes; questions are independent of each other, so that a
long table can be worked through in pieces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.formats.cells import cell_of
from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.stages.detect.evidence import PLACES, FeatureTable, place_rows

Numbers = NDArray[Any]


def question_features(
    columns: Mapping[str, Numbers], n_questions: int, layers: list[int], rung: str | None = None
) -> FeatureTable:
    """Features of questions 0…n_questions−1, of nodes as the association `rung` links them (`<rung>_track`, `<rung>_link`).

    columns: of tracks.parquet, with `rung` those of ladder.parquet too, rows in any order within a position. layers: the
    blocks that were tracked, ascending; nodes may be of these only.
    Raises NumericError for activations, cosines or effects that are not finite, CorruptInputError for other layers.
    """
    cells = Cells.of(columns, layers, "" if rung is None else f"{rung}_")
    values, names = cell_features(cells)
    rows = place_rows(cells.question, cells.position, n_questions)
    return FeatureTable(
        np.where(rows[..., None] >= 0, values[rows], np.nan).reshape(n_questions, -1),
        [f"tracks.{place}.{name}" for place in PLACES for name in names],
    )


@dataclass(frozen=True)
class Cells:
    """Track nodes arranged by cell (question × position) and layer, with the sums that several families share.

    Arrays of shape [n_cells, n_layers] count or add up the nodes of one cell in one layer.
    """

    question: Ints  # [n_cells]
    position: Ints  # [n_cells]
    n_layers: int
    slot: Ints  # [n_nodes] cell · n_layers + layer index
    layer: Ints  # [n_nodes] layer index, 0…n_layers−1
    activation: Floats  # [n_nodes]
    link: Floats  # [n_nodes]
    effect: Floats  # [n_nodes]
    track: Ints  # [n_nodes] number of the track, unique over all cells
    track_cell: Ints  # [n_tracks]

    @classmethod
    def of(cls, columns: Mapping[str, Numbers], layers: list[int], linked: str) -> "Cells":
        """Sorts nodes by cell, track and layer, checks their numbers and arranges them. linked: before `track` and `link`."""
        known = np.asarray(layers, dtype=np.int64)
        track, depth = columns[f"{linked}track"].astype(np.int64), columns["layer"].astype(np.int64)
        cell = cell_of(columns["question"], columns["position"])
        order = np.argsort((cell * (track.max(initial=0) + 1) + track) * (depth.max(initial=0) + 1) + depth)
        cell, track, depth = cell[order], track[order], depth[order]
        if len(unknown := depth[~np.isin(depth, known)]):
            raise CorruptInputError(
                f"tracks hold layer {unknown[0]}, which is not among the configured layers {layers}; run track again"
            )
        question = columns["question"].astype(np.int64)[order]
        names = ("activation", f"{linked}link", "effect")
        activation, link, effect = (columns[name].astype(np.float64)[order] for name in names)
        for name, bad in (
            ("activation", ~np.isfinite(activation)),
            ("link", np.isinf(link)),
            ("effect", ~np.isfinite(effect)),
        ):
            if bad.any():
                of = question[np.argmax(bad)]
                raise NumericError(f"a track's {name} of question {of} is not finite; run track again")
        new_cell = _changes(cell)
        new_track = new_cell | _changes(track)
        number, layer = np.cumsum(new_cell) - 1, np.searchsorted(known, depth)
        return cls(
            question=question[new_cell],
            position=columns["position"].astype(np.int64)[order][new_cell],
            n_layers=len(known),
            slot=number * len(known) + layer,
            layer=layer,
            activation=activation,
            link=link,
            effect=effect,
            track=np.cumsum(new_track) - 1,
            track_cell=number[new_track],
        )

    @property
    def n_cells(self) -> int:
        return len(self.question)

    def sums(self, weights: Floats | None = None, rows: Bools | None = None) -> Floats:
        """Sum of `weights` (or count of nodes) by cell and layer, over the nodes `rows`; [n_cells, n_layers]."""
        slot = self.slot if rows is None else self.slot[rows]
        chosen = weights if weights is None or rows is None else weights[rows]
        flat = np.bincount(slot, chosen, minlength=self.n_cells * self.n_layers)
        return flat.reshape(self.n_cells, self.n_layers).astype(np.float64)

    @cached_property
    def born(self) -> Bools:
        """[n_nodes] first node of its track."""
        return _changes(self.track)

    @cached_property
    def ended(self) -> Bools:
        """[n_nodes] last node of its track."""
        return np.append(self.born[1:], True)[: len(self.track)]

    @cached_property
    def alive(self) -> Floats:
        return self.sums()

    @cached_property
    def mass(self) -> Floats:
        """Total activation by cell and layer."""
        return self.sums(self.activation)

    @cached_property
    def by_strength(self) -> Ints:
        """[n_nodes] node numbers by cell and layer, strongest first; equal ones in the order of their tracks."""
        strength = self.activation.astype(np.float32).view(np.uint32).astype(np.uint64)
        key = (self.slot.astype(np.uint64) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - strength)
        return np.argsort(key, kind="stable")

    @cached_property
    def rank(self) -> Ints:
        """[n_nodes] place of each node of `by_strength` in its cell and layer, 0 the strongest."""
        slot = self.slot[self.by_strength]
        starts = np.cumsum(self.alive.ravel()) - self.alive.ravel()
        return np.arange(len(slot)) - starts[slot].astype(np.int64)

    def at_rank(self, values: Numbers, rank: int, missing: float) -> Numbers:
        """The value of the node of this rank by cell and layer, [n_cells, n_layers]."""
        nodes = self.by_strength[self.rank == rank]
        out = np.full(self.n_cells * self.n_layers, missing, dtype=values.dtype)
        out[self.slot[nodes]] = values[nodes]
        return out.reshape(self.n_cells, self.n_layers)

    @cached_property
    def lengths(self) -> Ints:
        """[n_tracks] nodes a track."""
        return np.bincount(self.track, minlength=len(self.track_cell))

    def thirds(self, name: str, values: Floats, where: Bools) -> dict[str, Floats]:
        """Mean over the layers of each third where `where` holds, 0 where it never does; [n_cells] each."""
        parts = np.array_split(np.arange(self.n_layers), 3)
        means = {}
        for part, columns in zip(("early", "middle", "late"), parts, strict=True):
            if len(columns):
                counts = where[:, columns].sum(axis=1)
                total = np.where(where[:, columns], values[:, columns], 0.0).sum(axis=1)
                means[f"{name}_{part}"] = _ratio(total, counts)
        return means

    def slope(self, values: Floats, where: Bools) -> Floats:
        """Least-squares slope over depth (0 first layer, 1 last) through the layers where `where` holds; [n_cells]."""
        depth = np.linspace(0.0, 1.0, self.n_layers)[None, :]
        count = where.sum(axis=1)
        centred = np.where(where, depth - _ratio((where * depth).sum(axis=1), count)[:, None], 0.0)
        return _ratio((centred * np.where(where, values, 0.0)).sum(axis=1), (centred**2).sum(axis=1))


def cell_features(cells: Cells) -> tuple[Floats, list[str]]:
    """All measures of every cell: [n_cells, n_measures] and names `<family>.<measure>`."""
    measured = {family: measure(cells) for family, measure in FAMILIES.items()}
    names = [f"{family}.{measure}" for family, measures in measured.items() for measure in measures]
    columns = [column for measures in measured.values() for column in measures.values()]
    return np.stack(columns, axis=1).astype(np.float64), names


def _entropy(cells: Cells) -> dict[str, Floats]:
    """Shannon entropy (nats) of the shares of activation, by layer."""
    a = cells.activation
    a_log_a = cells.sums(a * np.log(np.where(a > 0, a, 1.0)))
    some = cells.mass > 0
    entropy = np.where(some, np.log(np.where(some, cells.mass, 1.0)) - _ratio(a_log_a, cells.mass), 0.0)
    return {**cells.thirds("spread", entropy, some), "spread_slope": cells.slope(entropy, some)}


def _churn(cells: Cells) -> dict[str, Floats]:
    """Share of a layer's tracks that were born in it (not in the first) or die after it (not in the last)."""
    inner = np.arange(cells.n_layers)
    some = cells.alive > 0
    births = _ratio(cells.sums(rows=cells.born), cells.alive)
    deaths = _ratio(cells.sums(rows=cells.ended), cells.alive)
    return {
        **cells.thirds("births", births, some & (inner > 0)),
        **cells.thirds("deaths", deaths, some & (inner < cells.n_layers - 1)),
    }


def _competition(cells: Cells) -> dict[str, Floats]:
    """Lead of the strongest track over the second, (a₁ − a₂) / a₁, and how steadily one track holds the lead."""
    some = cells.mass > 0
    first = cells.at_rank(cells.activation, 0, 0.0)
    margin = _ratio(first - cells.at_rank(cells.activation, 1, 0.0), first)
    leader = cells.at_rank(cells.track, 0, -1)
    changed = (leader[:, 1:] != leader[:, :-1]) & some[:, 1:] & some[:, :-1]
    final = leader[:, -1]
    final_length = np.append(cells.lengths, 0)[final]  # 0 where nobody leads
    return {
        **cells.thirds("margin", margin, some),
        "lead_changes": changed.mean(axis=1) if cells.n_layers > 1 else np.zeros(cells.n_cells),
        "longest_lead": _longest_run(changed | ~some[:, 1:]) / cells.n_layers,
        "final_leader_life": final_length / cells.n_layers,
    }


def _stability(cells: Cells) -> dict[str, Floats]:
    """Along links: decoder cosine and relative change of activation, by the layer that the link leads to."""
    linked = ~cells.born
    before = np.roll(cells.activation, 1)
    change = _ratio(np.abs(cells.activation - before), cells.activation + before)
    count = cells.sums(rows=linked)
    some = count > 0
    kept = _ratio(cells.sums(cells.activation, rows=~cells.ended), cells.mass)
    inner = np.arange(cells.n_layers) < cells.n_layers - 1
    return {
        **cells.thirds("cosine", _ratio(cells.sums(np.nan_to_num(cells.link), rows=linked), count), some),
        **cells.thirds("variation", _ratio(cells.sums(change, rows=linked), count), some),
        **cells.thirds("persistence", kept, (cells.mass > 0) & inner),
    }


def _dominance(cells: Cells) -> dict[str, Floats]:
    """Share of the strongest track and of the five strongest, and the Gini coefficient of the activations."""
    some = cells.mass > 0
    share = _ratio(cells.at_rank(cells.activation, 0, 0.0), cells.mass)
    slot, strongest = cells.slot[cells.by_strength], cells.activation[cells.by_strength]
    top = cells.rank < 5
    size = cells.n_cells * cells.n_layers
    top5 = np.bincount(slot[top], strongest[top], minlength=size).reshape(cells.mass.shape)
    by_rank = np.bincount(slot, strongest * cells.rank, minlength=size).reshape(cells.mass.shape)
    gini = 1 - _ratio(1.0, cells.alive) - 2 * _ratio(by_rank, cells.alive * cells.mass)
    return {
        **cells.thirds("top_share", share, some),
        **cells.thirds("top5_share", _ratio(top5, cells.mass), some),
        **cells.thirds("gini", gini, some),
    }


def _density(cells: Cells) -> dict[str, Floats]:
    """Tracks alive by layer, and the logarithm of their activation in all."""
    every = np.ones(cells.alive.shape, dtype=bool)
    return {
        **cells.thirds("alive", cells.alive, every),
        "alive_slope": cells.slope(cells.alive, every),
        **cells.thirds("log_mass", np.log1p(cells.mass), every),
    }


def _lifetime(cells: Cells) -> dict[str, Floats]:
    """Distribution of the tracks' lengths, in fractions of the depth."""
    cell, n = cells.track_cell, cells.n_cells
    length = cells.lengths / cells.n_layers
    mass = np.bincount(cells.track, cells.activation, minlength=len(cell))
    count = np.bincount(cell, minlength=n)
    mean = np.bincount(cell, length, minlength=n) / count
    square = np.bincount(cell, length**2, minlength=n) / count
    longest = np.zeros(n)
    np.maximum.at(longest, cell, length)
    return {
        "mean": mean,
        "spread": np.sqrt(np.maximum(square - mean**2, 0.0)),
        "weighted_mean": _ratio(
            np.bincount(cell, length * mass, minlength=n), np.bincount(cell, mass, minlength=n)
        ),
        "single_layer": np.bincount(cell, cells.lengths == 1, minlength=n) / count,
        "half_depth": np.bincount(cell, length >= 0.5, minlength=n) / count,
        "longest": longest,
    }


def _answers(cells: Cells) -> dict[str, Floats]:
    """Direct effects for the answer (positive) and against it, summed by layer and by track.

    A track's effect is the sum over its nodes. Long tracks live at least a quarter of the depth.
    """
    cell, n = cells.track_cell, cells.n_cells
    every = np.ones((n, cells.n_layers), dtype=bool)
    effect = np.bincount(cells.track, cells.effect, minlength=len(cell))
    birth = np.zeros(len(cell))
    birth[cells.track[cells.born]] = cells.layer[cells.born] / cells.n_layers
    length = cells.lengths / cells.n_layers
    pro, contra = np.maximum(effect, 0.0), np.maximum(-effect, 0.0)

    def total(weights: Floats) -> Floats:
        return np.bincount(cell, weights, minlength=n).astype(np.float64)

    best_pro, best_contra = np.zeros(n), np.zeros(n)
    np.maximum.at(best_pro, cell, pro)
    np.maximum.at(best_contra, cell, contra)
    size = total(np.abs(effect))
    share = _ratio(np.abs(effect), size[cell])
    long = length >= 0.25
    return {
        **cells.thirds("margin", cells.sums(cells.effect), every),
        **cells.thirds("conflict", cells.sums(np.abs(cells.effect)), every),
        "pro": total(pro),
        "contra": total(contra),
        "strongest_pro": best_pro,
        "strongest_contra": best_contra,
        "lead": best_pro - best_contra,
        "spread": -total(share * np.log(np.where(share > 0, share, 1.0))),
        "pro_life": _ratio(total(pro * length), total(pro)),
        "contra_life": _ratio(total(contra * length), total(contra)),
        "pro_birth": _ratio(total(pro * birth), total(pro)),
        "contra_birth": _ratio(total(contra * birth), total(contra)),
        "long_pro": total(pro * long),
        "long_contra": total(contra * long),
    }


FAMILIES: dict[str, Callable[[Cells], dict[str, Floats]]] = {
    "entropy": _entropy,
    "churn": _churn,
    "competition": _competition,
    "stability": _stability,
    "dominance": _dominance,
    "density": _density,
    "lifetime": _lifetime,
    "answers": _answers,
}


def _longest_run(broken: Bools) -> Ints:
    """Longest stretch of layers without a break; broken: [n_cells, n_layers − 1] break between neighbours."""
    run = np.ones(len(broken), dtype=np.int64)
    best = run.copy()
    for column in broken.T:
        run = np.where(column, 1, run + 1)
        best = np.maximum(best, run)
    return best


def _ratio(numerator: Numbers | float, denominator: Numbers) -> Floats:
    """numerator / denominator, 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def _changes(values: Numbers) -> Bools:
    """[n] whether a value differs from the one before; the first does."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]
