"""Local sources by content: a task key holds what a file says, never where it lies."""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ghosttrack.common.errors import ConfigError
from ghosttrack.common.files import as_path, remembered_sha256, sha256_of, stamp_of
from ghosttrack.common.models.source import MINIATURE, PACKAGE_PREFIX

SOURCE_KEYS = (
    "data.questions", "data.corpus", "data.asked", "data.judge", "model.base_model", "model.chat",
    "detection.transfer",
)  # fmt: skip
"""Configuration keys that may name a local file or folder."""
HUB_PREFIX = "hub:"
"""Before a data set's name, or a local folder that is laid out like one."""
FACTBOOK = "factbook"
FACTBOOK_QUESTIONS = "factbook-questions"
"""Its facts asked for in questions, not as sentences to complete."""
FACTBOOK_PROFILES = "factbook-profiles"
"""Ten facts of a country asked for at once."""
WORDS = {
    "data.questions": (FACTBOOK, FACTBOOK_QUESTIONS, FACTBOOK_PROFILES),
    "data.corpus": (FACTBOOK,),
    "data.judge": (MINIATURE,),
    "model.base_model": (MINIATURE,),
    "model.chat": ("auto", "none"),
}
"""Values that are words of a key: there they win over a file of that name, which is written `./auto`."""
SMALL_BYTES = 1 << 20
"""Up to this size a file is hashed by every process; the digest of a larger one is remembered beside it."""
SAE_FILES = ("cfg.json", "sae_weights.safetensors")
"""Of a SAELens folder, those that make the SAE."""
GEMMA_SCOPE_FILES = ("params.npz",)
LLAMA_SCOPE_FILES = ("hyperparams.json", "checkpoints/final.safetensors")
RELEASE_PREFIX = "release:"
"""Before `<release>/<SAE id>`, names of SAELens' directory of pretrained SAEs."""


def content_of(value: object, key: str | None = None) -> object:
    """`sha256:…` of the content where `value` is the path of a local file or folder; else `value` itself.

    key: the configuration key that it is the value of, one of `SOURCE_KEYS`, whose words it may be. Of a list, what that is
    of each.

    A package is named by its distribution and file, which its version fixes. Raises ConfigError for a file that cannot be
    read.
    """
    if isinstance(value, list):
        return [content_of(each, key) for each in value]
    path = local_path(value, key)
    if path is None:
        return value
    try:
        digest = _of_folder(path) if path.is_dir() else _of_file(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; correct its permissions") from error
    return f"{HUB_PREFIX if str(value).startswith(HUB_PREFIX) else ''}sha256:{digest}"


def local_path(value: object, key: str | None = None) -> Path | None:
    """The file or folder of this machine that a source names, if it names one. key: as of `content_of`."""
    if not isinstance(value, str) or value in WORDS.get(key or "", ()) or value.startswith(PACKAGE_PREFIX):
        return None
    try:
        path = as_path(value.removeprefix(HUB_PREFIX))
        # a device or a pipe has no content of its own
        return path if path.is_file() or path.is_dir() else None
    except (OSError, RuntimeError):  # a name too long for a file; a home that is not there
        return None


def name_of(source: str) -> str:
    """What a source is called where this machine is not known: of a path its last part, else the source itself."""
    bare = source.removeprefix(HUB_PREFIX)
    if local_path(source) is None and not bare.startswith(("/", "./", "../", "~")):
        return source
    return Path(os.path.abspath(os.path.expanduser(bare))).name


def content_of_sae(place: Path) -> str | None:
    """`sha256:…` of the files that make a pretrained SAE, weights whole: two of one shape differ only there.

    A release counts by its name. None where a file is missing or cannot be read.
    """
    if str(place).startswith(RELEASE_PREFIX):
        return str(place)
    forms = (SAE_FILES, GEMMA_SCOPE_FILES, LLAMA_SCOPE_FILES)
    names = next((names for names in forms if (place / names[0]).is_file()), SAE_FILES)
    files = [place] if place.suffix == ".npz" else [place / name for name in names]
    try:
        digests = [remembered_sha256(file) for file in files]
    except OSError:
        return None
    return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


def _of_folder(folder: Path) -> str:
    """Names and contents of all files, but for hidden ones, which no reader of a model or data set opens."""
    digest = hashlib.sha256()
    for file in sorted(_files_below(folder, {folder.resolve()})):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{_of_file(file)}\0".encode())
    return digest.hexdigest()


def _files_below(folder: Path, above: set[Path]) -> Iterator[Path]:
    """Through links too, but for those that lead back to a folder above."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (real := entry.resolve()) not in above:
                yield from _files_below(entry, above | {real})
        elif entry.is_file():
            yield entry


def _of_file(path: Path) -> str:
    if path.stat().st_size > SMALL_BYTES:
        return remembered_sha256(path)
    return _of_small_file(path, stamp_of(path))


@functools.lru_cache(maxsize=4096)
def _of_small_file(path: Path, stamp: tuple[int, ...]) -> str:
    return sha256_of(path)
