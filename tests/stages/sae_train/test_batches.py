import pytest
import torch

from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.normalise import LayerStates
from tests.stages.sae_train.synthetic import layer_of, sparse_states


@pytest.fixture(scope="module")
def layers() -> list[LayerStates]:
    return [layer_of(sparse_states(600, 8, 20, 3, seed=number), number) for number in range(3)]


def rows_seen(batches: Batches, layers: list[LayerStates], steps: range) -> list[tuple[int, int]]:
    """(layer, row) of every state in these batches, told by its values."""
    table = {
        tuple(x.tolist()): (number, row)
        for number, layer in enumerate(layers)
        for row, x in zip(layer.train.tolist(), layer.normalised(layer.train), strict=True)
    }
    return [table[tuple(x.tolist())] for step in steps for x in batches.batch(step)]


def test_a_pass_sees_every_token_of_every_layer_once(layers: list[LayerStates]) -> None:
    batches = Batches(layers, batch_size=39, seed=0)
    assert batches.n_tokens == 3 * len(layers[0].train) == 36 * 39
    seen = rows_seen(batches, layers, range(36))
    assert len(set(seen)) == len(seen) == batches.n_tokens
    assert len(set(rows_seen(batches, layers, range(36, 72)))) == batches.n_tokens


def test_passes_differ_and_layers_mix(layers: list[LayerStates]) -> None:
    batches = Batches(layers, batch_size=36, seed=0)
    first, second = rows_seen(batches, layers, range(1)), rows_seen(batches, layers, range(39, 40))
    assert set(first) != set(second)
    assert {layer for layer, _ in first} == {0, 1, 2}


def test_a_batch_depends_on_seed_and_step_alone(layers: list[LayerStates]) -> None:
    walked, jumped = Batches(layers, 50, seed=3), Batches(layers, 50, seed=3)
    for step in range(61):
        last = walked.batch(step)
    assert torch.equal(last, jumped.batch(60))
    assert not torch.equal(last, Batches(layers, 50, seed=4).batch(60))


def test_a_layer_gives_no_more_than_its_share(layers: list[LayerStates]) -> None:
    batches = Batches(layers, 30, seed=0, tokens_per_layer=70)
    assert batches.n_tokens == 210
    seen = rows_seen(batches, layers, range(7))
    assert [sum(layer == number for layer, _ in seen) for number in range(3)] == [70, 70, 70]
    assert {row for layer, row in seen if layer == 0} != {row for layer, row in seen if layer == 1}


def test_small_data_makes_small_batches(layers: list[LayerStates]) -> None:
    batches = Batches(layers[:1], 10_000, seed=0)
    assert batches.batch(0).shape == (len(layers[0].train), 8)
    assert batches.steps(2.0) == 2
    assert batches.steps(0.1) == 1


def test_a_sample_is_spread_over_the_layers(layers: list[LayerStates]) -> None:
    assert Batches(layers, 30, seed=0).sample(90, seed=1).shape == (90, 8)
    assert Batches(layers, 30, seed=0).sample(10**6, seed=1).shape == (1404, 8)
