"""What results took and take: bytes on disk, GPUs, and what to ask a scheduler for next time."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ghosttrack.common.config.cluster import Resources, bytes_of, seconds_of, time_of
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.plan import Plan

MEMORY_MARGIN, TIME_MARGIN = 1.25, 1.5


def disk_use(store: Store, plan: Plan) -> dict[str, tuple[float, ...]]:
    """Stage to bytes: of its published results, of those that were removed since nothing needs them, of work in progress, and that
    stale units will write, as predicted."""
    uses: dict[str, tuple[float, ...]] = {}
    for stage in plan.stages:
        units = plan.of_stage(stage)
        sizes = [(planned.entry.size, planned.entry.released) for planned in units if planned.entry]
        now, removed = (sum(size for size, gone in sizes if gone is which) for which in (False, True))
        staging = folder_size(store.layout.in_progress(plan.config.name, stage))
        uses[stage] = now, removed, staging, sum(planned.size for planned in units if planned.reason)
    return uses


def gpu_use(plan: Plan) -> dict[str, tuple[int, float | None, float | None]]:
    """Stage to how many units it has a result of, and of those that were measured mean utilisation (0–100) and most memory (bytes)."""
    uses = {}
    for stage in plan.stages:
        usages = [planned.entry.usage for planned in plan.of_stage(stage) if planned.entry]
        seen = [value for usage in usages if (value := usage.get("gpuUtilisation")) is not None]
        memory = [value for usage in usages if (value := usage.get("gpuMemoryPeak")) is not None]
        uses[stage] = len(usages), sum(seen) / len(seen) if seen else None, max(memory, default=None)
    return uses


@dataclass(frozen=True)
class Advice:
    """What a stage's jobs used of what they asked for, and what to ask for next time."""

    stage: str
    asked: Resources | None
    """None: they were not submitted."""
    seconds: float
    """Of the task that took longest: the units of the stage that it does one after another."""
    memory: float
    """Bytes, the most that a unit's processes had."""
    cores: float
    """Kept busy on average in the unit that kept most busy."""
    proposal: Resources

    @property
    def memory_share(self) -> float | None:
        return self.memory / bytes_of(self.asked.memory) if self.asked else None

    @property
    def time_share(self) -> float | None:
        return self.seconds / seconds_of(self.asked.time) if self.asked else None

    @property
    def core_share(self) -> float | None:
        return self.cores / self.asked.cpus if self.asked else None


def advice(plan: Plan, asked: Mapping[str, Resources]) -> list[Advice]:
    """For every stage that has run. asked: stage to what its jobs asked for, where it was submitted."""
    found = []
    for stage in plan.stages:
        done = [(planned.unit, planned.entry) for planned in plan.of_stage(stage) if planned.entry]
        if not done:
            continue
        memory = max(entry.memory for _, entry in done)
        took = [(entry.elapsed, entry.usage.get("cpuSec") or 0.0) for _, entry in done]
        cores = max(cpu / elapsed if elapsed >= 1 else 1.0 for elapsed, cpu in took)
        used = _longest_task(done), memory, cores
        found.append(Advice(stage, asked.get(stage), *used, _proposal(asked.get(stage), *used)))
    return found


def _longest_task(done: Iterable[tuple[Unit, Entry]]) -> float:
    """Seconds; units of the same index are one task's."""
    tasks: defaultdict[int | str, float] = defaultdict(float)
    for unit, entry in done:
        tasks[unit.name if unit.index is None else unit.index] += entry.elapsed
    return max(tasks.values())


def _proposal(asked: Resources | None, seconds: float, memory: float, cores: float) -> Resources:
    return (asked or Resources()).model_copy(
        update={
            "memory": f"{max(1, math.ceil(memory * MEMORY_MARGIN / 2**30))}G",
            "time": time_of(max(1, math.ceil(seconds * TIME_MARGIN / 600)) * 600),
            "cpus": max(1, math.ceil(cores)),
        }
    )
