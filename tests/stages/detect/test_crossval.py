import numpy as np
import pytest

from common.errors import NumericError
from common.metrics import auroc
from stages.detect.crossval import importance, out_of_fold
from stages.detect.folds import grouped_folds
from stages.detect.models import CANDIDATES, boosted, linear

FAST = (linear(0.01), linear(1.0), boosted(10, 4))


def problem(n=300, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    values = rng.normal(size=(n, 12))
    values[:, :3] += strength * labels[:, None]
    values[:, 5] = 7.0
    groups = np.arange(n) // 2
    return values, labels, groups


def scored(values, labels, groups, candidates=FAST, folds=None, seed=0):
    folds = grouped_folds(labels, groups, 4, seed) if folds is None else folds
    return out_of_fold(values, labels, groups, folds, inner_folds=3, seed=seed, candidates=candidates), folds


def test_a_planted_signal_is_found_and_shuffled_labels_are_not():
    values, labels, groups = problem()
    assert auroc(labels, scored(values, labels, groups)[0].probability) > 0.8  # at best 0.89
    shuffled = [np.random.default_rng(s).permutation(labels) for s in range(6)]
    found = [auroc(y, scored(values, y, groups)[0].probability) for y in shuffled]
    assert abs(np.mean(found) - 0.5) < 0.06


def test_what_is_known_of_a_group_does_not_help():
    """Features that name the group and labels that belong to it: perfect memory, useless on other groups."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(100), 3)
    labels = rng.integers(0, 2, 100).astype(float)[groups]
    values = rng.normal(size=(100, 12))[groups]
    assert abs(auroc(labels, scored(values, labels, groups)[0].probability) - 0.5) < 0.12


def test_held_out_labels_do_not_reach_their_own_scores():
    values, labels, groups = problem()
    first, folds = scored(values, labels, groups)
    held_out = folds == 2
    second, _ = scored(values, np.where(held_out, 1 - labels, labels), groups, folds=folds)
    np.testing.assert_array_equal(first.probability[held_out], second.probability[held_out])
    assert first.models[2].threshold == second.models[2].threshold
    assert not np.array_equal(first.probability[~held_out], second.probability[~held_out])


def test_the_same_seed_gives_the_same_bits():
    values, labels, groups = problem(strength=0.3)
    first, second = (scored(values, labels, groups, CANDIDATES)[0] for _ in range(2))
    assert first.probability.tobytes() == second.probability.tobytes()


def test_unlabelled_rows_are_scored_but_not_learned_from():
    values, labels, groups = problem()
    base, folds = scored(values, labels, groups)
    more_values = np.concatenate([values, values[:4] + 100, np.full((1, 12), np.nan)])
    more_labels = np.concatenate([labels, np.full(5, np.nan)])
    more, _ = scored(
        more_values,
        more_labels,
        np.append(groups, np.arange(900, 905)),
        folds=np.append(folds, [0, 1, 2, 3, 0]),
    )
    np.testing.assert_array_equal(base.probability, more.probability[:300])
    assert np.isfinite(more.probability[300:304]).all()
    assert np.isnan(more.probability[304])


def test_probabilities_are_calibrated():
    values, labels, groups = problem(n=1500, strength=0.5)
    p = scored(values, labels, groups)[0].probability
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        rows = (p >= low) & (p < high)
        assert abs(labels[rows].mean() - p[rows].mean()) < 0.08


def test_nan_in_a_labelled_row_is_refused():
    values, labels, groups = problem()
    values[17, 4] = np.nan
    with pytest.raises(NumericError, match="feature 4 of question 17 is nan"):
        scored(values, labels, groups)


def test_columns_that_never_vary_are_no_trouble():
    _, labels, groups = problem()
    found, _ = scored(np.ones((300, 3)), labels, groups)
    assert np.isfinite(found.probability).all()


def test_importance_names_the_columns_that_matter():
    values, labels, groups = problem()
    result, folds = scored(values, labels, groups)
    losses = importance(result, values, labels, folds, {"signal": [0, 1, 2], "noise": [6, 7, 8]}, seed=0)
    assert losses["signal"] > 0.2
    assert abs(losses["noise"]) < 0.05
