"""How a result becomes visible: in one rename, so that a crash leaves the old complete result or the new one."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

from ghosttrack.common.engine import atomic, verification
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.entry import Entry, open_entry
from ghosttrack.common.engine.layout import MANIFEST, RELEASED, Layout
from ghosttrack.common.engine.manifest import Manifest, digest_line
from ghosttrack.common.engine.storage_errors import storage_errors
from ghosttrack.common.errors import StorageError
from ghosttrack.common.files import found, fsync, leads_out, make_folder


def prepare_staging(layout: Layout, unit: Unit, key: str) -> Path:
    """Bring the folder of a unit's work to a known state: what finished steps wrote is there, and nothing else.

    A run that was killed may have left files there that are no outputs (a writer's temporary file), a manifest that it
    was publishing, and, where it died after the rename of `out`, steps without their files.
    """
    path = layout.staging(unit) / key
    out = path / "out"
    with storage_errors(path):
        if leads_out(path.parent, layout.folder):
            raise StorageError(
                f"a link on the way to {path} leads out of the store; remove it, then run again"
            )
        for place in (path, out):
            if place.is_symlink():  # what a container may have left
                place.unlink()
        atomic.sweep(layout.temporary)
        if not out.exists() or (unit.publishes_folder and not any(path.glob("steps/*.json"))):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        # Nothing of ours is a link or a pipe; by one that a container left, others would be written.
        for left in list(path.rglob("*")):
            if left.is_symlink() or not (left.is_file() or left.is_dir()):
                left.unlink()
        for left in list(out.iterdir()):
            if left.name.startswith(MANIFEST) or (not unit.publishes_folder and left.name not in unit.writes):
                atomic.remove(left)
    return path


def publish(layout: Layout, unit: Unit, key: str, manifest: Manifest, out: Path | None = None) -> Entry:
    """Make the staged output files, or those of the folder `out`, the unit's result. The pointer's rename is the commit."""
    final, content = layout.result(unit.stage, key), manifest.to_bytes()
    out = out or layout.staging(unit) / key / "out"
    with storage_errors(final):
        if not out.exists():
            raise StorageError(
                f"{out} was removed while {unit.label} was made, by `ghosttrack clean` perhaps; give the command again"
            )
        for subject in manifest.subject:
            fsync(out / subject.name)
        atomic.replace(out / f"{MANIFEST}.sha256", digest_line(content).encode(), layout.temporary)
        atomic.replace(out / MANIFEST, content, layout.temporary)
        make_folder(final.parent)
        if (final / RELEASED).exists():  # same key: its files are back
            shutil.rmtree(final)
        if final.exists():  # same key, found damaged: set aside, it is not ours to delete
            final.rename(final.with_name(f"{key}.corrupt-{time.time_ns()}"))
        out.rename(final)
        fsync(final.parent)
        entry = open_entry(layout, final, unit.label, unit.stage)
        marks = {}
        for subject in manifest.subject:
            file = entry.file(subject.name)
            file.chmod(0o444)  # not before: in staging, a run that was killed goes on writing
            marks[subject.name] = verification.mark_of(file)
        record = layout.verified(unit.stage, key)
        record.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(record, verification.to_bytes(marks), layout.temporary)
    point(layout, unit, key)
    for left in found(layout.staging(unit), "*"):  # other keys' too; the folder itself may be a mount
        shutil.rmtree(left, ignore_errors=True)
    return entry


def point(layout: Layout, unit: Unit, key: str) -> None:
    """Let a kept result be the unit's current one, make its public names, and end the work on it.

    A link that is not yet renamed lies where nothing looks; only that of a public name must lie beside it, since a public
    folder may be a mount of its own.
    """
    pointer = layout.pointer_of(unit)
    with storage_errors(pointer):
        fresh = layout.temporary / f"{unit.config_name}.{unit.stage}.{unit.name}"
        atomic.link(pointer, os.path.relpath(layout.result(unit.stage, key), pointer.parent), fresh)
        for public, target in layout.public_links(unit).items():
            atomic.link(public, target, public.with_name(f".{public.name}.new"))
    shutil.rmtree(layout.staging(unit) / key, ignore_errors=True)


def release(layout: Layout, unit: Unit, entry: Entry) -> int:
    """Remove the files of a unit's result but keep its manifest, which says what they were; the bytes freed.

    The mark that they are gone is written first: a crash on the way leaves a released result with files
    that the next call removes.
    """
    freed = 0
    with storage_errors(entry.path):
        content = {"files": sorted(entry.manifest.files), "releasedOn": time.time()}
        atomic.replace(entry.path / RELEASED, json.dumps(content, indent=2).encode(), layout.temporary)
        manifest = layout.root / unit.folder / unit.manifest_name
        for public in layout.public_links(unit):
            if public != manifest and public.is_symlink():
                public.unlink()
        for name in entry.manifest.files:
            with contextlib.suppress(FileNotFoundError):
                freed += entry.file(name).lstat().st_size
                entry.file(name).unlink()
        layout.verified(unit.stage, entry.key).unlink(missing_ok=True)
    return freed
