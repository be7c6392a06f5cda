"""Shards, batches, and one batch's way from tokens to files."""

from pathlib import Path

import pytest
import torch

from ghosttrack.common.errors import NumericError
from ghosttrack.common.formats.states import StatesWriter, open_states, reserve
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.stages.extract.forward import (
    batches,
    flop_per_token,
    largest_states,
    peak_flops,
    plan_shards,
    write_states,
)
from tests.tiny_models import D_MODEL, N_LAYERS, VOCABULARY, save_random_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), "llama"))


def writers(folder: Path, n_tokens: int, dtype: torch.dtype = torch.float32) -> dict[int, StatesWriter]:
    out = {}
    for layer in range(N_LAYERS):
        reserve(folder / f"{layer}.pt", n_tokens, D_MODEL, dtype)
        out[layer] = StatesWriter(folder / f"{layer}.pt")
    return out


@pytest.mark.parametrize(
    ("n_tokens", "length", "rows", "batch"), [(1000, 16, 4, 3), (64, 16, 4, 4), (5, 8, 2, 2)]
)
def test_batches_cover_every_token_once_in_order(n_tokens: int, length: int, rows: int, batch: int) -> None:
    covered: list[int] = []
    for shard in plan_shards(n_tokens, length, rows):
        for start, count, width in batches(*shard, length, batch):
            assert count <= batch
            assert start % length == 0
            covered += range(start, start + count * width)
    assert covered == list(range(n_tokens))


def test_states_do_not_depend_on_batch_or_packing(model: LanguageModel, tmp_path: Path) -> None:
    tokens = torch.randint(VOCABULARY, (53,), dtype=torch.int32)
    positions = torch.cat([torch.arange(n) for n in (9, 7, 16, 16, 5)]).int()
    out = writers(tmp_path, 53)
    for batch in batches(0, 53, 16, 2):
        write_states(model, tokens, positions, batch, out)
    segment = {}
    model.read_blocks(
        tokens[9:16].long()[None], torch.arange(7)[None], range(N_LAYERS),
        lambda layer, states: segment.__setitem__(layer, states[0].clone()),
    )  # fmt: skip
    for layer in range(N_LAYERS):
        stored = open_states(tmp_path / f"{layer}.pt")[0:53]
        torch.testing.assert_close(stored[9:16], segment[layer], rtol=1e-4, atol=1e-4)
        assert stored.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(float("nan"), torch.float32, r"layer 1, row 5: .* NaN or Inf; .*model\.dtype"),
     (float("inf"), torch.int8, r"layer 1, row 5: .* NaN or Inf"),
     (1e6, torch.float16, r"layer 1, row 5: .* too large for float16; .*extract\.dtype")],
)  # fmt: skip
def test_a_state_that_cannot_be_stored_names_layer_and_row(
    model: LanguageModel, tmp_path: Path, value: float, dtype: torch.dtype, message: str
) -> None:
    tokens = torch.randint(VOCABULARY, (8,), dtype=torch.int32)

    def poison(module: object, arguments: object, output: torch.Tensor) -> None:
        output[0, 5, 0] = value

    handle = model.blocks[1].register_forward_hook(poison, prepend=True)
    try:
        with pytest.raises(NumericError, match=message):
            write_states(model, tokens, torch.arange(8).int(), (0, 1, 8), writers(tmp_path, 8, dtype))
    finally:
        handle.remove()


def test_the_arithmetic_of_a_forward_pass_is_counted(model: LanguageModel) -> None:
    """Against torch's own counter, which counts the attention of all pairs where half of them are masked."""
    from torch.utils.flop_counter import FlopCounterMode

    length = 16
    model.model.set_attn_implementation("eager")  # made of products that it knows
    with FlopCounterMode(display=False) as counter:
        model.backbone(input_ids=torch.zeros(1, length, dtype=torch.long), use_cache=False)
    pairs = 2 * N_LAYERS * D_MODEL * length * length
    model.model.set_attn_implementation("sdpa")
    assert flop_per_token(model, N_LAYERS - 1, length) * length == counter.get_total_flops() - pairs
    assert flop_per_token(model, 0, length) * N_LAYERS == flop_per_token(model, N_LAYERS - 1, length)


def test_the_peak_is_above_what_one_small_product_reaches() -> None:
    assert peak_flops(torch.device("cpu"), torch.float32, 256, 0.05) > 1e8


def test_what_goes_beyond_the_measured_type_is_its_largest_number_and_told(
    model: LanguageModel, tmp_path: Path
) -> None:
    tokens = torch.randint(VOCABULARY, (8,), dtype=torch.int32)

    def poison(module: object, arguments: object, output: torch.Tensor) -> None:
        output[0, 5, :2] = torch.tensor([1e6, -1e6])

    handle = model.blocks[N_LAYERS - 1].register_forward_hook(poison, prepend=True)
    try:
        out = writers(tmp_path, 8, torch.float16)
        beyond = write_states(model, tokens, torch.arange(8).int(), (0, 1, 8), out, clamped=True)
        assert largest_states(model, tokens, torch.arange(8).int(), 8, [0, N_LAYERS - 1])[N_LAYERS - 1] == 1e6
    finally:
        handle.remove()
    assert beyond == {N_LAYERS - 1}
    assert open_states(tmp_path / f"{N_LAYERS - 1}.pt")[5:6][0, :2].tolist() == [65504.0, -65504.0]
