"""What the page reads of a block."""

import base64
import gzip
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpack(block: str) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The inverse of `packing.pack`."""
    raw = gzip.decompress(base64.b64decode(block))
    length = int.from_bytes(raw[:4], "little")
    head = json.loads(raw[4 : 4 + length])
    columns = {
        name: np.frombuffer(raw, dtype, count, 4 + length + offset)
        for name, (dtype, count, offset) in head["columns"].items()
    }
    return head["data"], columns
