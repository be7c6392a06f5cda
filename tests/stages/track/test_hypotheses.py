"""Multi-hypothesis tracking against all hypotheses one by one: what it decides, and how much it says that it dropped."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest

from ghosttrack.stages.track.associate import hypotheses
from ghosttrack.stages.track.associate.filter import (
    LEAST_EXISTENCE,
    Candidates,
    Living,
    after_a_miss,
    born,
    weigh,
)
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Association, Scans, fit
from ghosttrack.stages.track.scenes import Planted, Scene, plant

PLANTED = Planted(
    n_layers=6,
    d_model=3,
    latents=12,
    features=3,
    drift=0.7,
    crossing=0.75,
    dropout=0.1,
    clutter=1.0,
    wander=0.3,
)
FITTED, TRIED = 300, 30

Decided = dict[int, int]
"""Detection, as layer · k + rank, to the one that it continues; -1 at birth."""
Hypothesis = tuple[float, Living, Decided]
"""Logarithm of its weight, its tracks, its decisions."""
NOTHING: Hypothesis = (0.0, Living(*[np.zeros(0, dtype=np.int64)] * 3, *[np.zeros(0)] * 3), {})


@pytest.fixture(scope="module")
def scene() -> Scene:
    return plant(PLANTED, FITTED + TRIED, seed=0)


@pytest.fixture(scope="module")
def association(scene: Scene) -> Association:
    return fit(scene.scans.of(slice(0, FITTED)), scene.decoders, range(PLANTED.n_layers), seed=0)


def one_to_one(candidates: Candidates) -> Iterator[list[int]]:
    """All sets of pairs in which no track and no detection is twice."""
    for size in range(len(candidates.track) + 1):
        for pairs in combinations(range(len(candidates.track)), size):
            if len(set(candidates.track[list(pairs)])) == len(set(candidates.after[list(pairs)])) == size:
                yield list(pairs)


def grown(hypothesis: Hypothesis, scans: Scans, association: Association, layer: int) -> Iterator[Hypothesis]:
    """All ways to take in a scan of the only problem."""
    log_weight, living, decided = hypothesis
    k = scans.latents.shape[2]
    candidates, log_missed = weigh(scans, living, association, layer)
    variance, existence = born(association, layer)
    for pairs in one_to_one(candidates):
        pair_of = {int(candidates.after[pair]): pair for pair in pairs}
        tracks, decisions = [], dict(decided)
        for rank in np.flatnonzero(scans.active[0, layer]).tolist():
            level = scans.level[0, layer, rank]
            state, previous = (level, variance, existence), -1
            if (pair := pair_of.get(rank)) is not None:
                last = candidates.track[pair]
                state = (candidates.mean[pair], candidates.variance[pair], 1.0)
                previous = int(living.start[last] * k + living.rank[last])
            tracks.append((0, layer, rank, *state))
            decisions[layer * k + rank] = previous
        for number in set(range(len(living.start))) - set(candidates.track[pairs].tolist()):
            missed = Living(*(column[[number]] for column in living))
            if (
                living.start[number] == layer - 1
                and after_a_miss(missed, association, layer) > LEAST_EXISTENCE
            ):
                tracks.append(tuple(column[0] for column in missed))
        columns = zip(*tracks, strict=True) if tracks else [()] * 6
        kinds = (np.int64,) * 3 + (np.float64,) * 3
        yield (
            log_weight + log_missed.sum() + candidates.log_odds[pairs].sum(),
            Living(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))),
            decisions,
        )


def weights(found: list[Hypothesis]) -> np.ndarray:
    log_weights = np.array([each[0] for each in found])
    odds = np.exp(log_weights - log_weights.max())
    return odds / odds.sum()


def one_by_one(
    scans: Scans, association: Association, depth: int, most: int = 300
) -> tuple[Decided, list[float]] | None:
    """Every hypothesis of a problem, cut back only by N-scan pruning: what the best decides, and by layer the probability
    of those that disagreed with it `depth` layers ago. None where there are too many."""
    k = scans.latents.shape[2]
    found, dropped = [NOTHING], []
    for layer in range(scans.latents.shape[1]):
        found = [new for each in found for new in grown(each, scans, association, layer)]
        if len(found) > most:
            return None
        share = weights(found)
        best = found[int(share.argmax())][2]
        due = [place for place in best if place // k <= layer - depth]
        agrees = np.array([all(each[2][place] == best[place] for place in due) for each in found])
        dropped.append(1 - share[agrees].sum())
        found = [each for each, stays in zip(found, agrees.tolist(), strict=True) if stays]
    return found[int(weights(found).argmax())][2], dropped


@pytest.mark.parametrize("depth", [1, 2])
def test_with_all_kept_but_by_n_scan_pruning_it_decides_and_discards_as_one_by_one(
    scene: Scene, association: Association, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypotheses, "KEPT", 10**6)
    monkeypatch.setattr(hypotheses, "LEAST_WEIGHT", 0.0)
    monkeypatch.setattr(hypotheses, "DEPTH", depth)
    compared, most = 0, 0.0
    for problem in range(FITTED, FITTED + 20):
        scans = scene.scans.of(slice(problem, problem + 1))
        expected = one_by_one(scans, association, depth)
        if expected is None:
            continue
        decided, dropped = expected
        tracks = follow(scans, association, "hypotheses", scene.decoders, seed=0)
        previous = tracks.previous[0].ravel()
        assert {place: int(previous[place]) for place in decided} == decided
        np.testing.assert_allclose(tracks.discarded[0], dropped, atol=1e-6)
        compared, most = compared + 1, max(most, *dropped)
    assert compared > 5
    assert most > 0.1  # it is not all the same which hypotheses the window ends


def forests(
    scans: Scans, association: Association, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tracks, list[hypotheses.Forest], list[hypotheses.Forest]]:
    """Tracks, and the hypotheses after each scan, before and after N-scan pruning."""
    before, after = [], []
    prune = hypotheses._make_final

    def watched(forest: hypotheses.Forest, tracks: Tracks, k: int, now: int) -> hypotheses.Forest:
        before.append(forest)
        after.append(prune(hypotheses.Forest(**vars(forest)), tracks, k, now))
        return after[-1]

    monkeypatch.setattr(hypotheses, "_make_final", watched)
    return hypotheses.track_by_hypotheses(scans, association), before, after


def test_what_the_window_has_left_behind_is_the_same_in_all_hypotheses(
    scene: Scene, association: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypotheses that differ only before the window are one: of each cluster those of one ancestor are left."""
    scans = scene.scans.of(slice(FITTED, FITTED + TRIED))
    k, ended = scans.latents.shape[2], 0
    _, before, after = forests(scans, association, monkeypatch)
    for layer, (all_of_them, left) in enumerate(zip(before, after, strict=True)):
        assert (left.decisions.place // k > layer - hypotheses.DEPTH).all()
        number, several = np.unique(left.cluster, return_counts=True)
        # nothing waits where all agree
        assert (several[np.isin(number, left.cluster[left.decider])] > 1).all()
        ended += len(all_of_them.cluster) - len(left.cluster) > 0
    assert ended


def test_the_discarded_mass_bounds_what_a_scan_drops(
    scene: Scene, association: Association, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second scan, before which there is one hypothesis: the exact probability of those that are not kept."""
    monkeypatch.setattr(hypotheses, "KEPT", 2)
    real = 0.0
    for problem in range(FITTED, FITTED + TRIED):
        scans = scene.scans.of(slice(problem, problem + 1))
        two = Scans(scans.latents[:, :2], scans.activations[:, :2])
        with monkeypatch.context() as patch:
            tracks, before, _ = forests(two, association, patch)
        found = [NOTHING]
        for layer in range(2):
            found = [new for each in found for new in grown(each, two, association, layer)]
        forest = before[1]
        options: dict[int, list[Decided]] = {}
        for hypothesis, cluster in enumerate(forest.cluster.tolist()):
            mine = forest.decider == hypothesis
            options.setdefault(cluster, []).append(
                dict(
                    zip(
                        forest.decisions.place[mine].tolist(),
                        forest.decisions.previous[mine].tolist(),
                        strict=True,
                    )
                )
            )
        kept = [
            all(any(option.items() <= each[2].items() for option in each_of) for each_of in options.values())
            for each in found
        ]
        dropped = 1 - weights(found)[np.array(kept)].sum()
        assert dropped <= tracks.discarded[0, 1] + 1e-6
        real = max(real, dropped)
    assert real > 0.01
