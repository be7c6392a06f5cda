"""States files: plain torch files, written in place, read as float32."""

import errno
import resource
from pathlib import Path

import pytest
import torch

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats import states
from ghosttrack.common.formats.states import (
    DTYPES,
    ROOM,
    States,
    StatesWriter,
    open_states,
    quantise,
    reserve,
    roomy_dtype,
)
from tests.commands import python


def write(path: Path, start: int, rows: torch.Tensor) -> bool:
    with StatesWriter(path) as file:
        done = file.write(start, rows)
        file.sync()
    return done


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_rows_written_in_place_are_read_back_by_plain_torch(tmp_path: Path, name: str) -> None:
    path, dtype = tmp_path / "layer_0_states.pt", DTYPES[name]
    reserve(path, 100, 16, dtype)
    rows = torch.randn(40, 16)
    assert write(path, 30, rows)
    for mmap in (False, True):
        loaded = torch.load(path, mmap=mmap, weights_only=True)
        assert list(loaded) == ["states"]
        loaded = loaded["states"]
        assert (loaded.shape, loaded.dtype) == ((100, 16), dtype)
        assert torch.equal(loaded[30:70], rows.to(dtype))
        assert not loaded[:30].any()
        assert not loaded[70:].any()
    read = open_states(path)
    assert (len(read), read.shape) == (100, (100, 16))
    assert read[28:40].dtype == torch.float32
    assert torch.equal(read[torch.tensor([31, 2, 69])], loaded[torch.tensor([31, 2, 69])].float())


def test_int8_has_a_scale_a_row_and_half_a_step_of_error(tmp_path: Path) -> None:
    path = tmp_path / "layer_0_states.pt"
    reserve(path, 50, 16, torch.int8)
    rows = torch.randn(20, 16) * torch.logspace(-3, 3, 20)[:, None]
    rows[7] = 0
    assert write(path, 10, rows)
    loaded = torch.load(path, weights_only=True)
    assert {name: (value.shape, value.dtype) for name, value in loaded.items()} == {
        "states": ((50, 16), torch.int8), "scale": ((50,), torch.float32),
    }  # fmt: skip
    torch.testing.assert_close(loaded["scale"][10:30], rows.abs().amax(1) / 127)
    read = open_states(path)[5:35]
    assert not read[:5].any()
    assert not read[25:].any()
    assert ((read[5:25] - rows).abs() <= loaded["scale"][10:30, None] * 0.5001).all()
    chosen = torch.tensor([29, 10])
    assert torch.equal(open_states(path)[chosen], read[chosen - 5])


def test_quantising_keeps_the_largest_number_and_the_zeros() -> None:
    values, scale = quantise(torch.tensor([[0.0, 254.0, -254.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert values.tolist() == [[0, 127, -127, 0], [0, 0, 0, 0]]
    assert scale.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [("float32", float("nan"), False), ("float32", float("-inf"), False), ("int8", float("nan"), False),
     ("int8", 1e30, True), ("float16", 65504.0, True), ("float16", -65505.0, False), ("bfloat16", 1e30, True)],
)  # fmt: skip
def test_what_the_type_cannot_hold_is_refused(tmp_path: Path, name: str, value: float, stored: bool) -> None:
    path = tmp_path / "layer_0_states.pt"
    reserve(path, 4, 4, DTYPES[name])
    rows = torch.ones(2, 4)
    rows[1, 2] = value
    assert write(path, 1, rows) is stored
    assert bool(open_states(path)[0:4].any()) is stored


def test_writes_that_the_disk_takes_piece_by_piece_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "layer_0_states.pt"
    reserve(path, 8, 16, torch.float32)
    whole = states.os.pwrite
    monkeypatch.setattr(states.os, "pwrite", lambda file, data, at: whole(file, data[:100], at))
    rows = torch.randn(8, 16)
    assert write(path, 0, rows)
    assert torch.equal(open_states(path)[0:8], rows)


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_neither_reserving_nor_writing_takes_memory(tmp_path: Path, name: str) -> None:
    """Of a process that writes 400 MB of float32."""
    program = f"""
import resource, torch
from pathlib import Path
from ghosttrack.common.formats.states import DTYPES, StatesWriter, reserve
path = Path({str(tmp_path / "layer_0_states.pt")!r})
rows = torch.randn(2_000, 512)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
reserve(path, 2_000, 512, DTYPES[{name!r}])
with StatesWriter(path) as file: file.write(0, rows)
before = peak()
reserve(path, 200_000, 512, DTYPES[{name!r}])
with StatesWriter(path) as file:
    for start in range(0, 200_000, 2_000):
        file.write(start, rows)
print(peak() - before)
"""
    assert float(python("-c", program).stdout) < 40
    size = 200_000 * (512 * 4 if name == "float32" else 512 + 4)
    assert (tmp_path / "layer_0_states.pt").stat().st_blocks * 512 >= size


def test_a_full_disk_shows_when_the_file_is_reserved(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)) as caught:
            reserve(tmp_path / "layer_0_states.pt", 1000, 1000, torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(caught.value, OSError) or caught.value.errno == errno.EFBIG


@pytest.mark.parametrize(
    "content",
    [b"nothing", {"other": torch.zeros(2, 2)}, {"states": torch.zeros(2, 2, dtype=torch.int8)}, [1],
     {"states": torch.zeros(2, 2, dtype=torch.int8), "scale": torch.ones(3)}],
)  # fmt: skip
def test_a_file_that_holds_no_states_is_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / "layer_0_states.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CorruptInputError, match=r"layer_0_states\.pt"):
        open_states(path)


def test_states_can_be_made_of_a_tensor() -> None:
    rows = torch.randn(5, 3)
    assert torch.equal(States(rows)[1:3], rows[1:3])


def test_auto_takes_float16_only_with_room_to_spare() -> None:
    assert roomy_dtype(0) == roomy_dtype(65_504 / ROOM) == torch.float16
    assert roomy_dtype(65_504 / ROOM + 1) == torch.bfloat16
