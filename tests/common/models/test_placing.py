"""A model that has no room on one device: where its blocks go, and that what is read of it is the same."""

from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from ghosttrack.common.errors import ModelSourceError
from ghosttrack.common.models import placing
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.writes import WriteReader
from tests.tiny_models import N_LAYERS, random_model, save_random_model


@pytest.fixture(scope="module", params=["gemma3_text", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model"), request.param)


def offloaded(folder: Path, monkeypatch: pytest.MonkeyPatch, blocks: int = 1) -> LanguageModel:
    """With all but so many blocks on the disk."""
    model = load_language_model(folder)
    size = placing._bytes(model.blocks[0])
    room = placing._bytes(model.model) - sum(map(placing._bytes, model.blocks)) + (blocks + 1.5) * size
    monkeypatch.setattr(placing, "room_of", lambda *_: {"cpu": room, "disk": float("inf")})
    return load_language_model(folder, offload="disk")


def states(model: LanguageModel, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found: list[torch.Tensor] = []
    with model.reading(range(N_LAYERS), lambda _, output: found.append(output)):
        final = model.run(ids)
    return torch.stack(found), model.logits(final)


def test_a_model_whose_blocks_lie_on_the_disk_computes_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, spread = load_language_model(folder), offloaded(folder, monkeypatch)
    where = [next(block.parameters()).device.type for block in spread.blocks]
    assert where == ["cpu", "meta", "meta"]
    ids = torch.arange(24).view(2, 12) * 7 % 200
    for one, other in zip(states(plain, ids), states(spread, ids), strict=True):
        assert torch.equal(one, other)
    assert (plain.packs, plain.caches, plain.branches) == (spread.packs, spread.caches, spread.branches)
    double = lambda layer, output: 2 * output if layer == 1 else output  # noqa: E731
    with plain.replacing([1, 2], double), spread.replacing([1, 2], double):
        assert torch.equal(plain.run(ids), spread.run(ids))
    made = [
        model.model.generate(ids[:1], max_new_tokens=5, do_sample=False, pad_token_id=0)  # type: ignore[operator]
        for model in (plain, spread)
    ]
    assert torch.equal(*made)
    with plain.going_on_after(1, torch.ones(2, 12, plain.d_model)):
        expected = plain.run(ids)
    with spread.going_on_after(1, torch.ones(2, 12, plain.d_model)):
        assert torch.equal(expected, spread.run(ids))


def test_what_attention_and_mlp_of_an_offloaded_block_write_is_told_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.arange(16).view(2, 8) * 11 % 200
    sources = torch.zeros(2, 8, dtype=torch.long)
    row, place = torch.tensor([0, 1]), torch.tensor([4, 6])
    found = []
    for model in (load_language_model(folder), offloaded(folder, monkeypatch)):
        cache = DynamicCache()
        with torch.inference_mode():
            model.run(tokens[:, :1], cache=cache)
        found.append(WriteReader(model).read(tokens[:, 1:], cache, (row, place), sources, 1))
    for one, other in zip(*found, strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ({0: 1000.0}, [0, 0, 0, 0]),
        ({0: 25.0, 1: 25.0, "cpu": 100.0}, [0, 1, 1, "cpu"]),
        ({0: 15.0, "cpu": 25.0, "disk": float("inf")}, ["cpu", "cpu", "disk", "disk"]),
    ],
)
def test_devices_are_filled_in_order(
    room: dict[placing.Device, float], expected: list[placing.Device]
) -> None:
    assert placing.spread([10, 10, 10, 10], 5, room) == expected


@pytest.mark.parametrize("room", [{0: 45.0}, {0: 10.0, "disk": float("inf")}, {0: 16.0, 1: 25.0}])
def test_a_model_without_room_names_the_keys_that_make_some(room: dict[placing.Device, float]) -> None:
    with pytest.raises(ModelSourceError, match=r"model\.offload: memory or disk, or model\.dtype: bfloat16"):
        placing.spread([10, 10, 10, 10], 5, room)


@pytest.mark.parametrize("family", ["bloom", "gpt2", "mixtral", "opt", "gemma3_text"])
def test_every_weight_has_one_place(family: str) -> None:
    model = random_model(family)
    found = placing.device_map(model, {0: 1e9})
    for name, _ in model.named_parameters():
        assert sum(name == key or name.startswith(f"{key}.") for key in found) == 1, name


def test_without_a_gpu_only_the_disk_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(placing.room_of("auto", "memory")) == ["cpu"]
    assert list(placing.room_of("auto", "disk")) == ["cpu", "disk"]


def test_gpus_in_order_then_memory_then_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (100.0 + number, 200.0))
    assert list(placing.room_of("auto", "none")) == [1, 0, 2]
    assert list(placing.room_of("auto", "disk")) == [1, 0, 2, "cpu", "disk"]
    assert list(placing.room_of("one", "memory")) == [1, "cpu"]
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert list(placing.room_of("auto", "none")) == [1, 0, 2]  # nobody has launched three
    monkeypatch.setenv("LOCAL_RANK", "1")  # each process has its own
    assert list(placing.room_of("auto", "none")) == [1]


@pytest.mark.parametrize(
    ("has", "kind"), [(None, torch.float32), (False, torch.float32), (True, torch.bfloat16)]
)
def test_arithmetic_is_bfloat16_on_a_gpu_that_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, has: bool | None, kind: torch.dtype
) -> None:
    """A pretended GPU, on which nothing is computed. has: bfloat16; None: there is no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    monkeypatch.setattr(placing, "room_of", lambda *_: {"cpu": float("inf")})
    monkeypatch.setattr(placing, "choose_device", lambda: torch.device("cpu"))
    assert placing.load_placed(folder, "auto", "auto", "none").dtype == kind
    assert placing.load_placed(folder, "float32", "auto", "none").dtype == torch.float32
