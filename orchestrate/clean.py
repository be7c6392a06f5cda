"""Removes a configuration's results, and what in the store no pointer leads to any more."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ghosttrack.common.engine.contract import Contract
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.errors import BusyError
from ghosttrack.common.files import found, leads_out, remove_folder
from ghosttrack.orchestrate.disk import folder_size


@dataclass
class Removed:
    names: list[str] = field(default_factory=list)
    """What went, relative to the root."""
    size: int = 0


def clean(store: Store, contracts: Iterable[Contract], config_name: str) -> Removed:
    """Of all units that the stages ever have: settings decide which exist, and may have been others.

    Raises BusyError while anything is being written under the root, StorageError when it cannot delete."""
    # Before it is seen that nobody is at work: what is published meanwhile is not among them.
    results = store.results()
    for label, holder in store.at_work():
        raise BusyError(
            f"process {holder.pid} on {holder.host} is writing {label}; wait for it, or stop it first"
        )
    removed = Removed()
    folders = {
        store.root / template.folder.replace("{name}", config_name)
        for contract in contracts
        for template in contract.units
    }
    with storage_errors(store.root):
        for public in _public_names(store, folders, config_name):
            public.unlink(missing_ok=True)
            removed.names.append(_relative(store, public))
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            _remove_empty(folder, store.root)
        for folder in store.folders_of(config_name):
            _remove(store, folder, removed)
        if not leads_out(runs := store.root / "runs" / config_name, store.root):
            _remove(store, runs, removed)
        in_use = {path.resolve() for path in store.pointed_to()}
        for result in results:
            if result.resolve() not in in_use:
                store.forget_verification(result)
                _remove(store, result, removed)
    return removed


def _public_names(store: Store, folders: set[Path], config_name: str) -> list[Path]:
    """Links through this configuration's pointers, those of layers that it no longer studies too."""
    candidates = folders | {path for folder in folders for path in found(folder, "*")}
    return sorted(path for path in candidates if store.layout.is_public_link(path, config_name))


def _remove(store: Store, path: Path, removed: Removed) -> None:
    if not path.exists():
        return
    removed.size += folder_size(path)
    remove_folder(path)
    removed.names.append(_relative(store, path))


def _remove_empty(folder: Path, root: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty, or not there
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _relative(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()
