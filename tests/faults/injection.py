"""Lets a piece of work die, or a file operation of it fail, at exactly the n-th one: in a forked process, by audit events.

Python tells its audit hooks of every file that is opened, renamed, linked, removed, … before it is (PEP 578), whichever
library asks for it; an error that the hook raises becomes the operation's own. `os.fsync` has no event and is replaced.
"""

import errno
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CHANGES = {
    "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.utime", "fsync",
}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
Watch = Literal["changes", "all"]


@dataclass(frozen=True)
class Outcome:
    code: int
    """Exit code; -9 where it was killed."""
    said: str
    """Its traceback, if it ended in one."""
    operations: int
    """File operations under the root that were counted."""


class Injection:
    """Counts file operations under a root; at number `at` it kills the process, or raises OSError with `code`."""

    def __init__(self, root: Path, at: int | None, code: int | None, watch: Watch, power: bool) -> None:
        self.root, self.at, self.code, self.watch, self.power = str(root), at, code, watch, power
        self.count = 0
        self.busy = False
        self.on_disk: dict[int, tuple[int, int]] = {}

    def arm(self) -> None:
        real = os.fsync
        if self.power:
            self.on_disk = {inode: stamp for inode, stamp, _ in self._files()}

        def fsync(descriptor: int) -> None:
            self("fsync", (self.root,))
            real(descriptor)
            status = os.fstat(descriptor)
            self.on_disk[status.st_ino] = (status.st_size, status.st_mtime_ns)

        os.fsync = fsync
        sys.addaudithook(self)

    def _files(self) -> Iterator[tuple[int, tuple[int, int], str]]:
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield status.st_ino, (status.st_size, status.st_mtime_ns), path

    def lose_what_is_not_on_disk(self) -> None:
        """The names are there and the content is not, as after a power cut where metadata is journalled and data is not."""
        for inode, stamp, path in list(self._files()):
            if self.on_disk.get(inode) != stamp:
                os.chmod(path, 0o644)
                os.truncate(path, 0)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or (event != "open" and event not in CHANGES):
            return
        path = arguments[0]
        if isinstance(path, int) or path is None:
            return
        if event == "open" and self.watch == "changes" and not (arguments[2] or 0) & WRITING:
            return
        if not os.fsdecode(path).startswith(self.root):
            return
        if self.count == self.at:
            self.busy = True
            if self.code is None:
                if self.power:
                    self.lose_what_is_not_on_disk()
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                self.count += 1
                self.busy = False
                raise OSError(self.code, os.strerror(self.code), os.fsdecode(path))
        self.count += 1


def run(
    work: Callable[[], int],
    root: Path,
    at: int | None = None,
    code: int | None = None,
    watch: Watch = "changes",
    power: bool = False,
) -> Outcome:
    """Do `work` in a forked process; it gives an exit code. at: the operation at which it is killed, or fails with `code`.

    power: with the process ends the machine, and what was not fsynced is lost.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        ended, said = 1, ""
        injection = Injection(root, at, code, watch, power)
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            injection.arm()
            ended = work()
        except BaseException:
            said = traceback.format_exc()
        finally:
            injection.busy = True
            os.write(writer, f"{injection.count}\n{said[-3000:]}".encode(errors="replace"))
            os._exit(ended)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as file:
        count, _, said = file.read().partition("\n")
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), said, int(count or 0))


EVERYDAY = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOLCK, errno.EREMOTEIO,
)  # fmt: skip
"""What a file system answers on a bad day."""
