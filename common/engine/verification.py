"""Whether published files still are what their manifests say: hashed, or known to be unchanged since they were.

A file is known by its size, its times of change and of status change, and its inode. Damage can leave all of them as they
are, so what is about to be read is hashed again unless that was done a short while ago.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ghosttrack.common.engine.entry import MEND, Entry
from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.files import content_of, sha256_of, stamp_of

TRUSTED_TO_READ = 600.0
"""Seconds for which a file that was hashed may be read without being hashed again."""
TRUSTED_TO_PLAN = 7 * 86400.0
"""Seconds for which a file that was hashed counts as whole, while nobody reads it."""

Mark = list[int]
"""Of a file that was found good: size, mtime and ctime in nanoseconds, inode, and when it was hashed (epoch nanoseconds)."""
_MARKS = TypeAdapter(dict[str, Mark])


def marks_in(record: Path) -> dict[str, Mark]:
    """What was found good before; {} where the record is missing, unreadable or not such a record."""
    try:
        return {
            name: mark
            for name, mark in _MARKS.validate_json(content_of(record), strict=True).items()
            if len(mark) == 5
        }
    except (OSError, ValidationError, ValueError, RecursionError):
        return {}


def later(*known: Mapping[str, Mark]) -> dict[str, Mark]:
    """Of each file the mark that was made last."""
    marks = [item for each in known for item in each.items()]
    return dict(sorted(marks, key=lambda item: item[1][-1]))


def to_bytes(marks: Mapping[str, Mark]) -> bytes:
    return json.dumps(dict(marks)).encode()


def mark_of(path: Path) -> Mark:
    """Of a file whose content is hashed now. Raises OSError."""
    return [*stamp_of(path), time.time_ns()]


def checked(entry: Entry, name: str, known: Mark | None, trusted_for: float) -> Mark:
    """The mark of a file that matches its manifest; hashed unless that was done less than `trusted_for` seconds ago.

    Raises MissingInputError or CorruptInputError naming the file and the mend, StorageError where it cannot be read.
    """
    if name not in entry.manifest.files:
        raise MissingInputError(
            f"{entry.path} has no file {name!r}; run the stage again with the same configuration"
        )
    path, subject = entry.file(name), entry.manifest.files[name]
    try:
        before = mark_of(path)
        if before[0] != subject.size:
            raise CorruptInputError(f"{path} has {before[0]} bytes and should have {subject.size}; {MEND}")
        if known and known[:4] == before[:4] and 0 <= before[4] - known[4] < trusted_for * 1e9:
            return known
        found = sha256_of(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingInputError(f"{path} is gone; {MEND}") from error
    except OSError as error:
        raise storage_error(error, path, "read") or error from error
    if found != subject.sha256:
        raise CorruptInputError(
            f"{path} does not match its manifest (sha256 {found[:12]}…, recorded {subject.sha256[:12]}…); {MEND}"
        )
    return before
