"""Hidden-state files: plain torch files that are reserved at full size and filled in place.

`torch.load(path, mmap=True, weights_only=True)["states"]` reads one: [n_tokens, d_model], block
outputs of one layer, in the order of the corpus. Writing through a shared memory map keeps memory
use independent of the number of tokens.
"""

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from common.errors import CorruptInputError

MAP_SHARED = 1


def reserve(path: Path, n_tokens: int, d_model: int, dtype: torch.dtype) -> None:
    """Create a states file of zeros with its blocks allocated, so that a full disk shows now, as OSError."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as sparse:
        # A shared map of a sparse file: a tensor of any size that takes neither memory nor disk.
        sparse.truncate(n_tokens * d_model * dtype.itemsize)
        shape = torch.from_file(sparse.name, shared=True, size=n_tokens * d_model, dtype=dtype)
        shape = shape.view(n_tokens, d_model)
        with torch.serialization.skip_data():
            torch.save({"states": shape}, path)
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        os.fsync(file.fileno())


def open_for_writing(path: Path) -> Tensor:
    """The states of a reserved file; assignments to rows go to the file."""
    with torch.serialization.set_default_mmap_options(MAP_SHARED):
        return torch.load(path, mmap=True, weights_only=True)["states"]


def open_states(path: Path) -> Tensor:
    """The states of a file, memory-mapped: [n_tokens, d_model]. Raises CorruptInputError."""
    try:
        return torch.load(path, mmap=True, weights_only=True)["states"]
    except (RuntimeError, KeyError, EOFError, ValueError) as error:
        raise CorruptInputError(f"{path} is not a states file: {error}") from error
