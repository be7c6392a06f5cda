"""The store: immutable results by task key, one pointer a unit, public names as links.

The layout is drawn in `docs/structure.md`. A result is written in a staging folder on the same file
system, hashed, fsynced and renamed into place; then one rename switches the unit's pointer, and with
it all public names of the unit. A crash leaves the old complete result or the new one.

Roots on other fsspec protocols (`s3://…`, `memory://`) keep their working copy in a local cache
folder and are pushed to after the local publish: files first, the manifest next, the pointer object
last. There, atomic means that the pointer object is replaced by one PUT; two writers at once are not
kept apart.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import psutil
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from ghosttrack.common.engine.contract import Unit, key_of
from ghosttrack.common.engine.manifest import Manifest, digest_line
from ghosttrack.common.errors import BusyError, CorruptInputError, MissingInputError, StorageError
from ghosttrack.common.files import fsync, sha256_of

MANIFEST = "manifest.json"
RELEASED = "released.json"
"""In the folder of a result whose files were removed once nothing needed them; its manifest stays."""
HEARTBEAT = 20.0
"""Seconds between two signs of life of a claim."""
CLAIM_EXPIRES = 300.0
"""Seconds without a sign of life after which a claim from another host is dead."""


@dataclass(frozen=True)
class Entry:
    """A published result: its folder and its manifest."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def key(self) -> str:
        return self.manifest.predicate.task_key

    @property
    def released(self) -> bool:
        """Whether its files were removed, since everything that read them had been made."""
        return (self.path / RELEASED).exists()

    def file(self, name: str) -> Path:
        return self.path / name


