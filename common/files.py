"""Digests of files, finding them where others work, and bringing them to the disk."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TextIO

from ghosttrack.common.errors import ConfigError

LONGEST_RECORD = 1 << 25
"""Bytes; as JSON it takes thirty times as much memory at worst."""
LOOKS = 100
"""Times that a folder is looked at anew before a change in each of them is an error: one in two is rare."""


def as_path(text: str) -> Path:
    """A path as somebody writes it: `~` and `~user` are homes, of users that there are; all else is taken literally."""
    return Path(os.path.expanduser(text))


def root_folder(root: str) -> Path:
    """The absolute folder that `paths.root` names: a path, or a `file://` URL. Raises ConfigError for other protocols, and for a
    name that is no text."""
    protocol = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)", root)
    if protocol and root.startswith("file://"):
        root = root.removeprefix("file://")
    elif protocol:
        raise ConfigError(
            f"paths.root: {root!r} is no folder; results are published by renames, which {protocol[1]} does not have: "
            "give a folder of a local or shared file system, and copy finished results from there"
        )
    folder = Path(os.path.abspath(os.path.expanduser(root)))
    # Halves of characters are how Python holds bytes that are no characters.
    if any("\ud800" <= character <= "\udfff" for character in str(folder)):
        raise ConfigError(
            f"paths.root: the name of {folder} is no text here, and results have to name it; choose another folder, or a locale "
            "with UTF-8 (LC_ALL=C.UTF-8)"
        )
    return folder


def found(folder: Path, pattern: str) -> list[Path]:
    """What `folder.glob(pattern)` finds, sorted, where other processes make and remove folders meanwhile.

    pathlib looks into a folder after it has seen it, and raises FileNotFoundError where it has gone in between: then it is
    looked at anew. Raises OSError otherwise.
    """
    for _ in range(LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return sorted(folder.glob(pattern))
    return sorted(folder.glob(pattern))


def target_of(path: Path) -> str | None:
    """Where a symbolic link leads; None for what is none, or is gone."""
    try:
        return os.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is, by links on the way, elsewhere: who can write there must not choose what is removed."""
    return not path.resolve().is_relative_to(folder.resolve())


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it, whoever removes some of it meanwhile. Raises OSError for what cannot be removed."""
    while path.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def content_of(path: Path) -> bytes:
    """The bytes of a record of ours. Raises OSError; FileNotFoundError, too, for what is longer than any record."""
    if status_of(path).st_size > LONGEST_RECORD:
        raise FileNotFoundError(errno.ENOENT, "it is no record", str(path))
    return path.read_bytes()


def status_of(path: Path) -> os.stat_result:
    """Of what is about to be read. Raises OSError; FileNotFoundError, too, for a pipe, a socket or a device, which would be
    waited for or has no end."""
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))
    return status


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """sha256, remembered beside the file for as long as its size, both its times and its inode are the same.

    Writing sets the time of change (ctime) even where the time of modification is put back. Raises OSError.
    """
    beside, stamp = path.with_name(f".{path.name}.sha256"), list(stamp_of(path))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        known = json.loads(content_of(beside))
        if known["stamp"] == stamp:
            return str(known["sha256"])
    digest = sha256_of(path)
    # In a folder that is not ours it is hashed each time; where a link or a pipe came with somebody's files, too.
    with contextlib.suppress(OSError), open(beside, "w", opener=_open_no_link) as file:
        file.write(json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def append_to(path: Path) -> TextIO:
    """A log, opened to add to it. Raises OSError; for a link or a pipe that others have put in its place, too."""
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_open_no_link)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def stamp_of(path: Path) -> tuple[int, int, int, int]:
    """Size, time of modification, time of change and inode: other where the content has become another. Raises as `status_of`."""
    status = status_of(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def fsync(path: Path) -> None:
    """Bring what was written to a file, through a shared memory map too, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, their names brought to the disk: what is published in one must not lose it."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync(path.parent)


def take_room(path: Path) -> None:
    """Take the room on the disk for all of a file that was made with its full length but holes; raises OSError.

    Without it a write through a memory map to a disk that has become full is no error but the end of the process (SIGBUS).
    """
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
