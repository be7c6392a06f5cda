"""The one place that turns what a file system refuses, however a library words it, into a StorageError with its mend."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ghosttrack.common.errors import StorageError

ANOTHER_ROOT = "choose another root with --set paths.root=…"
MENDS = {
    errno.ENOSPC: f"the disk is full; free some space or {ANOTHER_ROOT}",
    errno.EDQUOT: f"the quota is used up; free some space or {ANOTHER_ROOT}",
    errno.EROFS: f"the file system is read-only; {ANOTHER_ROOT}",
    errno.EACCES: f"permission denied; ask the owner for it or {ANOTHER_ROOT}",
    errno.EPERM: f"permission denied; ask the owner for it or {ANOTHER_ROOT}",
    errno.ENOTDIR: "a file stands where a folder should be; move it away",
    errno.EEXIST: "something of that name is there already; move it away",
    errno.ENOTEMPTY: "something is being written into it; run again when that is done",
    errno.EISDIR: "a folder stands where a file should be; move it away",
    errno.EFBIG: "the file would exceed the size limit of this file system or shell (ulimit -f)",
    errno.EIO: "the device reports an input/output error; check the disk, then run again",
    errno.ESTALE: "the network file system lost the file's handle (stale); run again, it goes on from here",
    errno.EMFILE: "this process may open no more files (ulimit -n); raise the limit, then run again",
    errno.ENFILE: "this machine has no more file handles; end what holds them, then run again",
    errno.ENAMETOOLONG: "the name is longer than the file system takes; choose a shorter one",
    errno.ELOOP: "a link stands where a file should be, or links go round in a circle; correct them",
    errno.ENODEV: "the device is gone; mount it again, then run again",
    errno.ENXIO: "the device is gone, or it is a pipe; mount it again, or move it away, then run again",
    errno.ENOTCONN: "the file system is not connected; mount it again, then run again",
    errno.EREMOTEIO: "the file system's server reports an input/output error; run again when it is well",
    errno.EXDEV: "the store lies on several file systems; keep all of it on one, since results are published by renames",
    errno.ENOLCK: "the file system has no locks left; run again, or mount it with locks",
    errno.EBUSY: "the file is in use; run again when it is free",
    errno.EDEADLK: "the file system reports a deadlock; run again",
    errno.EINTR: "the file system was interrupted at it; run again",
    errno.ETIMEDOUT: "the file system's server does not answer in time; run again when it does",
    errno.EUCLEAN: "the file system is damaged; have it checked, then run again",
    errno.EBADMSG: "the file system finds it damaged on the disk; have it checked, then run again",
    errno.EKEYEXPIRED: "the key to the file system has expired; log in again, then run again",
    errno.ENOMEM: "the machine is out of memory; run again with more",
}
_CODE = re.compile(r"(?:os error |\[?errno )(\d+)", re.IGNORECASE)
_WRITERS = re.compile(
    r"PytorchStreamWriter|inline_container|unexpected pos|file write failed|requested and -?\d+ written|I/O error|"
    r"error writing|write failed|failed writing",
    re.IGNORECASE,
)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the file system's refusals into one clear StorageError about `path`."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        found = storage_error(error, path)
        if found is None:
            raise
        raise found from error


def storage_error(error: BaseException, path: Path | None = None, doing: str = "use") -> StorageError | None:
    """The StorageError that an exception is, or None if it is something else.

    torch, safetensors, pyarrow and numpy say what went wrong in words only, or in nothing but the fact that a write
    ended early: there the file system is asked whether it is full. path: what was worked on, where the error does not
    say it.
    """
    code = _errno_of(error)
    if code is None and _is_of_a_writer(error):
        code = _asked(path)
    mend = MENDS.get(code) if code is not None else None
    if mend is None:
        return None
    # of a rename, what it should be
    named = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    place = path if named is None else named
    if isinstance(place, int):  # a descriptor
        place = path
    return StorageError(f"cannot {doing} {place or 'a file'}: {mend}")


def gone(error: BaseException) -> StorageError | None:
    """The StorageError that a missing file is where nobody has asked whether it is there: it vanished during the work, or is to be
    made where a file system takes none (/proc). None for another exception."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return StorageError(
            f"cannot use {error.filename}: it is gone, or nothing can be made there; see that the folder stays, or choose another"
        )
    return None


def _errno_of(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, OSError) or _is_of_a_writer(error):
        if code := _CODE.search(str(error)):
            return int(code[1])
        named = (code for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO) if os.strerror(code) in str(error))
        return next(named, None)
    # of pathlib before Python 3.13
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return errno.ELOOP
    return None


def _is_of_a_writer(error: BaseException) -> bool:
    module = type(error).__module__.split(".")[0]
    return (isinstance(error, (OSError, RuntimeError)) or module in ("safetensors", "safetensors_rust", "pyarrow")) and (
        bool(_WRITERS.search(str(error))) or bool(_CODE.search(str(error)))
    )  # fmt: skip


def _asked(path: Path | None) -> int:
    """Why a write may have ended early, as far as the file system tells: no space, or a fault of the device."""
    for folder in [path, *path.parents] if path else []:
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            is_full = status.f_bavail * status.f_frsize < 1 << 20 or not status.f_favail
            return errno.ENOSPC if is_full else errno.EIO
    return errno.EIO
