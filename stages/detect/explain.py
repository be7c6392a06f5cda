"""Why a question was scored as it was: contributions that add up, an interval, and the nearest answer that was right.

The contributions are the detector's own: its log-odds are their sum and the intercept. Where the answer was read in other
contexts, its standing there counts as in the detector: the sum is anchored as that is, and calibrated, with the trained part
counting fully and relations known as far as they are on average.
"""

import dataclasses
import math
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Singles
from ghosttrack.common.maths.calibration import fit_platt
from ghosttrack.stages.detect.anchored import MOST_KEPT, evenly, fit_anchored
from ghosttrack.stages.detect.crossval import Side
from ghosttrack.stages.detect.features.contexts import ANCHOR
from ghosttrack.stages.detect.fitted.linear import Additive
from ghosttrack.stages.detect.methods import TRAINED

Reason = dict[str, Any]

NEIGHBOURS = 200
"""Most training answers of nearest probability whose share of wrong ones gives the interval; a tenth of them, where that is less."""
LEAST_NEIGHBOURS = 30
SHOWN = 8
_Z = 1.959964


@dataclass(frozen=True)
class Reference:
    """What an explanation compares with: the training side."""

    additive: Additive
    names: list[str]  # of the columns
    probability: Floats  # [n] held-out, calibrated, ascending
    wrong: Floats  # [n] labels in that order
    right_ids: list[str]  # of right answers, MOST_KEPT at most
    right_place: Singles  # [n_right, n_columns] contributions of the right answers


def reference_of(side: Side, held_out: Floats, ids: list[str]) -> Reference:
    """What explanations of a fold's scores compare with. held_out: the main detector's scores of the training rows;
    ids: of these rows."""
    signals = side.signals_of(TRAINED)
    values = side.train.of(signals)
    names = [side.train.names[number] for number in side.train.where(signals)]
    additive, trained = side.trained
    if ANCHOR in names:
        additive = _anchored(side, additive, trained, names.index(ANCHOR))
    probability = fit_platt(held_out, side.labels)(held_out)
    order = np.argsort(probability, kind="stable")
    right = np.flatnonzero(side.labels == 0)
    right = right[evenly(len(right), MOST_KEPT)]
    return Reference(
        additive, names,
        probability[order], side.labels[order], [ids[row] for row in right],
        additive.contributions(values[right]).astype(np.float32),
    )  # fmt: skip


def _anchored(side: Side, additive: Additive, held_out: Floats, at: int) -> Additive:
    """Anchored and calibrated, the additive model is an additive model again. at: the anchor's number among its columns."""
    anchor = side.train.column(ANCHOR)
    joint = fit_anchored(anchor, held_out)
    known = float(side.known.mean())
    of_anchor, of_trained = map(float, joint.weights(known))
    platt = fit_platt(joint.score(anchor, held_out, known), side.labels)
    slope = platt.slope / platt.scale
    share = slope * of_trained / joint.trained_spread
    weights = additive.weights * share
    intercept = share * (additive.intercept - joint.trained_mean) + platt.offset - slope * platt.centre
    if rate := float(additive.rate[at]):  # the anchor, standardised as its column is
        weights[at] += slope * of_anchor / (joint.anchor_spread * rate)
        intercept += slope * of_anchor * (float(additive.mean[at]) - joint.anchor_mean) / joint.anchor_spread
    return dataclasses.replace(additive, weights=weights, intercept=intercept)


def reasons(reference: Reference, values: Floats, probability: Floats) -> list[Reason]:
    """A record a question. values: [n, n_columns], of the reference's columns; probability: [n] calibrated.

    `interval` is Wilson's 95 % interval of the share of wrong answers among the training answers of nearest probability,
    widened to the probability itself where calibration and that share differ by more;
    `contributions` the strongest columns, with `rest` and `intercept` they add up to `additive_log_odds`.
    """
    parts = reference.additive.contributions(values)
    place = parts.astype(np.float32)
    squares = (reference.right_place**2).sum(axis=1)
    intercept = reference.additive.intercept

    def record(own: Floats, here: Singles, probability: float) -> Reason:
        strongest = np.argsort(-np.abs(own), kind="stable")[:SHOWN]
        distance = squares - 2 * reference.right_place @ here
        return {
            "interval": list(_interval(reference, probability)),
            "contributions": {reference.names[number]: round(float(own[number]), 4) for number in strongest},
            "rest": round(float(own.sum() - own[strongest].sum()), 4),
            "intercept": round(intercept, 4),
            "additive_log_odds": round(float(own.sum() + intercept), 4),
            "nearest_right": reference.right_ids[int(np.argmin(distance))] if len(squares) else None,
        }

    return [record(*each) for each in zip(parts, place, probability.tolist(), strict=True)]


def _interval(reference: Reference, probability: float) -> tuple[float, float]:
    known = len(reference.probability)
    count = min(known, max(LEAST_NEIGHBOURS, min(NEIGHBOURS, known // 10)))
    start = int(np.searchsorted(reference.probability, probability)) - count // 2
    start = min(max(start, 0), len(reference.probability) - count)
    share = float(reference.wrong[start : start + count].mean())
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    low, high = min(centre - half, probability), max(centre + half, probability)
    return math.floor(max(0.0, low) * 1e4) / 1e4, math.ceil(min(1.0, high) * 1e4) / 1e4


def competition_of(leader: Floats, layers: list[int], candidates: list[str]) -> Reason:
    """Which candidate answer led by its tracks' effects, from layer to layer at the last prompt token.

    leader: [n_layers] rank of the leader, 0 the answer that was given; candidates: texts by rank. `winner`: who leads at the
    end; `won_at`: the layer from which it does.
    """
    if np.isnan(leader).any():
        return {"leaders": [], "winner": None, "won_at": None}
    leaders: list[Reason] = []
    for rank, led in groupby(zip(leader.astype(int).tolist(), layers, strict=True), key=itemgetter(0)):
        own = [layer for _, layer in led]
        leaders.append(
            {"candidate": candidates[rank], "rank": rank, "first_layer": own[0], "last_layer": own[-1]}
        )
    return {"leaders": leaders, "winner": leaders[-1]["candidate"], "won_at": leaders[-1]["first_layer"]}
