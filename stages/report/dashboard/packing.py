"""Data of the page: a JSON header and typed columns, compressed; as text, in base64.

A block is gzip of `header length (uint32, little endian), header (UTF-8 JSON, padded with spaces), columns`. The header
names each column with its type, its length and where it begins after the header; all begin at a multiple of eight.
Numbers of the results stand in columns as whole thousandths, so that a page shows what a file has to three decimals.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISSING = -(2**31)
"""NaN among thousandths."""


def pack(header: Any, columns: Mapping[str, NDArray[Any]] | None = None) -> str:
    """One block as text."""
    return base64.b64encode(packed(header, columns)).decode("ascii")


def packed(header: Any, columns: Mapping[str, NDArray[Any]] | None = None, level: int = 6) -> bytes:
    """One block. columns: integer arrays; each is stored in the narrowest type that holds it."""
    pieces: list[bytes] = []
    described: dict[str, list[Any]] = {}
    offset = 0
    for name, values in (columns or {}).items():
        narrow = np.ascontiguousarray(values, dtype=narrowest(values))
        content = narrow.tobytes()
        described[name] = [narrow.dtype.name, len(narrow), offset]
        pieces.append(content + b"\0" * (-len(content) % 8))
        offset += len(pieces[-1])
    head = json.dumps(
        {"data": header, "columns": described}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    head += b" " * (-(len(head) + 4) % 8)
    raw = b"".join([len(head).to_bytes(4, "little"), head, *pieces])
    return gzip.compress(raw, level, mtime=0)


def thousandths(values: ArrayLike) -> NDArray[np.int32]:
    """Whole thousandths, rounded half to even as text formatting does; MISSING for NaN."""
    numbers = np.asarray(values, dtype=np.float64) * 1000
    return np.where(np.isfinite(numbers), np.rint(np.clip(numbers, -2e9, 2e9)), MISSING).astype(np.int32)


def narrowest(values: NDArray[Any]) -> np.dtype[Any]:
    """int8, int16 or int32, by the range. Raises OverflowError beyond 32 bits."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in (np.int8, np.int16, np.int32):
        bounds = np.iinfo(kind)
        if bounds.min <= low and high <= bounds.max:
            return np.dtype(kind)
    raise OverflowError(f"{low} to {high} do not fit 32 bits")
