"""Whether SAEs that were trained apart tell the same of an answer: where, over the layers, tracks speak for it.

What attention and MLP wrote is the model's own and the same whatever the SAEs; what the tracks are is not. Compared are the
tracks of a run and those of its independent twins (`sae.independent_twin`), at the token at which the answer begins.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ghosttrack.common.maths.arrays import Floats
from ghosttrack.stages.track.explanations import RANK_CORRELATION
from ghosttrack.stages.track.validation import LEAST_PROBLEMS, SIGNIFICANT, Verdict, less

COLUMNS = ("question", "layer", "effect")
"""Of tracks.parquet, at position 0: what is read here."""
Nodes = Mapping[str, NDArray[Any]]


def by_layer(nodes: Nodes, questions: int, layers: Sequence[int]) -> Floats:
    """Effects of all tracks on the answer's lead over its rival, summed: [questions, n_layers]. layers: ascending."""
    found = np.zeros((questions, len(layers)))
    np.add.at(found, (nodes["question"], np.searchsorted(layers, nodes["layer"])), nodes["effect"])
    return found


def judge_stability(own: Nodes, other: Nodes, questions: int, layers: Sequence[int]) -> Verdict:
    """Whether SAEs that were trained apart give the same tracks. own, other: nodes by the SAEs and by their twins.
    Every question is compared with itself and with another one."""
    question = "Do SAEs that were trained apart tell the same of an answer?"
    first, second = (by_layer(nodes, questions, layers) for nodes in (own, other))
    there = np.flatnonzero((np.ptp(first, 1) > 0) & (np.ptp(second, 1) > 0))
    if len(there) < LEAST_PROBLEMS:
        return Verdict(question, None, f"Both have tracks at {len(there)} answers only, too few to tell.")
    dealt = np.roll(there, len(there) // 2)
    same, others = (_rank_correlations(first[there], second[beside]) for beside in (there, dealt))
    p = less(-same, -others)
    return Verdict(
        question, bool(same.mean() >= RANK_CORRELATION and p < SIGNIFICANT),
        f"Where over the layers tracks speak for the answer agrees between the SAEs and their twins with a rank correlation of "
        f"{same.mean():.2f} (at least {RANK_CORRELATION:g} is asked for), and with the twins' at another answer {others.mean():.2f} "
        f"(one-sided p = {p:.2g}, {len(there)} answers).",
    )  # fmt: skip


def _rank_correlations(first: Floats, second: Floats) -> Floats:
    """Of each row of one with that of the other."""
    ranks = [stats.rankdata(values, axis=1) for values in (first, second)]
    centred = [each - each.mean(1, keepdims=True) for each in ranks]
    sizes = np.prod([np.linalg.norm(each, axis=1) for each in centred], axis=0)
    return np.asarray((centred[0] * centred[1]).sum(1) / sizes)
