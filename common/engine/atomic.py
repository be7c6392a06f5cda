"""Changes of the file system that happen whole or not at all; what they need meanwhile lies where nobody looks."""

import contextlib
import itertools
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ghosttrack.common.errors import StorageError
from ghosttrack.common.files import fsync, make_folder, remove_folder, target_of

LEFT_OVER_AFTER = 3600.0
"""Seconds after which a temporary file is nobody's any more: they live for milliseconds."""
_numbers = itertools.count()


def replace(path: Path, content: bytes, temporary: Path) -> None:
    """Write a file by a rename, brought to the disk. temporary: a folder on the same file system."""
    fresh = _written(content, temporary)
    try:
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def write(path: Path, text: str) -> None:
    """Write a file where somebody wants it, whole or not at all; through a link, or to what is no file (/dev/stdout), as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf-8")
    else:
        replace(path, text.encode(), path.parent)


def create(path: Path, content: bytes, temporary: Path) -> bool:
    """Create a file with its content in one step; False if it exists."""
    fresh = _written(content, temporary)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` as the block ends well: a kill leaves the old one or the new one.

    What a killed one has left beside it, the next one removes.
    """
    path = path.resolve()
    new, old = (path.with_name(f".{path.name}.{which}") for which in ("new", "old"))
    if old.exists() and not path.exists():  # killed between the two renames
        old.rename(path)
    remove_folder(new)
    new.mkdir(parents=True)
    try:
        yield new
        if path.exists():
            remove_folder(old)
            path.rename(old)
        new.rename(path)
        remove_folder(old)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def link(path: Path, target: str, fresh: Path) -> None:
    """Make `path` a relative link to `target`, atomically, unless it is one already.

    fresh: what the link is called before it is renamed, on the same file system; one that a killed run left is used up.
    Only who may write `path` calls this, so that two never share the name. Raises StorageError for a file of the user's.
    """
    if target_of(path) == target:
        fresh.unlink(missing_ok=True)
        return
    make_folder(path.parent)
    if path.exists() and not path.is_symlink():
        raise StorageError(f"{path} was not made by GhostTrack; move it away, then run again")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
    fsync(path.parent)


def sweep(temporary: Path) -> None:
    """Remove what killed runs left among the temporary files."""
    with contextlib.suppress(OSError):
        for left in temporary.iterdir():
            with contextlib.suppress(OSError):
                if abs(time.time() - left.lstat().st_mtime) > LEFT_OVER_AFTER:
                    remove(left)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or a file or link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def fresh_path(temporary: Path) -> Path:
    """A name that no other process has, in a folder that is there."""
    temporary.mkdir(parents=True, exist_ok=True)
    number = f"{os.getpid()}-{threading.get_ident()}-{next(_numbers)}-{time.time_ns()}"
    return temporary / f"{socket.gethostname()}-{number}"


def _written(content: bytes, temporary: Path) -> Path:
    path = fresh_path(temporary)
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return path
