"""A published result, and what its manifest must be before anything believes it."""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ghosttrack.common.engine.contract import Unit, key_of
from ghosttrack.common.engine.layout import MANIFEST, RELEASED, Layout
from ghosttrack.common.engine.manifest import Manifest, digest_line
from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.files import content_of

MEND = "`ghosttrack run` makes it again"


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

    @property
    def has_files(self) -> bool:
        return any((self.path / name).exists() for name in self.manifest.files)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those that it depends on, by dotted key."""
        return self.manifest.predicate.build_definition.external_parameters

    @property
    def size(self) -> int:
        """Bytes that it took when it was made."""
        return sum(subject.size for subject in self.manifest.subject)

    @property
    def usage(self) -> dict[str, float | None]:
        """What its making used (`common/engine/usage.py`)."""
        return self.manifest.predicate.resource_usage

    @property
    def elapsed(self) -> float:
        """Seconds that it took to make."""
        return self.usage.get("elapsedSec") or 0.0

    @property
    def memory(self) -> float:
        """Bytes, the most that its processes had."""
        return max(self.usage.get("treePeakMemory") or 0.0, self.usage.get("maxRSS") or 0.0)

    @property
    def finished(self) -> datetime:
        """When it was finished (UTC)."""
        text = self.manifest.predicate.run_details.metadata.finished_on
        return datetime.fromisoformat(text.replace("Z", "+00:00"))

    def file(self, name: str) -> Path:
        return self.path / name


def open_entry(layout: Layout, path: Path, label: str, stage: str) -> Entry:
    """The result in a folder of the store. label: what it is of, for messages.

    Raises CorruptInputError where its manifest is gone, damaged, or not of this stage and place; StorageError where it
    may not be read, which is another matter.
    """
    path = Path(os.path.normpath(path))
    file = path / MANIFEST
    if path.parent != layout.result(stage, path.name).parent:
        raise CorruptInputError(f"{label}: its pointer leads out of the store, to {path}; {MEND}")
    try:
        content = content_of(file)
        recorded = content_of(path / f"{MANIFEST}.sha256")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorruptInputError(f"{label}: {file} or its .sha256 is gone; {MEND}") from error
    except OSError as error:
        raise storage_error(error, file, "read") or error from error
    if recorded != digest_line(content).encode():
        raise CorruptInputError(f"{label}: {file} does not match its digest; {MEND}")
    try:
        manifest = Manifest.model_validate_json(content)
        key = key_of_manifest(manifest)
    except (ValidationError, ValueError, RecursionError) as error:
        raise CorruptInputError(f"{label}: {file} is not a manifest of this version; {MEND}") from error
    if not key == manifest.predicate.task_key == path.name or manifest.predicate.stage != stage:
        raise CorruptInputError(f"{label}: {file} contradicts its task key; {MEND}")
    return Entry(path, manifest, hashlib.sha256(content).hexdigest())


def broken_promise(unit: Unit, names: Collection[str]) -> str | None:
    """How files differ from those that the contract says a unit writes, in words; None where they do not."""
    if unit.publishes_folder:
        return None if names else "it has no files"
    missing, extra = sorted(set(unit.writes) - set(names)), sorted(set(names) - set(unit.writes))
    if not missing and not extra:
        return None
    told = (("missing files", missing), ("unknown files", extra))
    return "; ".join(f"{what} {', '.join(files)}" for what, files in told if files)


def key_of_manifest(manifest: Manifest) -> str:
    """The task key of what a manifest says that it is of."""
    predicate = manifest.predicate
    return key_of(
        predicate.stage,
        predicate.contract_version,
        predicate.unit,
        predicate.build_definition.external_parameters,
        manifest.input_digests,
    )
