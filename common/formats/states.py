"""Hidden-state files: plain torch files that are reserved at full size and filled in place.

`torch.load(path, mmap=True, weights_only=True)` gives `states`, [n_rows, d_model], block outputs of one layer, and
where they are int8, `scale`, float32 [n_rows]: a row is states · scale. `open_states` reads any of them as float32.

Rows are written with `pwrite` at their place in the file, so that memory use does not depend on the number of
rows: pages of a shared memory map that were written to would count as this process's memory.
"""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.files import fsync, take_room
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.file import File

STATES = File(
    "layer_{layer}_states.pt",
    "extract/sample",
    '`{"states": [n_tokens, d_model]}` in `extract.dtype` (under `auto`, the one that fits the layer), block outputs, with `"scale": [n_tokens]` float32 beside int8; opens '
    "with `torch.load(mmap=True, weights_only=True)`, reads as float32 through `common/formats/states.py`",
)
INDEX = File(
    "index_layers_{group}.pt",
    "extract/layers_{group}",
    "`token, doc, position` int32 [n_tokens], `held_out` bool [n_tokens], `kind` uint8 [n_tokens]",
)
SAMPLE_INDEX = File(
    "index_sample.pt", "extract/sample", "the same of seeded whole rows of the corpus, for the shared base"
)

QUANTISED_MAX = 127
SCALE_BYTES = 4
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
"""`extract.dtype` to the type of the stored numbers, `auto` aside."""
ROOM = 2.0
"""How many times the largest number measured float16 must hold to be taken under `auto`."""


def roomy_dtype(largest: float) -> torch.dtype:
    """The storage type under `auto`: float16 where it holds ROOM times the largest number measured, else bfloat16."""
    fits = largest * ROOM <= torch.finfo(torch.float16).max
    return torch.float16 if fits else torch.bfloat16


class States:
    """A layer's stored states; rows are read as float32."""

    def __init__(self, values: Tensor, scale: Tensor | None = None) -> None:
        """values: [n_rows, d_model]; scale: [n_rows], for int8."""
        self._values, self._scale = values, scale

    @property
    def shape(self) -> torch.Size:
        return self._values.shape

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """rows: a slice or int64 [n] → float32 [n, d_model]."""
        values = self._values[rows].float()
        return values if self._scale is None else values.mul_(self._scale[rows, None])


_File = TypeVar("_File", bound="TensorFile")


class TensorFile:
    """Fills the tensors of a reserved file in place, rows at a time. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.stored = _load(path)
        self._offsets = dict(zip(self.stored, _offsets(path), strict=True))
        self._file = os.open(path, os.O_RDWR)

    def put(self, name: str, start: int, rows: Tensor) -> None:
        """Write rows [n, …] of the tensor's own type at row `start`."""
        kept = self.stored[name]
        assert (rows.dtype, rows.shape[1:]) == (kept.dtype, kept.shape[1:])
        data = memoryview(rows.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        place = self._offsets[name] + start * kept.dtype.itemsize * kept.shape[1:].numel()
        while data:
            count = os.pwrite(self._file, data, place)
            data, place = data[count:], place + count

    def sync(self) -> None:
        """Return when what was written is on the disk."""
        os.fsync(self._file)

    def __enter__(self: _File) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


class StatesWriter(TensorFile):
    """Writes a layer's states."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.dtype, self._width = self.stored["states"].dtype, self.stored["states"].shape[1]

    @property
    def row_bytes(self) -> int:
        return row_bytes(self._width, self.dtype)

    def write(self, start: int, rows: Tensor, *, clamped: bool = False) -> bool:
        """Store rows [n, d_model] of any float type from row `start` on.

        Returns False, and stores nothing, where one is not finite or too large for the type; with `clamped`, finite
        numbers beyond it are stored as its largest.
        """
        if clamped and bool(torch.isfinite(rows).all()):
            bound = torch.finfo(self.dtype).max
            rows = rows.float().clamp(-bound, bound)
        low, high = torch.aminmax(rows)  # NaN where there is one
        largest = torch.finfo(rows.dtype if self.dtype == torch.int8 else self.dtype).max
        if not (bool(high <= largest) and bool(low >= -largest)):
            return False
        values = rows
        if self.dtype == torch.int8:
            values, scale = quantise(rows)
            self.put("scale", start, scale)
        self.put("states", start, values.to(self.dtype))
        return True


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 with a scale a row: rows [n, d_model] → int8 [n, d_model], float32 [n]; rows ≈ int8 · scale."""
    scale = rows.abs().amax(1).float() / QUANTISED_MAX
    steps = rows / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return steps.round_().clamp_(-QUANTISED_MAX, QUANTISED_MAX).to(torch.int8), scale


def row_bytes(d_model: int, dtype: torch.dtype) -> int:
    """Bytes that a row takes, its scale included."""
    return d_model * dtype.itemsize + (SCALE_BYTES if dtype == torch.int8 else 0)


def reserve(path: Path, n_rows: int, d_model: int, dtype: torch.dtype) -> None:
    """Create a layer's states file of zeros; see `reserve_tensors`."""
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"states": ((n_rows, d_model), dtype)}
    if dtype == torch.int8:
        shapes["scale"] = ((n_rows,), torch.float32)
    reserve_tensors(path, shapes)


def reserve_tensors(path: Path, shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
    """Create a file of tensors of zeros with its blocks allocated, so that a full disk shows now, as OSError.

    A kill on the way may leave files of other names in its folder.
    """
    with contextlib.ExitStack() as stack, torch.serialization.skip_data():
        tensors = {}
        for name, (shape, kind) in shapes.items():
            # A shared map of a sparse file: a tensor of any size that takes neither memory nor disk.
            sparse = stack.enter_context(tempfile.NamedTemporaryFile(dir=path.parent))
            size = torch.Size(shape).numel()
            sparse.truncate(size * kind.itemsize)
            tensors[name] = torch.from_file(sparse.name, shared=True, size=size, dtype=kind).view(shape)
        torch.save(tensors, path)
    take_room(path)
    fsync(path)


def open_states(path: Path) -> States:
    """The states of a file, memory-mapped. Raises CorruptInputError."""
    stored = _load(path)
    if "states" not in stored:
        raise CorruptInputError(f"{path} is not a states file: it has no 'states'")
    values, scale = stored["states"], stored.get("scale")
    if (values.dtype == torch.int8) != (scale is not None) or (
        scale is not None and len(scale) != len(values)
    ):
        raise CorruptInputError(f"{path}: int8 states need a scale a row, and others none; run extract again")
    return States(values, scale)


def _load(path: Path) -> dict[str, Tensor]:
    with whole(path, "run extract again", "states file"):
        stored = dict(torch.load(path, mmap=True, weights_only=True))
        for tensor in stored.values():
            tensor.shape  # noqa: B018
    return stored


def _offsets(path: Path) -> list[int]:
    """Where the data of each tensor of a torch file begins, in the order in which they were saved."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        entries.sort(key=lambda entry: int(entry.filename.rsplit("/", 1)[1]))
        offsets = []
        for entry in entries:
            # lengths of name and padding, in the local header of 30 bytes
            file.seek(entry.header_offset + 26)
            lengths = file.read(4)
            name, extra = (int.from_bytes(lengths[at : at + 2], "little") for at in (0, 2))
            offsets.append(entry.header_offset + 30 + name + extra)
        return offsets
