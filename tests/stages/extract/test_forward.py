import pytest
import torch

from common.errors import NumericError
from common.language_model import load_language_model
from stages.extract.forward import batches, plan_shards, write_states
from tests.tiny_models import D_MODEL, N_LAYERS, VOCABULARY, save_random_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), "llama"))


@pytest.mark.parametrize(
    ("n_tokens", "length", "rows", "batch"), [(1000, 16, 4, 3), (64, 16, 4, 4), (5, 8, 2, 2)]
)
def test_batches_cover_every_token_once_in_order(n_tokens, length, rows, batch):
    covered = []
    for shard in plan_shards(n_tokens, length, rows):
        for start, count, width in batches(*shard, length, batch):
            assert count <= batch
            assert start % length == 0
            covered += range(start, start + count * width)
    assert covered == list(range(n_tokens))


def test_states_do_not_depend_on_batch_or_packing(model):
    tokens = torch.randint(VOCABULARY, (53,), dtype=torch.int32)
    positions = torch.cat(
        [torch.arange(9), torch.arange(7), torch.arange(16), torch.arange(16), torch.arange(5)]
    ).int()
    out = {layer: torch.zeros(53, D_MODEL) for layer in range(N_LAYERS)}
    for start, rows, length in batches(0, 53, 16, 2):
        write_states(model, tokens, positions, start, rows, length, range(N_LAYERS), out)
    segment = {}
    model.read_blocks(
        tokens[9:16].long()[None], torch.arange(7)[None], range(N_LAYERS),
        lambda layer, states: segment.__setitem__(layer, states[0].clone()),
    )  # fmt: skip
    for layer in range(N_LAYERS):
        torch.testing.assert_close(out[layer][9:16], segment[layer], rtol=1e-4, atol=1e-4)
        assert out[layer].abs().sum(dim=1).min() > 0


def test_a_state_that_overflows_the_storage_type_names_layer_and_token(model):
    tokens = torch.randint(VOCABULARY, (8,), dtype=torch.int32)
    out = {0: torch.zeros(8, D_MODEL), 1: torch.zeros(8, D_MODEL)}

    def poison(module, arguments, output):
        output[0, 5, 0] = float("nan")

    handle = model.blocks[1].register_forward_hook(poison, prepend=True)
    try:
        with pytest.raises(NumericError, match=r"layer 1, token 5 .*extract\.dtype"):
            write_states(model, tokens, torch.arange(8).int(), 0, 1, 8, [0, 1], out)
    finally:
        handle.remove()
