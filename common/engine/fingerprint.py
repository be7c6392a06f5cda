"""Local sources by content: a task key holds what a file says, never where it lies."""

import hashlib
from functools import lru_cache
from pathlib import Path

from ghosttrack.common.files import remembered_sha256, sha256_of

SOURCE_KEYS = ("data.questions", "data.corpus", "data.asked", "model.base_model", "detection.transfer")
"""Configuration keys that may name a local file or folder."""
HASHED_BYTES = 1 << 20
"""Files of a folder up to this size are hashed; of larger ones (weights) name and size count."""
SAE_FILES = ("cfg.json", "sae_weights.safetensors")
"""Of a SAELens folder, those that make the SAE."""


def content_of(value: object) -> object:
    """`sha256:…` of the content where `value` is the path of a local file or folder; else `value` itself."""
    if not isinstance(value, str) or ":" in value:
        return value
    path = Path(value).expanduser()
    if path.is_file():
        return f"sha256:{_of_file(path, path.stat().st_size, path.stat().st_mtime_ns)}"
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            status = file.stat()
            digest.update(f"{file.relative_to(path).as_posix()}\0{status.st_size}\0".encode())
            if status.st_size <= HASHED_BYTES:
                digest.update(_of_file(file, status.st_size, status.st_mtime_ns).encode())
        return f"sha256:{digest.hexdigest()}"
    return value


def content_of_sae(folder: Path) -> str | None:
    """`sha256:…` of the files that make a SAELens SAE, weights whole: two of one shape differ only there.

    None where one is missing or cannot be read.
    """
    try:
        digests = [remembered_sha256(folder / name) for name in SAE_FILES]
    except OSError:
        return None
    return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


@lru_cache(maxsize=1024)
def _of_file(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)
