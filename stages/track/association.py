"""The fitted association model: how a feature that is seen at one layer is seen at the next, or the one after.

Layers are scans and active latents are detections. All of the model is estimated from scans of held-out text, without
labels and without knowing which latents are the same feature. What tells them is co-activation: neighbouring latents
(mutually nearest among the active) that are active in the *same* token, in excess of those that are neighbours when the
later layer's scan is taken from *another* token. Whatever links by direction alone is in both counts and cancels, so that
SAEs without shared features give an excess of nearly nothing, and links that the model thinks improbable.

With h(c) and h'(c) the numbers of such pairs of cosine c, in the same and in another token, and n(c) that of all
neighbours of active latents, active or not:

    T(c) = (h - h') / (1 - h'/n)      P(true | c) = T / h      p1(c) ∝ T      p0(c): random pairs, by firing rates

P(true | c) and p1/p0 do not fall as the cosine rises (isotonic regression).

A pair that is there by chance is as alike as a true one, but its activation changes as if dealt anew. With true changes of
log-activation normal, and a chance pair's later log-activation y as that of all detections, expectation and maximisation
(Dempster, Laird and Rubin 1977), begun at T / h, give mean and variance of true changes, P(true | c), and of every pair

    P(true | c, change) = P N(change; mean, variance) / (P N(change; mean, variance) + (1 - P) N(y; all detections))

Were pairs weighted by P(true | c) alone, chance would count as births, deaths and noise, and links claim more than they are.
What comes from nowhere goes on less often than what comes from somewhere: along the layers the odds of a pair are those of its
source to be a feature and seen again, beside all sources; births, survival and detection are estimated with them. A birth is
another feature than those that are there: where latents of cosine c are one feature with probability P(same | c), p0 is the
density of random pairs times 1 - P(same | c) births / (births + clutter).

Instead of the cosine the causal share may be compared: how much of the later latent's activation the residual stream carries
there from the earlier, a_i g_ij / a_j with the gain g_ij = (d_i / s_l) · (s_l' w_j). Its likeness is share or 1/share, whichever
is less than one, 1 where all is carried; nothing is assumed about how the densities run over it, they are smoothed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ghosttrack.common.errors import DataError, NumericError
from ghosttrack.common.foreign import whole
from ghosttrack.common.maths.arrays import Bools, Floats, Ints, Singles
from ghosttrack.stages.track.neighbours import Neighbours, active_pairs, nearest_latents, take

FORMAT = "ghosttrack.association"
VERSION = 2

GAPS = (1, 2)
"""A track may go unseen at one layer."""
BINS = 100
"""Of the cosine, over [-1, 1]."""
DENSE = 0.3
"""Firing rate above which a latent takes no part in the estimates: that it is active twice proves nothing."""
ROUNDS = 20
"""Of expectation and maximisation."""
LEAST_VARIANCE = 1e-3
"""Of log-activation: 3 %, well below what two layers differ by."""
MOST_CERTAIN = 0.999
"""Largest probability of detection and of survival, so that a missed detection is never impossible."""
CERTAIN = 1 - MOST_CERTAIN, MOST_CERTAIN

SMOOTHING = 2.0
"""Bins, of the densities of causal shares."""


@dataclass(eq=False)
class Scans:
    """The strongest active latents of each layer, a problem being one position of one text.

    latents: int64 [n_problems, n_layers, k]; activations: float32 [n_problems, n_layers, k], falling, 0 where fewer
    than k latents are active; level: float64, their logarithm, 0 where inactive.
    """

    latents: Ints
    activations: Singles
    active: Bools = field(init=False)
    level: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.active = self.activations > 0
        self.level = np.log(self.activations, where=self.active, out=np.zeros(self.active.shape))

    def of(self, problems: slice | Bools | Ints) -> "Scans":
        return Scans(self.latents[problems], self.activations[problems])


@dataclass
class Association:
    """What `fit` found. `l` numbers the tracked layers from 0; a row l of a pair is for layer l to l + gap.

    Probabilities are of a feature that exists; activations enter by their natural logarithm.
    """

    layers: list[int]
    """The model's layers that are tracked."""
    neighbours: dict[int, list[Neighbours]]
    """By gap: a table a pair of layers."""
    log_ratio: dict[int, Tensor]
    """By gap: log p1(c)/p0(c), float64 [n_pairs, BINS]."""
    survival: Tensor
    """Probability that a feature of layer l is still there at l + 1: [n_layers - 1]"""
    detection: Tensor
    """Logistic regression of being there *and* among the k strongest at l + 1 on the log-activation at l: intercept and
    slope, [n_layers - 1, 2]"""
    drift: Tensor
    """Mean change of log-activation from l to l + 1: [n_layers - 1]"""
    change_variance: Tensor
    """Variance of that change, measurement noise taken off: [n_layers - 1]"""
    noise_variance: Tensor
    """Of a measured log-activation about the feature's own: []"""
    level_mean: Tensor
    """Mean log-activation of all detections: [n_layers]"""
    level_variance: Tensor
    """[n_layers]"""
    births: Tensor
    """Expected number of features that begin at a layer and last, a scan: [n_layers]"""
    clutter: Tensor
    """Expected number of detections that belong to no lasting feature, a scan: [n_layers]"""
    provenance: dict[str, Any]
    """Plain values: where the scans came from, how many, the seed."""
    kind: str = "cosine"
    """What likeness is of: "cosine" of decoder rows, or "causal": the tables' cosines are gains then."""
    scores: dict[int, list[Singles]] = field(init=False, repr=False, compare=False)
    """By gap and pair: log p1/p0 of every entry of the table, [d_before, n]."""
    widths: dict[int, list[Ints]] = field(init=False, repr=False, compare=False)
    """By gap and pair: how many neighbours of each latent have a positive score, or a positive gain: the gate, [d_before]."""

    def __post_init__(self) -> None:
        middles = _bin_middles()
        self.scores = {
            gap: [
                np.interp(table.cosines.numpy(), middles, row.numpy()).astype(np.float32)
                for table, row in zip(self.neighbours[gap], self.log_ratio[gap], strict=True)
            ]
            for gap in GAPS
        }
        gates = self.scores
        if self.kind == "causal":
            gates = {gap: [table.cosines.numpy() for table in self.neighbours[gap]] for gap in GAPS}
        self.widths = {gap: [(gate > 0).sum(1) for gate in gates[gap]] for gap in GAPS}

    def seen(self, pair: int, log_activation: NDArray[Any]) -> Floats:
        """Probability that a feature of this log-activation at layer `pair` is detected at the next."""
        intercept, slope = self.detection[pair].tolist()
        return np.minimum(
            1 / (1 + np.exp(-(intercept + slope * log_activation))), MOST_CERTAIN * float(self.survival[pair])
        )

    def likelihood_ratio(
        self, gap: int, pair: int, latent: Ints, place: Ints, change: Floats
    ) -> NDArray[np.floating[Any]]:
        """log p1/p0 of pairs that the table knows: [n]. latent: at layer `pair`; place: column of the table; change: of
        log-activation from it to the later latent."""
        if self.kind == "cosine":
            return self.scores[gap][pair][latent, place]
        gain = self.neighbours[gap][pair].cosines.numpy()[latent, place]
        return np.interp(_likeness(gain, change), _bin_middles(), self.log_ratio[gap][pair].numpy())

    def save(self, path: Path) -> None:
        """Write a plain dictionary that `torch.load(path, weights_only=True)` reads."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        content["neighbours"] = {
            gap: [tuple(table) for table in tables] for gap, tables in self.neighbours.items()
        }
        torch.save({"format": FORMAT, "version": VERSION, **content}, path)

    @classmethod
    def load(cls, path: Path) -> "Association":
        """Raises CorruptInputError for a file that is no association model of this version."""
        with whole(path, "run `ghosttrack run` to make it anew", f"{FORMAT} file of version {VERSION}"):
            content = torch.load(path, map_location="cpu", weights_only=True)
            if (content.pop("format"), content.pop("version")) != (FORMAT, VERSION):
                raise ValueError("another format or version")
            neighbours = {
                gap: [Neighbours(*table) for table in tables] for gap, tables in content["neighbours"].items()
            }
            return cls(**content | {"neighbours": neighbours})


class _Links(NamedTuple):
    """Mutually nearest pairs of one pair of layers, a value a pair, and how probably they are true."""

    problem: Ints
    before: Ints
    after: Ints
    true: Floats


class _Compared(NamedTuple):
    """A pair of layers: its table, by bin log p1/p0 of random pairs and P(same | c), [BINS], and the pairs of the same token."""

    table: Neighbours
    ratio: Floats
    same: Floats
    links: _Links


def fit(
    scans: Scans,
    decoders: Sequence[Tensor],
    layers: Sequence[int],
    seed: int,
    provenance: dict[str, Any] | None = None,
    gains: Sequence[tuple[Tensor, Tensor]] | None = None,
    each: Callable[[Callable[[int], _Compared], Sequence[int]], Iterable[_Compared]] = map,
) -> Association:
    """The association model of these SAEs.

    scans: of held-out text, one a token; decoders: a layer's [d_hidden, d_model] with unit rows, widths d_hidden may
    differ; layers: the model's numbers of them. provenance: plain values to be kept with it. gains: of each layer what a latent
    writes to the stream and what it reads from it, [d_hidden, d_model] each, for causal likeness instead of cosines. each: `map`,
    or what does as much by processes.
    Raises DataError for fewer than two scans, NumericError for activations that are not finite.
    """
    n_scans, n_layers, k = scans.latents.shape
    if n_scans < 2:
        raise DataError("the association model needs scans of at least two tokens of held-out text")
    if not np.isfinite(scans.activations).all():
        raise NumericError("activations of the held-out text hold NaN or Inf; train the SAEs again")
    other = np.random.default_rng(seed).permutation(n_scans)
    rates = [_firing_rates(scans, layer, len(decoder)) for layer, decoder in enumerate(decoders)]
    pairs = [(gap, layer) for gap in GAPS for layer in range(n_layers - gap)]

    def compare(number: int) -> _Compared:
        gap, layer = pairs[number]
        later = layer + gap
        before, after = (
            (decoders[layer], decoders[later]) if gains is None else (gains[layer][0], gains[later][1])
        )
        two = _TwoLayers(scans, nearest_latents(before, after), layer, later, other,
                         (rates[layer], rates[later]), gains is not None)  # fmt: skip
        return _Compared(two.table, *(two.compare_shares() if two.causal else two.compare()))

    found = [*each(compare, range(len(pairs)))]
    of = {gap: [one for one, (own, _) in zip(found, pairs, strict=True) if own == gap] for gap in GAPS}
    dynamics = _dynamics(scans, {gap: [one.links for one in of[gap]] for gap in GAPS})
    new = (dynamics["births"] / (dynamics["births"] + dynamics["clutter"])).numpy()[:, None]
    ratio_of = {
        gap: np.array([one.ratio for one in of[gap]]) - np.log1p(-np.array([one.same for one in of[gap]]) * new[gap:])
        for gap in GAPS
    }  # fmt: skip
    return Association(
        layers=list(layers),
        neighbours={gap: [one.table for one in of[gap]] for gap in GAPS},
        log_ratio={gap: torch.from_numpy(rows.reshape(-1, BINS)) for gap, rows in ratio_of.items()},
        **dynamics,
        provenance={"scans": n_scans, "k": k, "seed": seed, **(provenance or {})},
        kind="cosine" if gains is None else "causal",
    )


class _Likely(NamedTuple):
    """Pairs of active latents of two layers: problem, ranks before and after, and how alike: the cosine, or the likeness of
    gains."""

    problem: Ints
    before: Ints
    after: Ints
    likeness: Floats


@dataclass(frozen=True)
class _TwoLayers:
    """The scans of two layers, and their table. other: of each scan the token that it is beside by chance; rates: firing
    rates at the two layers; causal: the table has gains."""

    scans: Scans
    table: Neighbours
    layer: int
    later: int
    other: Ints
    rates: tuple[Floats, Floats]
    causal: bool

    def compare(self) -> tuple[Floats, Floats, _Links]:
        """By bin of the cosine, [BINS], log p1/p0 of random pairs, and P(same | c); and the pairs of the same token."""
        chance, together, pairs = self._counted()
        ids, cosines = self.table.ids.numpy(), self.table.cosines.numpy()
        rate, rate_after = (np.where(rate <= DENSE, rate, 0) for rate in self.rates)
        occurring = np.repeat(rate, ids.shape[1]) * len(self.other)
        tries = np.bincount(_bins(cosines.ravel()), weights=occurring, minlength=BINS)
        # A feature that goes on leaves no room for chance: of h, h' (1 - h/n) are chance, n being all pairs that might be.
        excess = (together - chance) / np.maximum(1 - chance / np.maximum(tries, 1), 0.5)
        true, told = self._told_apart(
            pairs, np.clip(_rising(excess / np.maximum(together, 1), together), 0, 1)
        )
        excess = true * together
        random = np.bincount(
            _bins(cosines.ravel()), weights=(rate[:, None] * rate_after[ids]).ravel(), minlength=BINS
        ) / max(rate.sum() * rate_after.sum(), 1e-300)
        # Half a pair more everywhere: a bin that no random pair is in does not make a link certain.
        random += 0.5 / (len(self.other) * max(rate.sum() * rate_after.sum(), 1))
        ratio = _rising((excess + 0.5 / BINS) / (excess.sum() + 0.5) / random, random)
        # Of the latents that are one feature as many go on as of all that are active.
        going = excess.sum() / max(rate.sum() * len(self.other), 1)
        same = np.clip(
            _rising(excess / np.maximum(tries * going, 1e-9), np.asarray(tries, dtype=np.float64)), 0, 1
        )
        return np.log(ratio), same, _Links(*pairs[:3], told)

    def _told_apart(self, pairs: _Likely, counted: Floats) -> tuple[Floats, Floats]:
        """P(true | c) by bin, [BINS], no more than what was counted, and of every pair P(true | c, change)."""
        level = self.scans.level[pairs.problem, self.later, pairs.after]
        change = level - self.scans.level[pairs.problem, self.layer, pairs.before]
        place, number = _bins(pairs.likeness), _histogram(pairs.likeness)
        true, told = counted, counted[place]
        if told.sum() < 1:
            return true, told  # nothing to learn from
        everything = self.scans.level[:, self.later][self.scans.active[:, self.later]]
        chance = _normal(level, everything, np.ones(len(everything)))
        for _ in range(ROUNDS):
            grown = true[place] * _normal(change, change, told)
            told = grown / np.maximum(grown + (1 - true[place]) * chance, 1e-300)
            share = np.bincount(place, told, minlength=BINS) / np.maximum(number, 1)
            true = np.minimum(counted, _rising(share, number))
        return true, told

    def compare_shares(self) -> tuple[Floats, Floats, _Links]:
        """`compare` by causal shares. p0 is of all pairs of the table whose later latent is of another token."""
        *counts, pairs = self._counted()
        chance, together = (gaussian_filter1d(count, SMOOTHING, mode="nearest") for count in counts)
        true = np.clip((together - chance) / np.maximum(together, 1), 0, 1)
        excess = true * together
        apart = self._known_pairs(self.other).likeness
        active = self.scans.active
        n_pairs = float((active[:, self.layer].sum(1) * active[self.other, self.later].sum(1)).sum())
        random = gaussian_filter1d(_histogram(apart), SMOOTHING, mode="nearest")
        random = (random + 0.5) / max(n_pairs, 1.0)
        ratio = (excess + 0.5 / BINS) / (excess.sum() + 0.5) / random
        return np.log(ratio), np.zeros(BINS), _Links(*pairs[:3], true[_bins(pairs.likeness)])

    def _counted(self) -> tuple[Floats, Floats, _Likely]:
        """Mutually nearest pairs of latents that are not dense, by bin, [BINS]: in another token and in the same one; and all
        of the same one."""
        counts = []
        for order in (self.other, np.arange(len(self.other))):
            pairs = self._mutual(order)
            latents = self.scans.latents
            sparse = (self.rates[0][latents[pairs.problem, self.layer, pairs.before]] <= DENSE) & (
                self.rates[1][latents[order[pairs.problem], self.later, pairs.after]] <= DENSE
            )
            counts.append(_histogram(pairs.likeness[sparse]))
        return counts[0], counts[1], pairs

    def _known_pairs(self, order: Ints) -> _Likely:
        """Active pairs that the table knows; the later scans are taken in `order`."""
        scans, layer, later = self.scans, self.layer, self.later
        every = np.full(len(self.table.ids), self.table.ids.shape[1])
        problem, before = np.nonzero(scans.active[:, layer])
        latent = scans.latents[problem, layer, before]
        pairs = active_pairs(
            self.table, every, problem, latent, scans.latents[order, later], scans.active[order, later]
        )
        value = self.table.cosines.numpy()[latent[pairs.earlier], pairs.place].astype(np.float64)
        found = _Likely(problem[pairs.earlier], before[pairs.earlier], pairs.after, value)
        if not self.causal:
            return found
        found = take(found, value > 0)
        change = scans.level[order[found.problem], later, found.after]
        change = change - scans.level[found.problem, layer, found.before]
        return found._replace(likeness=_likeness(found.likeness, change))

    def _mutual(self, order: Ints) -> _Likely:
        """Of `_known_pairs` those that are each other's best among the active."""
        found, k = self._known_pairs(order), self.scans.latents.shape[2]
        best = np.ones(len(found.likeness), dtype=bool)
        for rank in (found.before, found.after):
            key = found.problem * k + rank
            highest = np.full(len(self.scans.latents) * k, -np.inf)
            np.maximum.at(highest, key, found.likeness)
            among = np.flatnonzero(found.likeness == highest[key])
            first = np.full(len(highest), len(key))
            np.minimum.at(first, key[among], among)  # of equals the first
            best &= first[key] == np.arange(len(key))
        return take(found, best)


