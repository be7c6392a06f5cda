"""Files gone wrong in every way that a seed gives: values replaced anywhere in JSON, bytes cut and flipped."""

import copy
import json
import random
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

from ghosttrack.common.errors import GhostTrackError

VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**9, 10**16, 10**400, 1e308, float("inf"), float("nan"), 0.5, 1e-300, "", "x" * 300, "../../x",
    "/dev/zero", "~nosuchuser/x", "foo://x", "hub:x", "package:", "package:/x", "release:x", "a\nb", "\ud800", "\x00", "\x1b[2J", "\u2028",
    "{layer", "{x.__class__}", "%s", "=1+1", "名前", "🙂", [], {}, [[]], [None], ["a", "b"], ["\ud800"], [1.5], {"a": {"b": []}},
    {"text": []}, {"k": "abc"}, [[0, 10**30, 1]], "topk", "batchtopk", "gated", "llama", "evil",
]  # fmt: skip
CONTENTS = [
    b"", b"null", b"[]", b"{}", b"1", b'"x"', b"{", b"[" * 100_000, b'{"a":' * 20_000, b"\xff\xfe", b"\x00" * 99, b'{"a": NaN}',
    b"1" * 6000, b"PK\x03\x04" + b"\x00" * 60, b"PAR1" + b"\x01" * 50 + b"PAR1", b"\x93NUMPY\x01\x00", b"GGUF\x03\x00\x00\x00",
    (10**12).to_bytes(8, "little") + b"{}", b"\n" * 1000, b"\x80\x04.",
]  # fmt: skip
SECONDS, BYTES = 20.0, 2 << 30
PATIENCE = 120.0
"""Seconds of wall time, for what computes nothing: a loaded machine makes the rest take longer."""


def changed(value: Any, chance: random.Random, more: Sequence[str] = ()) -> Any:
    """A copy of JSON data with one to three of its values replaced, or taken away. more: keys that may be added."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 2, 3])):
        place: Any = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if isinstance(place, dict) and chance.random() < 0.3:
                keys += more
            if not keys:
                break
            key = chance.choice(keys)
            inner = place.get(key) if isinstance(place, dict) else place[key]
            if isinstance(inner, (dict, list)) and inner and chance.random() < 0.75:
                place = inner
            elif isinstance(place, dict) and chance.random() < 0.15:
                place.pop(key, None)
                break
            else:
                place[key] = copy.deepcopy(chance.choice(VALUES))
                break
    return value


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file's bytes as they are, cut, with bits changed, or others."""
    kind = chance.random()
    if kind < 0.5 or not content:
        return content
    if kind < 0.65:
        return content[: chance.randrange(len(content))]
    if kind < 0.9:
        bits = bytearray(content)
        reach = min(len(bits), chance.choice([60, 400, 10**6]))
        for _ in range(chance.choice([1, 3, 20])):
            bits[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        return bytes(bits)
    return chance.choice(CONTENTS)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def is_taken_or_refused(use: Callable[[], object]) -> bool:
    """Whether something ends well or in one line, within what time and memory it may take. Other errors pass through."""
    started, waited, before = (
        time.process_time(),
        time.monotonic(),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )
    try:
        use()
    except GhostTrackError as error:
        if not str(error).isprintable() and any(ord(character) < 32 for character in str(error)):
            return False
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    in_time = time.process_time() - started < SECONDS and time.monotonic() - waited < PATIENCE
    return in_time and taken < BYTES
