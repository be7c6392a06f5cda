"""The header of a GGUF file: its metadata and how many weights it holds.

The package `gguf` reads a header too, and takes seconds for the vocabulary of 150,000 entries that is in it, which a
command that only asks for a model's width should not wait for. Layout: the GGUF specification, versions 2 and 3.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import ModelSourceError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
MOST_DIMENSIONS = 4
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Type of a value to its struct format."""


@dataclass(frozen=True)
class Header:
    values: dict[str, Any]
    """Key to value; of an array its length."""
    weights: int
    """Numbers in all tensors."""


def read(path: Path) -> Header:
    """Raises ModelSourceError for what is no GGUF file or ends too early."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header()
    except (OSError, ValueError, struct.error, UnicodeDecodeError, KeyError) as error:
        if found := storage_error(error, path, "read"):
            raise found from error
        raise ModelSourceError(
            f"{path} is not a GGUF file that can be read ({error or type(error).__name__}); fetch it again"
        ) from error


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def header(self) -> Header:
        if self._content[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version, tensors, keys = self._unpack("I"), self._unpack("Q"), self._unpack("Q")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, and {' and '.join(map(str, VERSIONS))} are read")
        values = {self._string(): self._value(self._unpack("I")) for _ in range(keys)}
        return Header(values, sum(self._tensor() for _ in range(tensors)))

    def _unpack(self, kind: str) -> Any:
        [value] = struct.unpack_from(f"<{kind}", self._content, self._at)
        self._at += struct.calcsize(f"<{kind}")
        return value

    def _string(self) -> str:
        length = self._unpack("Q")
        text = self._content[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", errors="replace")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._unpack(NUMBERS[kind])
        inner, count = self._unpack("I"), self._unpack("Q")
        if inner == STRING:
            for _ in range(count):
                self._at += 8 + struct.unpack_from("<Q", self._content, self._at)[0]
        elif inner == ARRAY:
            for _ in range(count):
                self._value(ARRAY)
        else:
            self._at += count * struct.calcsize(f"<{NUMBERS[inner]}")
        return count

    def _tensor(self) -> int:
        self._string()
        if (dimensions := self._unpack("I")) > MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions, and {MOST_DIMENSIONS} are the most")
        shape = [self._unpack("Q") for _ in range(dimensions)]
        self._unpack("I"), self._unpack("Q")  # its type and offset
        return math.prod(shape)