def _likeness(gain: NDArray[Any], change: Floats) -> Floats:
    """Share or 1/share, whichever is less than 1, of what is carried in the later activation. change: log a_j - log a_i."""
    return np.exp(-np.abs(np.log(np.maximum(gain, 1e-6)) - change))


def _dynamics(scans: Scans, links: dict[int, list[_Links]]) -> dict[str, Tensor]:
    """Everything but the cosines."""
    here, level = scans.active.transpose(1, 0, 2), scans.level.transpose(1, 0, 2)
    n_layers = len(level)
    onward, comes, exists, links, births, clutter = _chained(here, links)

    drift, spread = _changes(level, links[1])
    spread_over_two = _changes(level, links[2])[1]
    # Noise is in the change over two layers twice, in the two changes over one layer four times.
    doubled = spread[:-1] + spread[1:] - spread_over_two
    noise = max(float(np.mean(doubled)) / 2, LEAST_VARIANCE) if len(doubled) else LEAST_VARIANCE

    detection, survival = np.zeros((n_layers - 1, 2)), np.ones(n_layers - 1)
    seen = onward.sum((1, 2)) / np.maximum(exists.sum((1, 2)), 1)
    for layer in range(n_layers - 1):
        weight = exists[layer][here[layer]]
        detection[layer] = _logistic(
            level[layer][here[layer]], onward[layer][here[layer]] / np.maximum(weight, 1e-12), weight
        )
        if layer < n_layers - 2:
            pair = links[2][layer]
            later = (1 - onward[layer][pair.problem, pair.before]) * pair.true
            later *= 1 - comes[layer + 2][pair.problem, pair.after]
            # Of those that are there unseen as many are seen at the layer after as of those that are seen.
            unseen = later.sum() / max(weight.sum(), 1) / max(seen[layer + 1], 1e-9)
            survival[layer] = np.clip(seen[layer] + unseen, *CERTAIN)
        elif layer:
            survival[layer] = survival[layer - 1]
    if n_layers > 2:  # at the first layer it cannot be told which detections are features that exist already
        detection[0], survival[0] = detection[1], survival[1]

    levels = [values[mask] if mask.any() else np.zeros(1) for values, mask in zip(level, here, strict=True)]
    arrays = {
        "survival": survival,
        "detection": detection,
        "drift": drift,
        "change_variance": np.maximum(spread - 2 * noise, LEAST_VARIANCE),
        "noise_variance": np.array(noise),
        "level_mean": np.array([values.mean() for values in levels]),
        "level_variance": np.array([max(values.var(), LEAST_VARIANCE) for values in levels]),
        "births": births,
        "clutter": clutter,
    }
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _chained(
    here: Bools, links: dict[int, list[_Links]]
) -> tuple[Floats, Floats, Floats, dict[int, list[_Links]], Floats, Floats]:
    """Probability that a detection goes on to the next layer, comes from the one before, is of a feature by all that is known up
    to the next layer, [n_layers, n_scans, k] each; the links, true as probably as their sources allow; births and clutter."""
    n_layers, n_scans, _ = here.shape
    onward, comes, returns = np.zeros((3, *here.shape))
    exists, lasting = here.astype(np.float64), np.zeros(n_layers)
    told = {gap: list(links[gap]) for gap in GAPS}
    for layer, pair in enumerate(links[1]):
        known = 1 - (1 - comes[layer]) * (1 - returns[layer])
        new, place, true = here[layer] - known, (pair.problem, pair.before), pair.true
        seen, lasting[layer] = true.sum() / max(here[layer].sum(), 1), np.clip(true.sum(), *CERTAIN)
        learns = min(known.sum(), true.sum()) >= 1  # at the first layer all comes from nowhere
        if learns:
            seen, lasting[layer] = 0.9, 0.5
            for _ in range(ROUNDS):
                before = known + new * lasting[layer]
                true = _from_sources(pair, before * seen, here[layer])
                after = before * (1 - seen) / (1 - before * seen)
                after[place] = true + (1 - true) * after[place]
                seen = np.clip(true.sum() / after.sum(), *CERTAIN)
                lasts = (new / np.maximum(before, 1e-300) * after).sum() * lasting[layer]
                lasting[layer] = np.clip(lasts / max(new.sum(), 1e-9), *CERTAIN)
            exists[layer] = after
        onward[layer][place] = comes[layer + 1][pair.problem, pair.after] = true
        told[1][layer] = pair._replace(true=true)
        if layer < 2:  # features of the first layer are seen again as often as those of the second
            lasting[0] = np.clip(onward[0].sum() / max(here[0].sum(), 1) / max(seen, 1e-9), *CERTAIN)
        if layer < n_layers - 2:
            pair = links[2][layer]
            true = _from_sources(pair, after * seen, here[layer]) if learns else pair.true
            returns[layer + 2][pair.problem, pair.after] = true
            told[2][layer] = pair._replace(true=true)
    if n_layers > 1:
        lasting[-1] = lasting[-2]
    number = np.maximum((here * (1 - comes) * (1 - returns)).sum((1, 2)), 1) / n_scans
    return onward, comes, exists, told, number * lasting, number * (1 - lasting)


