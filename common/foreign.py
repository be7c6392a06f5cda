"""Files that somebody else wrote, or that a disk has damaged: every way in which one can be wrong is one error about it.

The libraries that read them raise a dozen kinds each, and none of them promises which; so the place where a file is read is the
boundary, whatever comes out of it.
"""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import CorruptInputError, GhostTrackError, MissingInputError
from ghosttrack.common.files import content_of

MOST_BLOW_UP, HARMLESS = 50, 1 << 26
"""Times its size that a file may unpack to, and bytes up to which nobody asks."""


@contextlib.contextmanager
def whole(path: Path, mend: str, kind: str = "file") -> Iterator[None]:
    """What is read of `path` within is all there and well formed, or it is a GhostTrackError.

    Raises MissingInputError where it is gone, StorageError where it cannot be read, CorruptInputError for all else. kind: what
    the file should be; mend: what to do about it.
    """
    try:
        yield
    except GhostTrackError:
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"there is no {error.filename or path}; {mend}") from error
    except Exception as error:
        if found := storage_error(error, path, "read"):
            raise found from error
        raise CorruptInputError(f"{path} is not a whole {kind} ({in_short(error)}); {mend}") from error


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles of objects that nobody holds: where millions are made that all stay, it looks at
    them again and again, and takes several times what making them does."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError alone: for one that is nested too deep, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises OSError, FileNotFoundError for a pipe, a device and what is far too long, too; ValueError
    alone for its content."""
    return parse_json(content_of(path))


def refuse_bomb(path: Path, size: int) -> None:
    """Raises ValueError where so many bytes are more than a file that is no bomb unpacks to."""
    if size > max(HARMLESS, MOST_BLOW_UP * path.stat().st_size):
        raise ValueError(
            f"it unpacks to more than {MOST_BLOW_UP} times its size; write it anew, without packing"
        )


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a .npz file by name, without pickles. Raises whatever NumPy does, ValueError for a bomb."""
    import numpy as np  # late: most commands need none

    with np.load(path, allow_pickle=False) as stored:
        refuse_bomb(path, sum(member.file_size for member in stored.zip.infolist()))
        return dict(stored)


def in_short(error: BaseException) -> str:
    """What an exception of another library says, in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"
