from itertools import combinations

import numpy as np
import pytest

from ghosttrack.stages.track.associate.murty import k_best


def by_brute_force(row, column, gain):
    """All one-to-one sets of pairs, the best first."""
    found = []
    for size in range(min(len(set(row)), len(set(column))) + 1):
        for pairs in combinations(range(len(gain)), size):
            if len({row[p] for p in pairs}) == len({column[p] for p in pairs}) == size:
                found.append((sum(gain[p] for p in pairs), list(pairs)))
    return sorted(found, key=lambda each: -each[0])


@pytest.mark.parametrize("n_pairs", [0, 1, 3, 4, 5, 7, 10])
def test_the_k_best_are_those_of_brute_force(n_pairs):
    random = np.random.default_rng(n_pairs)
    for _ in range(30):
        places = random.choice(16, n_pairs, replace=False)
        row, column, gain = places // 4 + 7, places % 4, random.normal(1, 3, n_pairs)
        expected = by_brute_force(row, column, gain)
        for k in (1, 5, 1000):
            found = k_best(row, column, gain, k)
            assert [pairs for _, pairs in found] == [pairs for _, pairs in expected[:k]]
            np.testing.assert_allclose(
                [total for total, _ in found], [total for total, _ in expected[:k]], atol=1e-9
            )
            if k == 1000:
                assert len(found) == len(expected)


def test_equal_gains_give_every_association_once():
    row, column = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    found = k_best(row, column, np.ones(9), 1000)
    assert len({tuple(pairs) for _, pairs in found}) == len(found) == 34  # 1 + 9 + 18 + 6
