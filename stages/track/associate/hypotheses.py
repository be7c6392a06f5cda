"""Multi-hypothesis tracking: decisions that a scan leaves open are kept open until later scans have spoken.

A hypothesis says where each of some detections came from and which tracks are alive. Tracks that never contested a detection
are independent, so hypotheses are kept by *cluster* (Reid 1979): a scan joins the clusters that contest a detection, every
hypothesis is continued in its K best ways (Murty), the best KEPT children of a cluster stay, and what DEPTH scans back is
believed by the best one becomes final: hypotheses that disagree are dropped (N-scan pruning). A cluster with one
hypothesis left falls apart into its tracks.

`Tracks.discarded` of a scan bounds the probability of all that was dropped at it, of what had been kept until then: joint
hypotheses (by the scans before it), children beyond the best, those too improbable, and those that N-scan pruning ended (by
the scans up to it). What never was a candidate, by the gates, is not in it; nor is what later scans would have said.

All clusters of all problems are in the same flat tables and take each step together; only hypotheses in which more than one
pair is possible go through Murty's algorithm one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.track.associate.filter import (
    LEAST_EXISTENCE,
    Candidates,
    Living,
    after_a_miss,
    born,
    no_tracks,
    weigh,
)
from ghosttrack.stages.track.associate.murty import k_best
from ghosttrack.stages.track.associate.record import Tracks, empty_tracks, number_tracks
from ghosttrack.stages.track.association import Association, Scans
from ghosttrack.stages.track.neighbours import Table, ragged, take

KEPT = 5
"""Hypotheses of a cluster."""
LEAST_WEIGHT = 0.01
"""A hypothesis that a hundred to one speaks against is dropped at once."""
DEPTH = 2
"""Scans that a decision waits for. A track may be missed once, so two show whether it goes on."""


class Decisions(NamedTuple):
    """Where detections came from in a hypothesis, while it is not final; a value a hypothesis and detection.

    place, previous: detections as layer · k + rank, previous -1 for a birth. cosine of the link; existence: probability
    that the detection belongs to a lasting feature.
    """

    place: Ints
    previous: Ints
    cosine: Singles
    existence: Floats


@dataclass
class Forest:
    """All hypotheses of all clusters. Clusters, hypotheses, tracks and decisions each are numbered from 0."""

    problem: Ints
    """Of each cluster."""
    cluster: Ints
    """Of each hypothesis; does not fall."""
    weight: Floats
    """Of each hypothesis: its probability within the cluster, falling."""
    holder: Ints
    """The hypothesis that each living track is in; does not fall."""
    living: Living
    decider: Ints
    """The hypothesis that each decision is in; does not fall."""
    decisions: Decisions


class _Joint(NamedTuple):
    """Hypotheses of clusters that a scan has joined to groups, before the scan is taken in.

    group, log_weight: of each joint hypothesis; group does not fall. part_of, part: pairs of a joint hypothesis and a
    hypothesis that it is made of; part_of does not fall. kept: by group, the probability that joining has left.
    """

    group: Ints
    log_weight: Floats
    part_of: Ints
    part: Ints
    kept: Floats


class _Children(NamedTuple):
    """Continued hypotheses, ordered by group and falling weight. parent: the joint hypothesis; weight: within the group;
    child, pair: which pairs of a track and a detection each has, `pair` an index into the pairs of joint hypotheses."""

    parent: Ints
    weight: Floats
    child: Ints
    pair: Ints


def track_by_hypotheses(scans: Scans, association: Association) -> Tracks:
    _, n_layers, k = scans.latents.shape
    tracks, forest = empty_tracks(scans), _empty()
    for layer in range(n_layers):
        forest = _take_in(forest, scans, association, layer, tracks)
        forest = _make_final(forest, tracks, k, layer)
    _write(forest, np.arange(len(forest.decider)), tracks)
    look_back(tracks, scans, association)
    return number_tracks(tracks, scans)


def _empty() -> Forest:
    none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    decisions = Decisions(none, none, nothing.astype(np.float32), nothing)
    return Forest(none, none, nothing, none, no_tracks(), none, decisions)


def _take_in(forest: Forest, scans: Scans, association: Association, layer: int, tracks: Tracks) -> Forest:
    """The forest after the scan of `layer`; writes its entropy and discarded mass."""
    n_problems, _, k = scans.latents.shape
    candidates, log_missed = weigh(scans, forest.living, association, layer)
    column = forest.living.problem[candidates.track] * k + candidates.after
    columns = np.flatnonzero(scans.active[:, layer])
    cluster_group, column_group = _groups(
        forest.cluster[forest.holder[candidates.track]], column, len(forest.problem), columns, n_problems * k
    )
    n_groups = int(max(cluster_group.max(initial=-1), column_group.max(initial=-1))) + 1
    problem = np.zeros(n_groups, dtype=np.int64)
    problem[cluster_group], problem[column_group] = forest.problem, columns // k
    joint = _join(forest, cluster_group, n_groups)

    # The tracks of joint hypotheses, and their candidate pairs, each once for every hypothesis it is in.
    run, track = _rows(forest.holder, joint.part)
    track_joint = joint.part_of[run]
    pair_track, pair = _rows(candidates.track, track)
    pair_joint = track_joint[pair_track]
    base = joint.log_weight + np.bincount(track_joint, log_missed[track], minlength=len(joint.group))
    children, kept, entropy = _continue(
        joint, base, pair_joint, pair_track, column[pair], candidates.log_odds[pair], n_groups
    )
    n_active = np.maximum(scans.active[:, layer].sum(1), 1)
    tracks.entropy[:, layer] = np.bincount(problem, entropy, minlength=n_problems) / n_active
    tracks.discarded[:, layer] = -np.expm1(np.bincount(problem, np.log(kept), minlength=n_problems))

    group = joint.group[children.parent]
    grown, decided = _grow(
        forest.living, track_joint, track, children, pair_track, pair, candidates, column,
        (columns, column_group), group, scans, association, layer,
    )  # fmt: skip
    run, decision = _rows(forest.decider, joint.part)
    heir, place = _rows(joint.part_of[run], children.parent)
    inherited = heir, take(forest.decisions, decision[place])
    holder, living = _merge([grown[0], grown[1]])
    decider, decisions = _merge([inherited, decided])
    return Forest(problem, group, children.weight, holder, living, decider, decisions)


def _groups(cluster: Ints, column: Ints, n_clusters: int, columns: Ints, n_columns: int) -> tuple[Ints, Ints]:
    """Which group each cluster is in, and each active column: those that candidate pairs join."""
    size = n_clusters + n_columns
    graph = coo_array((np.ones(len(column)), (cluster, n_clusters + column)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    _, number = np.unique(
        np.concatenate([labels[:n_clusters], labels[n_clusters + columns]]), return_inverse=True
    )
    return number[:n_clusters], number[n_clusters:]


def _join(forest: Forest, cluster_group: Ints, n_groups: int) -> _Joint:
    """Joint hypotheses of the clusters in each group; where there are several clusters, the KEPT most probable."""
    clusters = np.bincount(cluster_group, minlength=n_groups)
    group_of = cluster_group[forest.cluster]
    alone = np.flatnonzero(clusters[group_of] == 1)
    empty = np.flatnonzero(clusters == 0)
    group, weight = [group_of[alone], empty], [forest.weight[alone], np.ones(len(empty))]
    part_of, part = [np.arange(len(alone))], [alone]
    count = len(alone) + len(empty)
    kept = np.ones(n_groups)
    for number, joined in _products(forest, group_of, clusters):
        weights = [each for each, _ in joined]
        kept[number] = sum(weights)
        group.append(np.full(len(joined), number))
        weight.append(np.array(weights))
        for _, parts in joined:
            part_of.append(np.full(len(parts), count))
            part.append(np.array(parts))
            count += 1
    groups = np.concatenate(group)
    order = np.argsort(groups, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    owner = rank[np.concatenate(part_of)]
    by_owner = np.argsort(owner, kind="stable")
    return _Joint(
        groups[order], np.log(np.concatenate(weight)[order]), owner[by_owner], np.concatenate(part)[by_owner], kept
    )  # fmt: skip


def _products(
    forest: Forest, group_of: Ints, clusters: Ints
) -> Iterator[tuple[int, list[tuple[float, tuple[int, ...]]]]]:
    """By group of several clusters: its most probable joint hypotheses, each with what it is made of."""
    several = np.flatnonzero(clusters[group_of] > 1)
    several = several[np.argsort(group_of[several], kind="stable")]
    rows = zip(
        group_of[several].tolist(), forest.cluster[several].tolist(), several.tolist(),
        forest.weight[several].tolist(), strict=True,
    )  # fmt: skip
    for group, members in groupby(rows, key=lambda row: row[0]):
        joined: list[tuple[float, tuple[int, ...]]] = [(1.0, ())]
        for _, hypotheses in groupby(members, key=lambda row: row[1]):
            options = [(weight, number) for _, _, number, weight in hypotheses]
            products = [(w * v, (*parts, number)) for w, parts in joined for v, number in options]
            joined = sorted(products, key=lambda each: (-each[0], each[1]))[:KEPT]
        yield group, joined


def _continue(
    joint: _Joint, base: Floats, pair_joint: Ints, row: Ints, column: Ints, log_odds: Floats, n_groups: int
) -> tuple[_Children, Floats, Floats]:
    """The kept children of all joint hypotheses; by group, the probability kept, and the entropy of all children."""
    n_joint = len(joint.group)
    n_pairs = np.bincount(pair_joint, minlength=n_joint)
    first = np.cumsum(n_pairs) - n_pairs
    missed, single = np.flatnonzero(n_pairs <= 1), np.flatnonzero(n_pairs == 1)
    parent, gain = [missed, single], [np.zeros(len(missed)), log_odds[first[single]]]
    child, pair = [len(missed) + np.arange(len(single))], [first[single]]
    count = len(missed) + len(single)
    beyond = np.zeros(n_joint)  # odds of what Murty's algorithm was not asked for, at most
    for number in np.flatnonzero(n_pairs > 1).tolist():
        span = slice(first[number], first[number] + n_pairs[number])
        found = k_best(row[span], column[span], log_odds[span], KEPT)
        parent.append(np.full(len(found), number))
        gain.append(np.array([total for total, _ in found]))
        beyond[number] = _beyond(row[span], column[span], np.exp(log_odds[span]), np.exp(gain[-1]))
        for _, pairs in found:
            child.append(np.full(len(pairs), count))
            pair.append(first[number] + np.array(pairs, dtype=np.int64))
            count += 1
    parents = np.concatenate(parent)
    log_weight = base[parents] + np.concatenate(gain)
    group = joint.group[parents]
    order = np.lexsort((-log_weight, group))
    best = np.full(n_groups, -np.inf)
    np.maximum.at(best, group, log_weight)
    odds = np.exp(log_weight - best[group])
    total = np.bincount(group, odds, minlength=n_groups)
    total += np.bincount(joint.group, beyond * np.exp(base - best[joint.group]), minlength=n_groups)
    share = odds / total[group]
    surprise = -share * np.log(np.maximum(share, 1e-300))
    entropy = np.bincount(group, surprise, minlength=n_groups).astype(np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0][: len(order)])
    place = np.arange(len(order)) - starts[np.searchsorted(starts, np.arange(len(order)), side="right") - 1]
    stays = order[(place == 0) | ((place < KEPT) & (share[order] >= LEAST_WEIGHT))]
    kept = np.bincount(group[stays], share[stays], minlength=n_groups)
    rank = np.full(len(parents), -1)
    rank[stays] = np.arange(len(stays))
    heirs, taken = rank[np.concatenate(child)], np.concatenate(pair)
    chosen = np.flatnonzero(heirs >= 0)
    chosen = chosen[np.argsort(heirs[chosen], kind="stable")]
    return (
        _Children(parents[stays], share[stays] / kept[group[stays]], heirs[chosen], taken[chosen]),
        np.minimum(kept * joint.kept, 1),
        entropy,
    )


def _beyond(row: Ints, column: Ints, odds: Floats, found: Floats) -> float:
    """Bound on the odds of all associations but those found: one choice for each row alone, or for each column alone,
    counts every association."""
    if len(found) < KEPT:
        return 0.0
    alone = [
        float(np.prod(1 + np.bincount(np.unique(numbers, return_inverse=True)[1], odds)))
        for numbers in (row, column)
    ]
    return max(min(alone) - float(found.sum()), 0.0)


def _grow(
    living: Living,
    track_joint: Ints,
    track: Ints,
    children: _Children,
    pair_track: Ints,
    pair: Ints,
    candidates: Candidates,
    column: Ints,
    grouped_columns: tuple[Ints, Ints],
    group: Ints,
    scans: Scans,
    association: Association,
    layer: int,
) -> tuple[tuple[tuple[Ints, Living], tuple[Ints, Living]], tuple[Ints, Decisions]]:
    """Of every child: its tracks that were missed and those that this scan's detections are in, and its decisions."""
    k = scans.latents.shape[2]
    new_variance, new_existence = born(association, layer)
    # Detections of a child: those of its group. Each is a birth unless the child has a pair for it.
    columns, column_group = grouped_columns
    by_group = np.argsort(column_group, kind="stable")
    owner, position = _rows(column_group[by_group], group)
    detection = columns[by_group][position]
    problem, rank = np.divmod(detection, k)
    place = np.full(int(columns.max(initial=-1)) + 1, -1)
    place[columns[by_group]] = np.arange(len(columns))
    chosen = pair[children.pair]
    linked = np.searchsorted(
        owner * len(columns) + position, children.child * len(columns) + place[column[chosen]]
    )
    last = track[pair_track[children.pair]]
    previous = np.full(len(owner), -1)
    previous[linked] = living.start[last] * k + living.rank[last]
    cosine = np.full(len(owner), np.nan, dtype=np.float32)
    cosine[linked] = candidates.cosine[chosen]
    mean, variance = scans.level[problem, layer, rank], np.full(len(owner), new_variance)
    mean[linked], variance[linked] = candidates.mean[chosen], candidates.variance[chosen]
    existence = np.full(len(owner), new_existence)
    existence[linked] = 1.0
    here = Living(problem, np.full(len(owner), layer), rank, mean, variance, existence)
    decisions = Decisions(layer * k + rank, previous, cosine, existence)
    # Tracks without a detection go on if they were seen at the last layer.
    heir, instance = _rows(track_joint, children.parent)
    span = max(len(track), 1)
    taken = np.searchsorted(heir * span + instance, children.child * span + pair_track[children.pair])
    goes_on = living.start == layer - 1
    if layer:
        goes_on &= after_a_miss(living, association, layer) > LEAST_EXISTENCE
    stays = goes_on[track[instance]]
    stays[taken] = False
    return ((heir[stays], take(living, track[instance[stays]])), (owner, here)), (owner, decisions)


