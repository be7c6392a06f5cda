"""Removes hidden states that nothing needs any more: temporary results whose every reader is done and verifies."""

from collections.abc import Iterable

from common.errors import CorruptInputError, MissingInputError
from common.storage import Store
from orchestrate.plan import Plan, PlannedUnit


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

    labels: `stage/unit`. What is still needed, or read by something damaged, is left.
    """
    labels = set(labels)
    freed = 0
    for planned in releasable(plan):
        readers = [p for p in plan.units if any(r.name == planned.unit.label for r in p.unit.reads)]
        if planned.unit.label in labels and all(_verifies(store, reader) for reader in readers):
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
