"""What a readable model reaches when labels mean nothing: shuffled inside each relation, and everything fitted again.

The model is a ridge regression on the features as they stand and the states of one place and layer, which no label chose; its
closed form takes hundreds of label columns at once (see `fitted/ridge.py`). The statistic is the mean AUROC inside a relation
and fold: shuffling inside relations leaves their own difficulty as it was, and a relation's fixed number of wrong answers makes
what one fold trains on say the opposite of what it is tested on, so that scores of different folds must not be compared.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.formats.detection_metrics import Permutations
from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.common.maths.metrics import auroc_by_block, ones
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges
from ghosttrack.stages.detect.protocol.splits import Fold

PENALTY = 0.3


def permutation_control(
    values: NDArray[np.floating],
    labels: Floats,
    relation: Ints,
    folds: Sequence[Fold],
    refits: int,
    seed: int,
) -> Permutations:
    """AUROC of refits on labels that are shuffled within relations, and of the labels as they are. values: [n, d] of
    all questions; labels: [n]; relation: [n] numbers; folds: of one split."""
    rows = np.sort(np.concatenate([fold.test for fold in folds]))
    generator = np.random.default_rng(seed)
    shuffled = np.repeat(labels[:, None], refits + 1, axis=1)
    for number in range(1, refits + 1):
        for block in np.unique(relation[rows]):
            own = rows[relation[rows] == block]
            shuffled[own, number] = labels[generator.permutation(own)]
    scores = np.zeros(shuffled.shape)
    for fold in folds:
        standardiser = Standardiser.fit(values[fold.train])
        train, test = (
            np.nan_to_num(standardiser(values[part]), copy=False) for part in (fold.train, fold.test)
        )
        nothing = np.zeros(0, dtype=np.int64)
        fitted = fit_ridges(train, shuffled[fold.train], nothing, (PENALTY,))
        scores[fold.test] = test @ fitted.weights[0]
    scored_by = np.full(len(labels), -1)
    for number, fold in enumerate(folds):
        scored_by[fold.test] = number
    pairs = np.stack([relation[rows], scored_by[rows]], axis=1)
    blocks = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
    once = ones(len(rows))
    found = [
        float(np.nanmean(auroc_by_block(shuffled[rows, number], scores[rows, number], blocks, once)))
        for number in range(refits + 1)
    ]
    return Permutations(observed=found[0], auroc=found[1:])
