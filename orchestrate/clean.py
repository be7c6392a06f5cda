"""Removes a configuration's results, and what in the store no pointer leads to any more."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ghosttrack.common.engine.contract import Contract
from ghosttrack.common.engine.storage import Store, claim_is_alive, storage_errors
from ghosttrack.common.errors import BusyError

WORK = ("current", "staging", "claims", "attempts", "verified")
"""Folders of the store that hold no results."""


@dataclass
class Removed:
    names: list[str] = field(default_factory=list)
    """What went, relative to the root."""
    size: int = 0


def clean(store: Store, contracts: Iterable[Contract], config_name: str) -> Removed:
    """Of all units that the stages ever have: settings decide which exist, and may have been others.

    Raises BusyError while anything is being written under the root, StorageError when it cannot delete."""
    _refuse_when_busy(store)
    removed = Removed()
    folders = {
        store.root / template.folder.replace("{name}", config_name)
        for contract in contracts
        for template in contract.units
    }
    with storage_errors(store.root):
        for public in _public_names(folders, config_name):
            public.unlink()
            removed.names.append(_relative(store, public))
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            _remove_empty(folder, store.root)
        for kind in ("current", "staging", "claims", "attempts"):
            _remove(store, store.folder / kind / config_name, removed)
        _remove(store, store.root / "runs" / config_name, removed)
        in_use = {(pointer.parent / os.readlink(pointer)).resolve() for pointer in _pointers(store)}
        for entry in list(_results(store)):
            if entry.resolve() not in in_use:
                (store.folder / "verified" / entry.parent.name / f"{entry.name}.json").unlink(missing_ok=True)
                _remove(store, entry, removed)
    return removed


def _refuse_when_busy(store: Store) -> None:
    for claim in (store.folder / "claims").rglob("*.json"):
        if claim_is_alive(claim):
            holder = json.loads(claim.read_bytes())
            raise BusyError(
                f"process {holder['pid']} on {holder['host']} is writing "
                f"{claim.relative_to(store.folder / 'claims').with_suffix('')}; wait for it, or stop it first"
            )


def _public_names(folders: set[Path], config_name: str) -> list[Path]:
    """Links through this configuration's pointers, those of layers that it no longer studies too."""
    candidates = folders | {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    mine = f".store/current/{config_name}/"
    return sorted(path for path in candidates if path.is_symlink() and mine in os.readlink(path))


def _pointers(store: Store) -> Iterator[Path]:
    return (path for path in (store.folder / "current").glob("*/*/*") if path.is_symlink())


def _results(store: Store) -> Iterator[Path]:
    return (path for path in store.folder.glob("*/*") if path.parent.name not in WORK)


def _remove(store: Store, path: Path, removed: Removed) -> None:
    if not path.exists():
        return
    removed.size += sum(file.lstat().st_size for file in path.rglob("*") if not file.is_symlink())
    shutil.rmtree(path)
    removed.names.append(_relative(store, path))


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _relative(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()