class Store:
    """All results under one root."""

    def __init__(self, root: str) -> None:
        filesystem, path = fsspec.core.url_to_fs(root)
        self.remote = None if isinstance(filesystem, LocalFileSystem) else (filesystem, path.rstrip("/"))
        if self.remote:
            cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
            self.root = cache / "ghosttrack" / hashlib.sha256(root.encode()).hexdigest()[:16]
        else:
            self.root = Path(path)
        self.folder = self.root / ".store"

    # ---- reading

    def current(self, name: str, stage: str, unit: str) -> Entry | None:
        """The result of a unit that counts now, or None. Raises CorruptInputError if its manifest is damaged."""
        pointer = self._pointer(name, stage, unit)
        if self.remote:
            self._pull_pointer(name, stage, unit)
        if not pointer.is_symlink():
            return None
        return self._open(pointer.parent / os.readlink(pointer), f"{stage}/{unit}")

    def kept(self, stage: str, key: str) -> Entry | None:
        """A result with this key from any earlier run, whole and verified, or None."""
        path = self.folder / stage / key
        try:
            entry = self._open(path, stage) if path.is_dir() else None
            if entry and entry.released:
                return None
            if entry:
                self.verify(entry)
        except (CorruptInputError, MissingInputError):
            return None
        return entry

    def verify(self, entry: Entry, files: Iterable[str] | None = None, *, deep: bool = False) -> None:
        """Check files of a result against its manifest: sizes always, digests on first use or when `deep`.

        Raises MissingInputError or CorruptInputError naming the file and the mend.
        """
        record = self._verified_record(entry)
        known: dict[str, list[int]] = _read_json(record, {})
        seen = dict(known)
        try:
            for name in entry.manifest.files if files is None else files:
                stamp = seen.pop(name, None)  # put back once it is found to be good
                seen[name] = _checked_stamp(entry, name, None if deep else stamp)
        finally:
            if seen != known:
                with contextlib.suppress(OSError):  # a reader without write permission hashes again next time
                    record.parent.mkdir(parents=True, exist_ok=True)
                    _replace(record, json.dumps(seen).encode())

    def public_links(self, unit: Unit) -> dict[Path, str]:
        """Public path to relative link target, through the unit's pointer."""
        folder = self.root / unit.folder
        pointer = self._pointer(unit.config_name, unit.stage, unit.name)
        targets = {folder: pointer} if unit.publishes_folder else {
            **{folder / name: pointer / name for name in unit.writes},
            folder / unit.manifest_name: pointer / MANIFEST,
        }  # fmt: skip
        return {public: os.path.relpath(target, public.parent) for public, target in targets.items()}

    def links_are_whole(self, unit: Unit) -> bool:
        return all(
            path.is_symlink() and os.readlink(path) == target
            for path, target in self.public_links(unit).items()
        )

    # ---- writing

    def staging(self, unit: Unit, key: str) -> Path:
        """The folder in which a unit's work goes on; what a killed run left there is still there.

        But for a manifest: a run that was killed while it published writes it anew.
        """
        path = self._unit_path("staging", unit) / key
        with storage_errors(path):
            if not (
                path / "out"
            ).exists():  # renamed away by a run that died just then: its steps went with it
                shutil.rmtree(path, ignore_errors=True)
            (path / "out").mkdir(parents=True, exist_ok=True)
            for leftover in (path / "out").glob(f"*{MANIFEST}*"):
                leftover.unlink()
        return path

    @contextlib.contextmanager
    def claim(self, unit: Unit) -> Iterator[None]:
        """Hold the right to write a unit. Raises BusyError when a living process holds it.

        Within a job of a scheduler, a claim of another job on another machine is waited for until it has expired: its
        holder may have been killed a moment ago.
        """
        path = self._unit_path("claims", unit).with_suffix(".json")
        mine = {
            "host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid()),
            "group": work_group(),
        }  # fmt: skip
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while not _create_exclusively(path, json.dumps(mine).encode()):
                self._break_dead_claim(path, unit)
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT):
                with contextlib.suppress(OSError):
                    os.utime(path)

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            stop.set()
            with contextlib.suppress(OSError):
                path.unlink()

    def publish(self, unit: Unit, key: str, manifest: Manifest) -> Entry:
        """Make the staged output files the unit's result. The pointer's rename is the commit."""
        staging = self.staging(unit, key)
        out, final = staging / "out", self.folder / unit.stage / key
        content = manifest.to_bytes()
        with storage_errors(final):
            for subject in manifest.subject:
                fsync(out / subject.name)
            _replace(out / f"{MANIFEST}.sha256", digest_line(content).encode())
            _replace(out / MANIFEST, content)
            final.parent.mkdir(parents=True, exist_ok=True)
            if (final / RELEASED).exists():  # same key: its files are back
                shutil.rmtree(final)
            if final.exists():  # same key, found damaged: set aside, it is not ours to delete
                final.rename(final.with_name(f"{key}.corrupt-{time.time_ns()}"))
            out.rename(final)
            fsync(final.parent)
            entry = self._open(final, unit.label)
            stamps = {}
            for subject in manifest.subject:
                entry.file(subject.name).chmod(
                    0o444
                )  # not before: in staging, a run that was killed goes on writing
                status = entry.file(subject.name).stat()
                stamps[subject.name] = [status.st_size, status.st_mtime_ns]
            record = self._verified_record(entry)
            record.parent.mkdir(parents=True, exist_ok=True)
            _replace(record, json.dumps(stamps).encode())
        self.point(unit, key)
        shutil.rmtree(
            self._unit_path("staging", unit), ignore_errors=True
        )  # work under other keys is abandoned
        return entry

    def point(self, unit: Unit, key: str) -> None:
        """Let a kept result be the unit's current one, make its public names, and end the work on it."""
        pointer = self._pointer(unit.config_name, unit.stage, unit.name)
        with storage_errors(pointer):
            _link(pointer, os.path.relpath(self.folder / unit.stage / key, pointer.parent))
            for public, target in self.public_links(unit).items():
                _link(public, target)
        if self.remote:
            self._push(unit, key)
        shutil.rmtree(self._unit_path("staging", unit) / key, ignore_errors=True)

    def release(self, unit: Unit) -> int:
        """Remove the files of a unit's result but keep its manifest, which says what they were; the bytes freed.

        The mark that they are gone is written first: a crash on the way leaves a released result with files
        that the next call removes.
        """
        entry = self.current(unit.config_name, unit.stage, unit.name)
        if entry is None:
            return 0
        freed = 0
        with storage_errors(entry.path):
            content = {"files": sorted(entry.manifest.files), "releasedOn": time.time()}
            _replace(entry.path / RELEASED, json.dumps(content, indent=2).encode())
            manifest = self.root / unit.folder / unit.manifest_name
            for public in self.public_links(unit):
                if public != manifest and public.is_symlink():
                    public.unlink()
            for name in entry.manifest.files:
                with contextlib.suppress(FileNotFoundError):
                    freed += entry.file(name).stat().st_size
                    entry.file(name).unlink()
            self._verified_record(entry).unlink(missing_ok=True)
        return freed

    def others_at_work(self, unit: Unit) -> list[str]:
        """Other configurations that share a unit's result and are writing something now."""
        mine = self._pointer(unit.config_name, unit.stage, unit.name).resolve()
        return sorted(
            name.name
            for name in (self.folder / "current").glob("*")
            if name.name != unit.config_name
            and (name / unit.stage / unit.name).resolve() == mine
            and any(map(claim_is_alive, (self.folder / "claims" / name.name).rglob("*.json")))
        )

    def record_failure(self, unit: Unit, record: dict[str, Any]) -> None:
        """Append a failed attempt; never raises, since it runs while an error is on its way."""
        folder = self._unit_path("attempts", unit)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            number = len(list(folder.glob("*.json"))) + 1
            content = json.dumps({"actionStatus": "FailedActionStatus", **record}, indent=2)
            while not _create_exclusively(folder / f"{number:04}.json", content.encode()):
                number += 1

    def failures(self, unit: Unit) -> list[dict[str, Any]]:
        """The recorded failed attempts, oldest first."""
        return [_read_json(path, {}) for path in sorted(self._unit_path("attempts", unit).glob("*.json"))]

    def claim_holder(self, unit: Unit) -> dict[str, Any] | None:
        """Who is writing a unit now, or None."""
        path = self._unit_path("claims", unit).with_suffix(".json")
        holder = _read_json(path, None)
        return holder if holder and _is_alive(path, holder) else None

    def finished_steps(self, unit: Unit, key: str = "*") -> int:
        """How many steps of work in progress, under this key or any, can be continued from."""
        return sum(1 for _ in self._unit_path("staging", unit).glob(f"{key}/steps/*.json"))

    # ---- internals

    def _pointer(self, name: str, stage: str, unit: str) -> Path:
        return self.folder / "current" / name / stage / unit

    def _unit_path(self, kind: str, unit: Unit) -> Path:
        return self.folder / kind / unit.config_name / unit.stage / unit.name

    def _verified_record(self, entry: Entry) -> Path:
        return self.folder / "verified" / entry.manifest.predicate.stage / f"{entry.path.resolve().name}.json"

    def _open(self, path: Path, label: str) -> Entry:
        path = Path(os.path.normpath(path))
        file = path / MANIFEST
        mend = "`ghosttrack run` makes it again"
        try:
            content = file.read_bytes()
            recorded = (path / f"{MANIFEST}.sha256").read_text().split()[0]
        except (OSError, IndexError) as error:
            raise CorruptInputError(f"{label}: {file} or its .sha256 is gone; {mend}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != recorded:
            raise CorruptInputError(f"{label}: {file} does not match its digest; {mend}")
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise CorruptInputError(f"{label}: {file} is not a manifest of this version; {mend}") from error
        predicate = manifest.predicate
        key = key_of(
            predicate.stage,
            predicate.contract_version,
            predicate.unit,
            predicate.build_definition.external_parameters,
            manifest.input_digests,
        )
        if key != predicate.task_key or key != path.name:
            raise CorruptInputError(f"{label}: {file} contradicts its task key; {mend}")
        return Entry(path, manifest, digest)

    def _break_dead_claim(self, path: Path, unit: Unit) -> None:
        """Remove the claim of a dead process. Raises BusyError when the holder lives."""
        holder = _read_json(path, None)
        if holder is None:
            time.sleep(0.05)  # the holder is just removing it
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > HEARTBEAT:  # it is not a claim
                    path.unlink()
            return
        if _is_alive(path, holder) and not _expires(path, holder):
            raise BusyError(
                f"{unit.config_name}: {unit.label} is being written by process {holder['pid']} on {holder['host']}; "
                "wait for it, or stop it first",
                holder.get("group"),
            )
        breaking = path.with_suffix(".breaking")  # while it exists, the dead claim cannot become somebody's
        if not _create_exclusively(breaking, b""):
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - breaking.stat().st_mtime > HEARTBEAT:  # its maker was killed
                    breaking.unlink()
            return
        try:
            if _read_json(path, None) == holder:
                path.unlink()
        finally:
            breaking.unlink(missing_ok=True)

    def _push(self, unit: Unit, key: str) -> None:
        assert self.remote
        filesystem, base = self.remote
        entry = self.folder / unit.stage / key
        remote_entry = f"{base}/.store/{unit.stage}/{key}"
        names = sorted(path.name for path in entry.iterdir())
        for name in sorted(names, key=lambda name: name.startswith(MANIFEST)):
            filesystem.put_file(str(entry / name), f"{remote_entry}/{name}")
        filesystem.pipe_file(f"{base}/.store/current/{unit.config_name}/{unit.label}", key.encode())
        for public in self.public_links(unit):
            relative = public.relative_to(self.root).as_posix()
            sources = sorted(public.iterdir()) if public.is_dir() else [public]
            for source in sources:
                name = f"{relative}/{source.name}" if public.is_dir() else relative
                filesystem.put_file(str(source), f"{base}/{name}")

    def _pull_pointer(self, name: str, stage: str, unit: str) -> None:
        """Bring the local cache's pointer and files to what the remote root says."""
        assert self.remote
        filesystem, base = self.remote
        remote_pointer = f"{base}/.store/current/{name}/{stage}/{unit}"
        if not filesystem.exists(remote_pointer):
            return
        key = filesystem.cat_file(remote_pointer).decode()
        entry = self.folder / stage / key
        if not entry.is_dir():
            arriving = entry.with_name(f"{key}.arriving-{os.getpid()}")
            arriving.mkdir(parents=True, exist_ok=True)
            for path in filesystem.ls(f"{base}/.store/{stage}/{key}", detail=False):
                filesystem.get_file(path, str(arriving / path.rsplit("/", 1)[-1]))
            arriving.rename(entry)
        pointer = self._pointer(name, stage, unit)
        _link(pointer, os.path.relpath(entry, pointer.parent))


def _checked_stamp(entry: Entry, name: str, known_good: list[int] | None) -> list[int]:
    """Size and time of a file that matches its manifest; hashed unless the stamp is known to be good."""
    mend = "`ghosttrack run` makes it again"
    if name not in entry.manifest.files:
        raise MissingInputError(
            f"{entry.path} has no file {name!r}; run the stage again with the same configuration"
        )
    path, subject = entry.file(name), entry.manifest.files[name]
    try:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        if status.st_size != subject.size:
            raise CorruptInputError(
                f"{path} has {status.st_size} bytes and should have {subject.size}; {mend}"
            )
        if stamp != known_good and (found := sha256_of(path)) != subject.sha256:
            raise CorruptInputError(
                f"{path} does not match its manifest (sha256 {found[:12]}…, recorded "
                f"{subject.sha256[:12]}…); {mend}"
            )
    except OSError as error:
        raise MissingInputError(f"{path} is gone or cannot be read; {mend}") from error
    return stamp


def process_start(pid: int) -> float | None:
    """When a process of this host started; None if it is gone. Tells reused process ids apart."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the file system's refusals into one clear StorageError about `path`."""
    try:
        yield
    except OSError as error:
        meaning = {
            errno.ENOSPC: "the disk is full; free some space or choose another root with --set paths.root=…",
            errno.EDQUOT: "the quota is used up; free some space or choose another root with --set paths.root=…",
            errno.EROFS: "the file system is read-only; choose another root with --set paths.root=…",
            errno.EACCES: "permission denied; choose another root with --set paths.root=…",
            errno.EPERM: "permission denied; choose another root with --set paths.root=…",
            errno.ENOTDIR: "a file stands where a folder should be; move it away",
            errno.EFBIG: "the file would exceed the size limit of this file system or shell (ulimit -f)",
        }.get(error.errno or 0)
        if meaning is None:
            raise
        raise StorageError(f"cannot write {error.filename or path}: {meaning}") from error


def claim_is_alive(claim: Path) -> bool:
    """Whether the process that made a claim file still works under it."""
    holder = _read_json(claim, None)
    return bool(holder) and _is_alive(claim, holder)


def work_group() -> str:
    """Who works together: one start of a scheduler's job, or the processes of one parent."""
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm/{job}/{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return f"{socket.gethostname()}/{os.getppid()}"


def _expires(path: Path, holder: dict[str, Any]) -> bool:
    """Wait for a claim of another job on another machine; whether it expired rather than being renewed."""
    if "SLURM_JOB_ID" not in os.environ or holder.get("host") == socket.gethostname():
        return False
    if holder.get("group") == work_group():
        return False
    with contextlib.suppress(OSError):
        renewed = path.stat().st_mtime
        while _is_alive(path, holder):
            if path.stat().st_mtime != renewed:
                return False
            time.sleep(1.0)
    return True


def _is_alive(path: Path, holder: dict[str, Any]) -> bool:
    if holder.get("host") == socket.gethostname():
        started = process_start(int(holder["pid"]))
        return started is not None and started == holder.get("started")
    try:
        return time.time() - path.stat().st_mtime < CLAIM_EXPIRES
    except OSError:
        return False


def _create_exclusively(path: Path, content: bytes) -> bool:
    """Create a file with its content in one step; False if it exists."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    temporary.write_bytes(content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync(path.parent)


def _link(path: Path, target: str) -> None:
    """Make `path` a relative link to `target`, atomically, unless it is one already."""
    if path.is_symlink() and os.readlink(path) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_symlink():
        raise StorageError(f"{path} was not made by GhostTrack; move it away, then run again")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
    fsync(path.parent)


def _read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return default
