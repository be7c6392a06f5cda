"""The chain: what must run, as links that a scheduler or a loop can walk.

A link is one job, or one job array whose elements have the same index, layer or wave of layers, in every
link. Whoever executes the chain submits a link once (SLURM) or walks through its tasks (local).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ghosttrack.orchestrate.plan import Plan, PlannedUnit

Kind = Literal["afterok", "aftercorr"]


@dataclass(frozen=True)
class Task:
    """A job, or an element of a job array."""

    index: int | None
    units: list[PlannedUnit]
    """In the order in which they run."""
    release: list[PlannedUnit]
    """Units whose files are removed when the task's work is done and everything that reads them verifies."""

    @property
    def stages(self) -> dict[str, list[str]]:
        """Stage to the names of its units, in the order in which they run."""
        stages: dict[str, list[str]] = {}
        for planned in self.units:
            stages.setdefault(planned.unit.stage, []).append(planned.unit.name)
        return stages

    @property
    def seconds(self) -> float:
        return sum(planned.seconds for planned in self.units)


@dataclass(frozen=True)
class Link:
    name: str
    tasks: list[Task]
    throttle: int | None
    """Tasks that may run at a time, where the disk holds no more."""
    after: dict[str, Kind]
    """Link to how it is waited for: for all of it, or for the element with the same index."""

    @property
    def stages(self) -> list[str]:
        """The stages that its tasks run, in order."""
        return list(dict.fromkeys(stage for task in self.tasks for stage in task.stages))

    @property
    def is_array(self) -> bool:
        return self.tasks[0].index is not None

    @property
    def indices(self) -> list[int]:
        return [task.index for task in self.tasks if task.index is not None]


def chain_of(plan: Plan) -> list[Link]:
    """The links of everything that must run, in an order in which they can run."""
    stale = plan.stale
    bounded = plan.waves_at_a_time is not None
    slots = _slots(plan, bounded)
    groups: dict[str, list[PlannedUnit]] = {}
    for planned in stale:
        groups.setdefault(slots[planned.unit.label], []).append(planned)
    links = [
        Link(
            name=name,
            tasks=list(_tasks(units, bounded)),
            throttle=plan.waves_at_a_time
            if any(p.unit.temporary and p.unit.index is not None for p in units)
            else None,
            after=_dependencies(name, units, slots, {p.unit.label: p for p in stale}),
        )
        for name, units in groups.items()
    ]
    return _ordered(links)


def _slots(plan: Plan, bounded: bool) -> dict[str, str]:
    """Unit to the name of its link."""
    arrays = {planned.unit.stage for planned in plan.units if planned.unit.index is not None}
    readers: dict[str, set[str]] = {}
    for planned in plan.units:
        for read in planned.unit.reads:
            readers.setdefault(read.name, set()).add(planned.unit.label)
    slots: dict[str, str] = {}
    for planned in reversed(plan.units):  # readers first
        unit = planned.unit
        if unit.index is not None:
            waves = bounded and (
                unit.temporary or any(r.stage in arrays for r in unit.reads if r.stage != unit.stage)
            )
            slots[unit.label] = "layers" if waves else unit.stage
        elif unit.temporary and len(readers.get(unit.label, ())) == 1:
            [reader] = readers[unit.label]
            slots[unit.label] = slots[reader]  # made for one reader only: in its job
        else:
            slots[unit.label] = unit.name if unit.stage in arrays else unit.stage
    return slots


def _tasks(units: list[PlannedUnit], bounded: bool) -> Iterable[Task]:
    """One task for each index, in order."""
    by_index: dict[int | None, list[PlannedUnit]] = {}
    for planned in units:
        by_index.setdefault(planned.unit.index, []).append(planned)
    for index in sorted(by_index, key=lambda index: -1 if index is None else index):
        members = by_index[index]
        yield Task(index, members, [p for p in members if bounded and p.unit.temporary])


def _dependencies(
    name: str, units: list[PlannedUnit], slots: dict[str, str], stale: dict[str, PlannedUnit]
) -> dict[str, Kind]:
    after: dict[str, Kind] = {}
    for planned in units:
        for read in planned.unit.reads:
            if read.name not in stale or (link := slots[read.name]) == name:
                continue
            same = planned.unit.index is not None and stale[read.name].unit.index == planned.unit.index
            kind: Kind = "aftercorr" if same and after.get(link, "aftercorr") == "aftercorr" else "afterok"
            after[link] = kind
    return after


def _ordered(links: list[Link]) -> list[Link]:
    """Every link after those that it waits for, else as they come."""
    waiting, ordered = {link.name: link for link in links}, []
    while waiting:
        ready = next(link for link in waiting.values() if not link.after.keys() & waiting.keys())
        ordered.append(waiting.pop(ready.name))
    return ordered