def _from_sources(pair: _Links, going: Floats, here: Bools) -> Floats:
    """P(true) of pairs, [n], whose sources go on with these probabilities, [n_scans, k], and not all with their mean."""
    one, mean = going[pair.problem, pair.before], going[here].mean()
    ratio = one / (1 - one) * (1 - mean) / mean
    return pair.true * ratio / np.maximum(pair.true * ratio + 1 - pair.true, 1e-300)


def _changes(level: Floats, links: list[_Links]) -> tuple[Floats, Floats]:
    """Mean and variance of the change of log-activation over true links, a value a pair of layers."""
    mean, variance = np.zeros(len(links)), np.ones(len(links))
    for layer, pair in enumerate(links):
        if pair.true.sum() < 1:
            continue  # nothing to learn from, and no link will be made by it
        gap = len(level) - len(links)
        change = level[layer + gap][pair.problem, pair.after] - level[layer][pair.problem, pair.before]
        mean[layer] = np.average(change, weights=pair.true)
        variance[layer] = np.average((change - mean[layer]) ** 2, weights=pair.true)
    return mean, np.maximum(variance, LEAST_VARIANCE)


def _normal(values: Floats, fitted_to: Floats, weights: Floats) -> Floats:
    """Density of the normal distribution that has the moments of a weighted sample."""
    mean = np.average(fitted_to, weights=weights)
    variance = max(float(np.average((fitted_to - mean) ** 2, weights=weights)), LEAST_VARIANCE)
    return np.exp(-0.5 * (values - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def _logistic(level: Floats, outcome: Floats, weight: Floats) -> Floats:
    """Intercept and slope of a weighted logistic regression of probabilities `outcome` on `level`."""
    centre = float(level.mean()) if len(level) else 0.0
    # One observation of each kind at the mean, so that an estimate exists where none of a kind was seen.
    x = np.concatenate([level, level, [centre, centre]])
    y = np.repeat([1, 0, 1, 0], [len(level), len(level), 1, 1])
    weights = np.concatenate([weight * outcome, weight * (1 - outcome), [0.5, 0.5]])
    model = LogisticRegression(C=1e3).fit(x[:, None] - centre, y, sample_weight=weights)
    slope = float(model.coef_[0, 0])
    return np.array([float(model.intercept_[0]) - slope * centre, slope])


def _firing_rates(scans: Scans, layer: int, d_hidden: int) -> Floats:
    latents = scans.latents[:, layer][scans.active[:, layer]]
    return np.bincount(latents, minlength=d_hidden).astype(np.float64) / len(scans.latents)


def _rising(values: Floats, weights: Floats) -> Floats:
    """The nearest sequence, by weighted squares, that does not fall."""
    return np.array(isotonic_regression(values, sample_weight=weights + 1e-12), dtype=np.float64)


def _bins(cosine: NDArray[Any]) -> Ints:
    return np.clip(((cosine + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)


def _histogram(likeness: Floats) -> Floats:
    return np.bincount(_bins(likeness), minlength=BINS).astype(np.float64)


def _bin_middles() -> Floats:
    return np.linspace(-1 + 1 / BINS, 1 - 1 / BINS, BINS)
