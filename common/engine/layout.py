"""Where a root keeps what: the only module that knows the folders of the store.

`docs/structure.md` draws them. Everything lies on one file system, so that publishing is a rename.
"""

import os
import re
from pathlib import Path

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.files import found, target_of

MANIFEST = "manifest.json"
RELEASED = "released.json"
"""In the folder of a result whose files were removed once nothing needed them; its manifest stays."""
RESULT = re.compile(r"[0-9a-f]{64}(\.corrupt-\d+)?")
"""The name of a result's folder: its key; it was set aside where it was found damaged."""
OF_A_CONFIGURATION = ("current", "staging", "claims", "attempts")
"""Folders of the store that hold a folder of each configuration."""
WORK = (*OF_A_CONFIGURATION, "verified", "temporary", "openings")
"""Folders of the store that hold no results."""


class Layout:
    """Paths under one root. Nothing here touches the disk."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".store"

    def result(self, stage: str, key: str) -> Path:
        return self.folder / stage / key

    def configurations(self) -> list[Path]:
        """A folder of pointers for each configuration."""
        return [path for path in found(self.folder / "current", "*") if path.is_dir()]

    def pointers(self, name: str, stage: str) -> Path:
        """The folder of the pointers of a configuration's stage; a pointer is named like its unit."""
        return self.folder / "current" / name / stage

    def pointer(self, name: str, stage: str, unit: str) -> Path:
        return self.pointers(name, stage) / unit

    def pointer_of(self, unit: Unit) -> Path:
        return self.pointer(unit.config_name, unit.stage, unit.name)

    def in_progress(self, name: str, stage: str) -> Path:
        """The folder of the work in progress of a configuration's stage: a folder a unit, in it one a task key."""
        return self.folder / "staging" / name / stage

    def staging(self, unit: Unit) -> Path:
        return self.in_progress(unit.config_name, unit.stage) / unit.name

    def claim(self, unit: Unit) -> Path:
        return self.claims / unit.config_name / unit.stage / f"{unit.name}.json"

    @property
    def claims(self) -> Path:
        return self.folder / "claims"

    def attempts(self, unit: Unit) -> Path:
        return self.folder / "attempts" / unit.config_name / unit.stage / unit.name

    def verified(self, stage: str, key: str) -> Path:
        return self.folder / "verified" / stage / f"{key}.json"

    def openings(self, name: str) -> Path:
        """What has been counted of a configuration; it outlives results and their removal."""
        return self.folder / "openings" / f"{name}.txt"

    @property
    def temporary(self) -> Path:
        """For files that are renamed to where they belong: nothing looks for anything here."""
        return self.folder / "temporary"

    def public_links(self, unit: Unit) -> dict[Path, str]:
        """Public path to relative link target, through the unit's pointer."""
        folder, pointer = self.root / unit.folder, self.pointer_of(unit)
        targets = {folder: pointer} if unit.publishes_folder else {
            **{folder / name: pointer / name for name in unit.writes},
            folder / unit.manifest_name: pointer / MANIFEST,
        }  # fmt: skip
        return {public: os.path.relpath(target, public.parent) for public, target in targets.items()}

    def is_public_link(self, path: Path, name: str) -> bool:
        """Whether a path is a link through a pointer of the configuration `name`."""
        return f"{self.folder.name}/current/{name}/" in (target_of(path) or "")
