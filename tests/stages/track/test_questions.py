"""How questions are dealt to shards."""

import pytest

from ghosttrack.stages.track.questions import even, plan_shards


@pytest.mark.parametrize(
    ("count", "most"), [(1, 128), (64, 128), (65, 128), (128, 128), (640, 128), (7, 2), (1000, 30)]
)
def test_shards_are_alike_and_two_processes_end_together(count, most):
    sizes = [
        sum(len(batch.numbers) for batch in shard)
        for shard in plan_shards(["a prefix"] * count, even(count, most), 16)
    ]
    assert sum(sizes) == count
    assert max(sizes) <= most
    assert max(sizes) - min(sizes[:-1] or sizes) == 0
    assert len(sizes) > 1 or count <= 64
