"""Claims: who is writing a unit now, so that nobody else does.

A claim is a file that appears whole, by a hard link, which excludes all others on every file system, NFS included. Whether
its holder still lives is told by a lock on that file, which the kernel drops however the holder ends and which is seen
from every container of a host; where the file system has no locks, and from other hosts, by signs of life: the file's
time. A process number names nobody outside its PID namespace, so a holder in another one without a lock is taken for a
holder on another host.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.storage_errors import storage_errors
from ghosttrack.common.errors import BusyError
from ghosttrack.common.files import content_of

HEARTBEAT = 20.0
"""Seconds between two signs of life of a claim."""
CLAIM_EXPIRES = 300.0
"""Seconds without a sign of life after which a claim from another host is dead."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""What `flock` says where there is no such thing."""


_mine: dict[Path, int] = {}
"""Claims that this process holds, and their descriptors."""


class Holder(BaseModel):
    """Who made a claim."""

    model_config = ConfigDict(frozen=True, strict=True)
    host: str
    pid: int
    started: float | None = None
    boot: str | None = None
    """Of the kernel: containers of one host share it."""
    namespace: str | None = None
    """In which the pid is meant."""
    locked: bool = False
    """Whether a lock of the kernel tells that the holder lives."""
    group: str | None = None


@contextlib.contextmanager
def held(path: Path, label: str, temporary: Path) -> Iterator[None]:
    """Hold the claim `path`. Raises BusyError when a living process holds it, StorageError.

    label: what is claimed, for the message. temporary: a folder on the same file system. Within a job of a scheduler, a
    claim of another job on another machine is waited for until it has expired: its holder may have been killed a moment
    ago.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (lock := _create(path, temporary)) is None:
            _break_dead(path, label, temporary)
    _mine[path] = lock
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(lock)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        _mine.pop(path, None)
        with contextlib.suppress(OSError):
            if _is(lock, path):
                path.unlink()
        os.close(lock)


def lost(path: Path) -> bool:
    """Whether somebody has taken a claim of this process, which gave no sign of life for too long (it was stopped, say)."""
    lock = _mine.get(path)
    try:
        return lock is not None and not _is(lock, path)
    except FileNotFoundError:
        return True


def _is(lock: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(lock), path.stat())


def holder_of(path: Path) -> Holder | None:
    """Who lives and holds a claim, or None."""
    holder = _read(path)
    return holder if holder and is_alive(path, holder) else None


def is_alive(path: Path, holder: Holder) -> bool:
    """Whether the process that made a claim file still works under it, as well as it can be told from here."""
    lock = _lock_state(path)
    if lock == "held":
        return True
    here = holder.boot == boot_id() if holder.boot else holder.host == socket.gethostname()
    if here and holder.locked and lock == "free":
        return False
    if here and holder.namespace in (None, pid_namespace()):
        started = process_start(holder.pid)
        return started is not None and started == holder.started
    try:
        return _since_sign_of_life(path) < CLAIM_EXPIRES
    except OSError:
        return False


def _since_sign_of_life(path: Path) -> float:
    """Seconds between a claim's last sign of life and now, both by the clock of its file system.

    Hosts' clocks differ, and one may be set: a sign that seems to come from the future is as far from now as one of the
    past. Raises OSError where there is no claim.
    """
    at = path.stat().st_mtime
    now = time.time()
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryFile(dir=path.parent) as fresh,
    ):  # it has no name, or for a moment
        now = os.fstat(fresh.fileno()).st_mtime
    return abs(now - at)


def work_group() -> str:
    """Who works together: one start of a scheduler's job, or the processes of one parent."""
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm/{job}/{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return f"{socket.gethostname()}/{os.getppid()}"


def process_start(pid: int) -> float | None:
    """When a process of this PID namespace started; None if it is gone. Tells reused process ids apart.

    In ticks since the boot where Linux tells them: a clock that is set does not change them.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (OSError, ValueError):
            return None
        return None if fields[0] == b"Z" else float(fields[19])
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def boot_id() -> str | None:
    """Of the running kernel; None where it has none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def pid_namespace() -> str | None:
    """In which this process's number is meant; None where there are none."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def _create(path: Path, temporary: Path) -> int | None:
    """Make the claim, its lock held before it appears; the lock's descriptor, or None if there is a claim already."""
    fresh = atomic.fresh_path(temporary)
    descriptor, linked = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), False
    try:
        mine = Holder(
            host=socket.gethostname(), pid=os.getpid(), started=process_start(os.getpid()), boot=boot_id(),
            namespace=pid_namespace(), locked=_locks(descriptor), group=work_group(),
        )  # fmt: skip
        os.write(descriptor, mine.model_dump_json().encode())
        os.fsync(descriptor)
        os.link(fresh, path)
        linked = True
    except FileExistsError:
        return None
    finally:
        if not linked:
            os.close(descriptor)
        fresh.unlink()
    return descriptor


def _locks(descriptor: int) -> bool:
    """Take the lock of a file that nobody else knows yet; False where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def _lock_state(path: Path) -> str:
    """`held` by somebody, `free`, or `unknown` where it cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return "unknown"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
        return "free"
    except BlockingIOError:
        return "held"
    except OSError:
        return "unknown"
    finally:
        os.close(descriptor)


def _break_dead(path: Path, label: str, temporary: Path) -> None:
    """Remove the claim of a dead process. Raises BusyError when the holder lives."""
    holder = _read(path)
    if holder is None:
        time.sleep(0.05)  # the holder is just removing it
        with contextlib.suppress(FileNotFoundError):
            if abs(time.time() - path.stat().st_mtime) > HEARTBEAT:  # it is not a claim
                path.unlink()
        return
    if is_alive(path, holder) and not _expires(path, holder):
        raise BusyError(
            f"{label} is being written by process {holder.pid} on {holder.host}; "
            "wait for it, or stop it first",
            holder.group,
        )
    breaking = path.with_suffix(".breaking")  # while it exists, the dead claim cannot become somebody's
    if not atomic.create(breaking, b"", temporary):
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):
            if abs(time.time() - breaking.stat().st_mtime) > HEARTBEAT:  # its maker was killed
                breaking.unlink()
        return
    try:
        if _read(path) == holder:
            path.unlink()
    finally:
        breaking.unlink(missing_ok=True)


def _expires(path: Path, holder: Holder) -> bool:
    """Wait for a claim of another job on another machine; whether it expired rather than being renewed."""
    if "SLURM_JOB_ID" not in os.environ or holder.host == socket.gethostname():
        return False
    if holder.group == work_group():
        return False
    with contextlib.suppress(OSError):
        renewed = path.stat().st_mtime
        while is_alive(path, holder):
            if path.stat().st_mtime != renewed:
                return False
            time.sleep(1.0)
    return True


def _read(path: Path) -> Holder | None:
    """None for what is no claim."""
    try:
        return Holder.model_validate_json(content_of(path))
    except (FileNotFoundError, ValueError):
        return None
