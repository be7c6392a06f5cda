"""Finds and removes what nothing needs any more.

Temporary results whose every reader is done and verifies (hidden states), work in progress under keys that are asked for
no more, and damaged results that were set aside.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.plan import Plan, PlannedUnit


def releasable(plan: Plan) -> list[PlannedUnit]:
    """The temporary results that are there although everything that reads them is up to date."""
    waiting = {read.name for planned in plan.stale for read in planned.unit.reads}
    return [
        planned
        for planned in plan.units
        if planned.unit.temporary
        and planned.reason is None
        and planned.entry is not None
        and not planned.entry.released
        and planned.unit.label not in waiting
    ]


def release(store: Store, plan: Plan, labels: Iterable[str]) -> int:
    """Remove the files of those of these units that are releasable and whose readers verify; the bytes freed.

    labels: `stage/unit`. What is still needed, read by something damaged, or shared with a configuration that is at work
    is left.
    """
    labels = set(labels)
    freed = 0
    for planned in releasable(plan):
        readers = [p for p in plan.units if any(r.name == planned.unit.label for r in p.unit.reads)]
        if planned.unit.label not in labels or store.others_at_work(planned.unit):
            continue
        if all(_verifies(store, reader) for reader in readers):
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


def rubbish(store: Store, plan: Plan) -> list[Rubbish]:
    """Abandoned work of this configuration, and results that were found damaged and set aside."""
    found = [(path, "a damaged result that was set aside") for path in store.set_aside()]
    for planned in plan.units:
        unit = planned.unit
        if planned.reason is None and store.claim_holder(unit) is None:
            found += [(path, "work that was abandoned") for path in store.abandoned(unit)]
    return [Rubbish(path, folder_size(path), what) for path, what in found]


def remove(item: Rubbish) -> int:
    """The bytes freed."""
    shutil.rmtree(item.path)
    return item.size
