"""Lets a piece of work die, or a file operation of it fail, at exactly the n-th one: in a forked process, by audit events.

Python tells its audit hooks of every file that is opened, renamed, linked, removed, … before it is (PEP 578), whichever
library asks for it; an error that the hook raises becomes the operation's own. `os.fsync` has no event and is replaced.
"""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import stat
import sys
import traceback
from collections.abc import Callable
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
    modules: tuple[str, ...] = ()
    """What it had imported in the end."""


Name = tuple[str, int | str]
"""What a name in a folder stands for: ("folder" or "file", inode), ("link", its target)."""


class Disk:
    """What a machine that ends finds again: contents and names that were brought to the disk since the work began.

    The strictest reading of POSIX: a file's content lasts when the file was fsynced, a name in a folder (made, renamed or
    removed) when the folder was. What was not may be there or not, each name for itself.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.removed = root, root.with_name(f".{root.name}.removed")
        shutil.rmtree(self.removed, ignore_errors=True)
        self.removed.mkdir()
        self.files, self.folders = self._now()
        self.contents = {inode: _stamp(path) for inode, path in self.files.items()}

    def _now(self) -> tuple[dict[int, Path], dict[int, dict[str, Name]]]:
        files, folders = {}, {}
        for folder, _, _ in os.walk(self.root):
            folders[os.stat(folder).st_ino] = names = _names(folder)
            files |= {value: Path(folder, name) for name, (kind, value) in names.items() if kind == "file"}
        return files, folders  # type: ignore[return-value]

    def brought(self, descriptor: int) -> None:
        """A file's content, or a folder's names, are on the disk now."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.folders[status.st_ino] = _names(f"/proc/self/fd/{descriptor}")
        else:
            self.contents[status.st_ino] = (status.st_size, status.st_mtime_ns)

    def keep(self, path: str) -> None:
        """A name goes; that may be undone, and its inode must not become another's."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                os.link(path, self.removed / str(status.st_ino))
            elif stat.S_ISDIR(status.st_mode):
                os.open(path, os.O_RDONLY)

    def lose(self, chance: random.Random) -> None:
        """Undo what is not on the disk: all of it in a third of the cases, else each name with a chance of a half."""
        files, now = self._now()
        files |= {int(path.name): path for path in self.removed.iterdir()}
        for inode, path in files.items():
            if self.contents.get(inode) != _stamp(path):
                path.chmod(0o644)
                os.truncate(path, 0)
        share = chance.choice((0.5, 0.5, 1.0))

        def build(inode: int, place: Path) -> None:
            place.mkdir()
            before, after = self.folders.get(inode, {}), now.get(inode, {})
            for name in sorted({*before, *after}):
                undone = before.get(name) != after.get(name) and chance.random() < share
                kind, value = (before if undone else after).get(name, ("", 0))
                if kind == "folder":
                    build(int(value), place / name)
                elif kind == "link":
                    (place / name).symlink_to(str(value))
                elif kind == "file":
                    (place / name).hardlink_to(files[int(value)])

        fresh, lost = (
            self.root.with_name(f".{self.root.name}.found"),
            self.root.with_name(f".{self.root.name}.lost"),
        )
        build(self.root.stat().st_ino, fresh)
        self.root.rename(lost)
        fresh.rename(self.root)
        shutil.rmtree(lost)
        shutil.rmtree(self.removed)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def _names(folder: str) -> dict[str, Name]:
    with os.scandir(folder) as found:
        return {
            entry.name: ("link", os.readlink(entry.path)) if entry.is_symlink()
            else ("folder" if entry.is_dir() else "file", entry.inode())
            for entry in found
        }  # fmt: skip


class Injection:
    """Counts file operations under a root; at number `at` it kills the process, or raises OSError with `code`."""

    def __init__(self, root: Path, at: int | None, code: int | None, watch: Watch, power: bool) -> None:
        self.root, self.at, self.code, self.watch = str(root), at, code, watch
        self.disk = Disk(root) if power else None
        self.count = 0
        self.busy = False

    def arm(self) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self("fsync", (self.root,))
            real(descriptor)
            if self.disk:
                self.busy = True
                self.disk.brought(descriptor)
                self.busy = False

        os.fsync = fsync
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or (event != "open" and event not in CHANGES):
            return
        path = arguments[0]
        if isinstance(path, int) or path is None:
            return
        if event == "open" and self.watch == "changes" and not (arguments[2] or 0) & WRITING:
            return
        path = os.fsdecode(path)
        # as shutil.rmtree does, within an open folder
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
        if not path.startswith(self.root):
            return
        self.busy = True
        if self.count == self.at:
            if self.code is None:
                if self.disk:
                    self.disk.lose(random.Random(self.at))
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            self.busy = False
            raise OSError(self.code, os.strerror(self.code), path)
        if self.disk and event in ("os.remove", "os.rmdir"):
            self.disk.keep(path)
        if self.disk and event == "os.rename":
            self.disk.keep(os.fsdecode(arguments[1]))
        self.count += 1
        self.busy = False


def run(
    work: Callable[[], int],
    root: Path,
    at: int | None = None,
    code: int | None = None,
    watch: Watch = "changes",
    power: bool = False,
    limit: int = 0,
) -> Outcome:
    """Do `work` in a forked process; it gives an exit code. at: the operation at which it is killed, or fails with `code`.
    limit: seconds after which it is ended by SIGALRM.

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
            signal.alarm(limit)
            injection.arm()
            ended = work()
        except BaseException:
            said = traceback.format_exc()
        finally:
            injection.busy = True
            with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w") as file:
                json.dump([said[-3000:], injection.count, sorted(sys.modules)], file)
            os._exit(ended)
    os.close(writer)
    with os.fdopen(reader) as file:
        report = file.read()
    _, status = os.waitpid(child, 0)
    said, count, modules = json.loads(report) if report else ("", 0, ())
    return Outcome(os.waitstatus_to_exitcode(status), said, count, tuple(modules))


EVERYDAY = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOLCK, errno.EREMOTEIO, errno.EINTR, errno.ETIMEDOUT, errno.EUCLEAN,
)  # fmt: skip
"""What a file system answers on a bad day."""