def _make_final(forest: Forest, tracks: Tracks, k: int, now: int) -> Forest:
    """Decisions DEPTH scans before layer `now` are those of each cluster's best hypothesis; hypotheses that took another are
    dropped, and counted. Then clusters with one hypothesis fall apart into their tracks."""
    due = np.flatnonzero(forest.decisions.place // k <= now - DEPTH)
    against = _write(forest, due, tracks)
    good = np.ones(len(forest.cluster), dtype=bool)
    good[forest.decider[against]] = False
    left = np.minimum(np.bincount(forest.cluster, forest.weight * good, minlength=len(forest.problem)), 1)
    forest.weight = forest.weight / left[forest.cluster]
    kept = np.exp(np.bincount(forest.problem, np.log(left), minlength=len(tracks.discarded)))
    tracks.discarded[:, now] = 1 - (1 - tracks.discarded[:, now]) * kept
    waiting = good[forest.decider]
    waiting[due] = False
    single = (np.bincount(forest.cluster[good], minlength=len(forest.problem)) == 1)[forest.cluster] & good
    _write(forest, np.flatnonzero(waiting & single[forest.decider]), tracks)

    several = np.flatnonzero(good & ~single)
    number = np.full(len(forest.cluster), -1)
    number[several] = np.arange(len(several))
    clusters, cluster = np.unique(forest.cluster[several], return_inverse=True)
    inside, free = np.flatnonzero(number[forest.holder] >= 0), np.flatnonzero(single[forest.holder])
    waiting &= number[forest.decider] >= 0
    return Forest(
        problem=np.concatenate([forest.problem[clusters], forest.living.problem[free]]),
        cluster=np.concatenate([cluster, len(clusters) + np.arange(len(free))]),
        weight=np.concatenate([forest.weight[several], np.ones(len(free))]),
        holder=np.concatenate([number[forest.holder[inside]], len(several) + np.arange(len(free))]),
        living=take(forest.living, np.concatenate([inside, free])),
        decider=number[forest.decider[waiting]],
        decisions=take(forest.decisions, waiting),
    )


def _write(forest: Forest, rows: Ints, tracks: Tracks) -> Ints:
    """Write these decisions as the best hypothesis of each cluster has them; returns those that differ from it."""
    if not len(rows):
        return rows
    hypothesis, taken = forest.decider[rows], take(forest.decisions, rows)
    cluster, weight = forest.cluster[hypothesis], forest.weight[hypothesis]
    n_places = tracks.previous[0].size
    place = np.unique(cluster * n_places + taken.place, return_inverse=True)[1]
    choice = np.unique(place * (n_places + 1) + taken.previous + 1, return_inverse=True)[1]
    probability = np.bincount(choice, weight)[choice]
    existence = np.bincount(place, weight * taken.existence)[place]
    best_hypothesis = np.searchsorted(forest.cluster, np.arange(len(forest.problem)))
    best = best_hypothesis[cluster] == hypothesis
    where = np.unravel_index(
        forest.problem[cluster[best]] * n_places + taken.place[best], tracks.previous.shape
    )
    tracks.previous[where], tracks.link[where] = taken.previous[best], taken.cosine[best]
    tracks.posterior[where] = np.minimum(probability[best], 1)
    tracks.existence[where] = np.minimum(existence[best], 1)
    agreed = np.zeros(choice.max() + 1, dtype=bool)
    agreed[choice[best]] = True
    return rows[~agreed[choice]]


def look_back(tracks: Tracks, scans: Scans, association: Association) -> None:
    """Existence in the light of the next two scans: what goes on was there, and what came alone probably was not.

    Changes it in place. Needs no hypotheses: the validation gives it to nearest neighbour too, to tell what they add.
    """
    n_problems, n_layers, k = scans.latents.shape
    existence = tracks.existence.reshape(n_problems, n_layers * k)
    linked = tracks.previous >= 0
    goes_on = np.zeros((n_problems, n_layers * k))
    goes_on[np.nonzero(linked)[0], tracks.previous[linked]] = tracks.posterior[linked]
    existence[:] = 1 - (1 - existence) * (1 - goes_on)
    alone = scans.active & (tracks.previous < 0) & (goes_on.reshape(scans.active.shape) == 0)
    for layer in range(n_layers - 1):
        here = tracks.existence[:, layer]
        seen = association.seen(layer, scans.level[:, layer])
        tracks.existence[:, layer] = np.where(alone[:, layer], here * (1 - seen) / (1 - here * seen), here)
    tracks.existence[~scans.active] = 0


def _rows(owner: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Rows of a table by owner: for each wanted owner in turn, its rows. owner: [n_rows], not falling. Returns which of
    the wanted, and which row."""
    counts = np.bincount(owner, minlength=int(wanted.max(initial=-1)) + 1)
    return ragged((np.cumsum(counts) - counts)[wanted], counts[wanted])


def _merge(parts: list[tuple[Ints, Table]]) -> tuple[Ints, Table]:
    """Tables with an owner a row as one, ordered by owner."""
    owner = np.concatenate([owner for owner, _ in parts])
    order = np.argsort(owner, kind="stable")
    columns = zip(*(table for _, table in parts), strict=True)
    return owner[order], type(parts[0][1])(*(np.concatenate(column)[order] for column in columns))
