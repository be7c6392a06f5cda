"""The store: immutable results by task key, one pointer a unit, public names as links.

The layout is drawn in `docs/structure.md` and known to `layout` alone. A result is written in a staging folder on the same
file system, hashed, fsynced and renamed into place; then one rename switches the unit's pointer, and with it all public
names of the unit.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ghosttrack.common.engine import atomic, claims, publishing, verification
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.entry import Entry, broken_promise, open_entry
from ghosttrack.common.engine.layout import OF_A_CONFIGURATION, RELEASED, RESULT, WORK, Layout
from ghosttrack.common.engine.manifest import Manifest
from ghosttrack.common.engine.storage_errors import storage_errors
from ghosttrack.common.errors import BusyError, CorruptInputError, MissingInputError
from ghosttrack.common.files import content_of, found, leads_out, root_folder, target_of

__all__ = ["Entry", "Store", "storage_errors"]


class Store:
    """All results under one root."""

    def __init__(self, root: str) -> None:
        """Raises ConfigError for a root that is no folder of a file system."""
        self.root = root_folder(root)
        self.layout = Layout(self.root)
        self._marks: dict[Path, dict[str, verification.Mark]] = {}

    def current(self, name: str, stage: str, unit: str) -> Entry | None:
        """The result of a unit that counts now, or None.

        Raises CorruptInputError if its manifest is damaged, StorageError if it may not be read.
        """
        pointer = self.layout.pointer(name, stage, unit)
        with storage_errors(pointer):
            try:
                target = os.readlink(pointer)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                if pointer.exists():
                    raise CorruptInputError(f"{stage}/{unit}: {pointer} is no link; move it away") from error
                raise
        entry = open_entry(self.layout, pointer.parent / target, f"{stage}/{unit}", stage)
        if entry.manifest.predicate.unit != unit:
            raise CorruptInputError(
                f"{stage}/{unit}: {pointer} leads to a result of another unit; `ghosttrack run` repairs it"
            )
        return entry

    def names(self) -> list[str]:
        """The configurations that something is published of under this root."""
        with storage_errors(self.root):
            return sorted(path.name for path in self.layout.configurations())

    def stages(self, name: str) -> list[str]:
        """The stages that have results of a configuration. Raises StorageError where that cannot be seen."""
        return _names_in(self.layout.pointers(name, ""))

    def published(self, name: str, stage: str) -> list[str]:
        """The units of a configuration's stage that have a result. Raises StorageError where that cannot be seen."""
        return _names_in(self.layout.pointers(name, stage))

    def entries(
        self, name: str, stages: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Entry | CorruptInputError]]:
        """`stage/unit` and result of all that counts now of a configuration, or the error of one that cannot be read.
        stages: these, in this order; None: all."""
        for stage in self.stages(name) if stages is None else stages:
            for unit in self.published(name, stage):
                found: Entry | CorruptInputError | None
                try:
                    found = self.current(name, stage, unit)
                except CorruptInputError as error:
                    found = error
                if found:
                    yield f"{stage}/{unit}", found

    def kept(self, unit: Unit, key: str, *, verified: bool = True) -> Entry | None:
        """A unit's result with this key, made for whichever configuration, or None. verified: its files are as they were."""
        path = self.layout.result(unit.stage, key)
        if not path.is_dir() or (path / RELEASED).exists():
            return None
        try:
            entry = open_entry(self.layout, path, unit.label, unit.stage)
            if verified:
                self.verify(entry)
        except (CorruptInputError, MissingInputError):
            return None
        return None if broken_promise(unit, entry.manifest.files) else entry

    def verify(
        self,
        entry: Entry,
        files: Iterable[str] | None = None,
        *,
        deep: bool = False,
        trusted_for: float = verification.TRUSTED_TO_PLAN,
    ) -> None:
        """Check files of a result against its manifest: sizes always, digests unless they are known to be good.

        trusted_for: seconds for which a digest is known after a file was hashed and did not change; `deep` hashes all.
        Raises MissingInputError or CorruptInputError naming the file and the mend, StorageError where it may not be read.
        """
        record = self.layout.verified(entry.manifest.predicate.stage, entry.path.name)
        known = verification.later(verification.marks_in(record), self._marks.get(record, {}))
        seen = dict(known)
        try:
            for name in entry.manifest.files if files is None else files:
                mark = seen.pop(name, None)  # put back once it is found to be good
                seen[name] = verification.checked(entry, name, None if deep else mark, trusted_for)
        finally:
            if seen != known:
                self._marks[record] = seen  # a reader without write permission has no other memory
                with contextlib.suppress(OSError):
                    record.parent.mkdir(parents=True, exist_ok=True)
                    atomic.replace(record, verification.to_bytes(seen), self.layout.temporary)

    def file(self, entry: Entry, name: str) -> Path:
        """A file of a result, to be read now: hashed unless that was done a short while ago. Raises as `verify` does."""
        self.verify(entry, [name], trusted_for=verification.TRUSTED_TO_READ)
        return entry.file(name)

    def folder(self, entry: Entry) -> Path:
        """The folder of a result, all of it to be read now. Raises as `verify` does."""
        self.verify(entry, trusted_for=verification.TRUSTED_TO_READ)
        return entry.path

    def links_are_whole(self, unit: Unit) -> bool:
        return all(target_of(path) == target for path, target in self.layout.public_links(unit).items())

    def files_at(self, name: str, stage: str) -> Iterator[tuple[str, Path]]:
        """Unit and file of all that a configuration's stage has, published or still being written."""
        for path in found(self.layout.pointers(name, stage), "*/*"):
            yield path.parent.name, path
        for path in found(self.layout.in_progress(name, stage), "*/*/out/*"):
            yield path.parents[2].name, path

    def staging(self, unit: Unit, key: str) -> Path:
        """The folder in which a unit's work begins, with what finished steps of a killed run wrote and nothing else."""
        return publishing.prepare_staging(self.layout, unit, key)

    def abandon(self, unit: Unit) -> None:
        """Forget work in progress: it may have been made from something that was damaged."""
        for path in self._own(found(self.layout.staging(unit), "*")):
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def claim(self, unit: Unit) -> Iterator[None]:
        """Hold the right to write a unit. Raises BusyError when a living process holds it (see `claims.held`)."""
        label = f"{unit.config_name}: {unit.label}"
        with claims.held(self.layout.claim(unit), label, self.layout.temporary):
            yield

    def publish(self, unit: Unit, key: str, manifest: Manifest, out: Path | None = None) -> Entry:
        """Make the staged output files, or those of the folder `out` in the store, the unit's result. The pointer's rename is the
        commit. Raises BusyError for who has lost the claim meanwhile: another one works in the same folder."""
        if claims.lost(self.layout.claim(unit)):
            raise BusyError(
                f"{unit.config_name}: {unit.label} was taken over by another process, since this one gave no sign of life for "
                f"{claims.CLAIM_EXPIRES:.0f} s; nothing is published here, the other one does it"
            )
        return publishing.publish(self.layout, unit, key, manifest, out)

    def point(self, unit: Unit, key: str) -> None:
        """Let a kept result be the unit's current one, make its public names, and end the work on it."""
        publishing.point(self.layout, unit, key)

    def release(self, unit: Unit) -> int:
        """Remove the files of a unit's result but keep its manifest; the bytes freed."""
        entry = self.current(unit.config_name, unit.stage, unit.name)
        return publishing.release(self.layout, unit, entry) if entry else 0

    def claim_holder(self, unit: Unit) -> claims.Holder | None:
        """Who is writing a unit now, or None."""
        return claims.holder_of(self.layout.claim(unit))

    def at_work(self, name: str | None = None) -> Iterator[tuple[str, claims.Holder]]:
        """`configuration/stage/unit` of all that is being written, of one configuration or of any, and who writes it."""
        folder = self.layout.claims
        for claim in found(folder / name if name else folder, "**/*.json"):
            if holder := claims.holder_of(claim):
                yield claim.relative_to(folder).with_suffix("").as_posix(), holder

    def others_at_work(self, unit: Unit) -> list[str]:
        """Other configurations that share a unit's result and are writing something now."""
        mine = self.layout.pointer_of(unit).resolve()
        return sorted(
            name
            for name in self.names()
            if name != unit.config_name
            and self.layout.pointer(name, unit.stage, unit.name).resolve() == mine
            and any(self.at_work(name))
        )

    def record_failure(self, unit: Unit, record: Mapping[str, Any]) -> None:
        """Append a failed attempt; never raises, since it runs while an error is on its way."""
        folder = self.layout.attempts(unit)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            number = len(found(folder, "*.json")) + 1
            content = json.dumps({"actionStatus": "FailedActionStatus", **record}, indent=2)
            while not atomic.create(folder / f"{number:04}.json", content.encode(), self.layout.temporary):
                number += 1

    def count_opening(self, unit: Unit, what: str, seen: str) -> int:
        """Count that a unit's work opened `what`, such as a test that is held back; how often it was opened by now.

        what, seen: digests, of what was opened and of what was seen there; the same seen again is the same opening.
        """
        path, counted, line = self.layout.openings(unit.config_name), b"", f"{what} {seen}\n".encode()
        with contextlib.suppress(FileNotFoundError):
            counted = content_of(path)
        known = {each for each in counted.splitlines(keepends=True) if each.startswith(f"{what} ".encode())}
        if line not in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(path, counted + line, self.layout.temporary)
        return len(known | {line})

    def failures(self, unit: Unit) -> list[dict[str, Any]]:
        """The recorded failed attempts, oldest first."""
        records = []
        for path in found(self.layout.attempts(unit), "*.json"):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                records.append(json.loads(content_of(path)))
        return [record for record in records if isinstance(record, dict)]

    def finished_steps(self, unit: Unit, key: str = "*") -> int:
        """How many steps of work in progress, under this key or any, can be continued from."""
        return len(found(self.layout.staging(unit), f"{key}/steps/*.json"))

    def abandoned(self, unit: Unit) -> list[Path]:
        """Folders of work on a unit under any key."""
        return [path for path in self._own(found(self.layout.staging(unit), "*")) if path.is_dir()]

    def set_aside(self) -> list[Path]:
        """Folders of results that were found damaged."""
        return [path for path in self._own(found(self.layout.folder, "*/*.corrupt-*")) if path.is_dir()]

    def folders_of(self, name: str) -> list[Path]:
        """The folders that a configuration alone has in the store."""
        return self._own(self.layout.folder / kind / name for kind in OF_A_CONFIGURATION)

    def results(self) -> list[Path]:
        """Folders of all results, and of nothing else that lies there, if `.store` itself is a link to somebody's folders."""
        there = [path for path in self._own(found(self.layout.folder, "*/*")) if path.parent.name not in WORK]
        return [path for path in there if RESULT.fullmatch(path.name)]

    def _own(self, paths: Iterable[Path]) -> list[Path]:
        """Those that are in the store, which others may write: by a link something else would be removed."""
        return [path for path in paths if not leads_out(path, self.layout.folder)]

    def pointed_to(self) -> set[Path]:
        """Folders of the results that count now, of whichever configuration."""
        pointers = found(self.layout.folder, "current/*/*/*")
        return {pointer.parent / target for pointer in pointers if (target := target_of(pointer))}

    def forget_verification(self, result: Path) -> None:
        """That a result's files were found good; it is about to go."""
        self.layout.verified(result.parent.name, result.name).unlink(missing_ok=True)


def _names_in(folder: Path) -> list[str]:
    with storage_errors(folder):
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
