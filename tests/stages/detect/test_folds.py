import numpy as np
import pytest

from common.errors import DataError, LabelError
from stages.detect.folds import assert_groups_whole, grouped_folds, spread_to


def test_groups_stay_whole_and_classes_balanced():
    rng = np.random.default_rng(0)
    labels, groups = (rng.random(500) < 0.3).astype(int), rng.integers(0, 150, 500)
    folds = grouped_folds(labels, groups, 5, seed=0)
    assert all(len(set(folds[groups == group])) <= 1 for group in range(150))
    shares = [labels[folds == fold].mean() for fold in range(5)]
    assert max(shares) - min(shares) < 0.1
    assert np.array_equal(folds, grouped_folds(labels, groups, 5, seed=0))
    assert not np.array_equal(folds, grouped_folds(labels, groups, 5, seed=1))


def test_a_split_group_is_noticed():
    with pytest.raises(AssertionError):
        assert_groups_whole([0, 1, 1], [7, 7, 8])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones(40), "no correct answers among 40"),
        (np.zeros(40), "no wrong answers among 40"),
        (np.r_[np.ones(3), np.zeros(37)], "only 3 wrong answers"),
    ],
)
def test_classes_that_cannot_be_learned_are_refused(labels, message):
    with pytest.raises(LabelError, match=message):
        grouped_folds(labels, np.arange(40), 5, seed=0)


def test_a_group_that_spans_everything_is_refused():
    labels = np.arange(40) % 2
    with pytest.raises(DataError, match=r"1 group\(s\), fewer than 5 folds"):
        grouped_folds(labels, np.zeros(40), 5, seed=0)
    with pytest.raises(LabelError, match="one group holds too much"):
        grouped_folds(np.r_[np.ones(36), np.zeros(4)], np.r_[np.arange(36) % 6, np.full(4, 9)], 4, seed=0)


def test_unlabelled_rows_follow_their_group():
    folds = spread_to(np.array([2, 0]), np.array([5, 6]), np.array([6, 5, 9, 8]), n_folds=3)
    assert folds.tolist() == [0, 2, 1, 0]
