"""Finds and removes what nothing needs any more.

Temporary results whose every reader is done and verifies (hidden states), work in progress under keys that are asked for
no more, and damaged results that were set aside.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.errors import BusyError, CorruptInputError, MissingInputError
from ghosttrack.common.files import remove_folder
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.plan import Plan, PlannedUnit


def releasable(plan: Plan) -> list[PlannedUnit]:
    """The temporary results that are there although everything that reads them is up to date."""
    waiting = {read.name for planned in plan.stale for read in planned.unit.reads}
    # also of a result that is marked as released, where a killed `gc` has left some of its files
    there = [each for each in plan.units if each.reason is None and each.entry and each.entry.has_files]
    return [each for each in there if each.unit.temporary and each.unit.label not in waiting]


def release(store: Store, plan: Plan, labels: Iterable[str]) -> int:
    """Remove the files of those of these units that are releasable and whose readers verify; the bytes freed.

    labels: `stage/unit`. What is still needed, read by something damaged or by work that goes on (of other settings, say), or
    shared with a configuration that is at work is left.
    """
    labels = set(labels)
    freed = 0
    for planned in releasable(plan):
        readers = [p for p in plan.units if any(r.name == planned.unit.label for r in p.unit.reads)]
        if planned.unit.label not in labels or store.others_at_work(planned.unit):
            continue
        if all(_verifies(store, reader) and not store.claim_holder(reader.unit) for reader in readers):
            freed += store.release(planned.unit)
    return freed


def _verifies(store: Store, planned: PlannedUnit) -> bool:
    if planned.entry is None:
        return False
    try:
        store.verify(planned.entry)
    except (CorruptInputError, MissingInputError):
        return False
    return True


@dataclass(frozen=True)
class Rubbish:
    """A folder that can go."""

    path: Path
    size: int
    what: str
    unit: Unit | None = None
    """That it is work on."""


def rubbish(store: Store, plan: Plan) -> list[Rubbish]:
    """Abandoned work of this configuration, and results that were found damaged and set aside."""
    aside = "a damaged result that was set aside"
    found = [Rubbish(path, folder_size(path), aside) for path in store.set_aside()]
    for unit in (planned.unit for planned in plan.units if planned.reason is None):
        if store.claim_holder(unit) is None:
            abandoned = store.abandoned(unit)
            found += [Rubbish(path, folder_size(path), "work that was abandoned", unit) for path in abandoned]
    return found


def remove(store: Store, item: Rubbish) -> int:
    """The bytes freed; none where somebody has begun to work there since it was found."""
    try:
        with store.claim(item.unit) if item.unit else contextlib.nullcontext(), storage_errors(item.path):
            remove_folder(item.path)
    except BusyError:
        return 0
    return item.size
