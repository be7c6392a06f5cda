"""What there is to do: every unit of every stage, whether it must run and why, and what that will take.

Reads the configuration, the contracts and the store, changes nothing and imports no stage; `torch`
stays out of the process.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.schema import Config, describe_layers
from ghosttrack.common.engine.contract import STAGES_FOLDER, Contract, Unit, expand, task_key
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.engine.staleness import Reason, State, changed_since, input_digests, state
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import ConfigError, CorruptInputError, GhostTrackError, MissingInputError
from ghosttrack.orchestrate.disk import folder_size, free_bytes
from ghosttrack.orchestrate.estimate import Estimate, Estimator
from ghosttrack.orchestrate.waves import Waves, refusal, waves_of


@dataclass(frozen=True)
class PlannedUnit:
    """A unit, why it must run (None: it is up to date), and what running it is expected to take."""

    unit: Unit
    entry: Entry | None
    reason: Reason | None
    kept: bool
    """A result with the unit's key is there from an earlier run and needs only to be pointed to."""
    seconds: float
    size: float
    """Bytes that its outputs will take."""
    known: bool = True
    """Whether anything is known of time and size; both are 0 otherwise."""
    changed: Literal["code", "image"] | None = None
    """What made the result that is there, and is another now."""
    gpus: int = 0
    """That its job holds meanwhile."""


@dataclass(frozen=True)
class Plan:
    config: Config
    root: Path
    stages: list[str]
    """Those that have units, in the order in which they run."""
    units: list[PlannedUnit]
    free: int
    """Bytes that may still be written where the results go."""
    waves: Waves
    """What the hidden states take."""
    staged: int = 0
    """Bytes of hidden states that lie there half written."""

    @property
    def stale(self) -> list[PlannedUnit]:
        return [planned for planned in self.units if planned.reason]

    @property
    def stale_stages(self) -> list[str]:
        """In the order in which they run."""
        return list(dict.fromkeys(planned.unit.stage for planned in self.stale))

    @property
    def unknown(self) -> list[PlannedUnit]:
        """Stale units of which nobody knows what they take."""
        return [planned for planned in self.stale if not planned.known]

    @property
    def seconds(self) -> float:
        return sum(planned.seconds for planned in self.stale)

    @property
    def gpu_hours(self) -> float:
        return sum(planned.seconds * planned.gpus for planned in self.stale) / 3600

    @property
    def waves_at_a_time(self) -> int | None:
        """Waves of hidden states that may be on disk at a time; None where all may."""
        return self.waves.at_a_time if self.waves.bounded else None

    @property
    def size(self) -> float:
        """Bytes that the disk must have for it: of the waves, as many as are there at a time."""
        return self._lasting + max(0.0, self._states - self._finished_states - self.staged)

    @property
    def _states(self) -> float:
        """Bytes of hidden states that will be there at a time, finished ones included."""
        to_come = sum(planned.size for planned in self.stale if planned.unit.temporary)
        return min(to_come + self._finished_states, self.waves.peak)

    @property
    def _lasting(self) -> float:
        """Bytes to come that stay."""
        return sum(planned.size for planned in self.stale if not planned.unit.temporary)

    @property
    def _finished_states(self) -> float:
        """Bytes of hidden states that are there and up to date."""
        return sum(
            planned.entry.size
            for planned in self.units
            if planned.unit.temporary and not planned.reason and planned.entry and not planned.entry.released
        )

    @property
    def refusal(self) -> str | None:
        """Why this cannot be run on this disk, and what can be done; None where it can."""
        if any(planned.unit.temporary for planned in self.stale):
            room = self.free - self._lasting + self._finished_states + self.staged
            if room > 0 and (found := refusal(self.config, self.waves, self._states, room)):
                return found
        if self.size < self.free:
            return None
        return (
            f"the results take {format_bytes(self.size)} and {self.root.resolve()} has {format_bytes(self.free)} free; "
            "choose another folder with --set paths.root=…"
        )

    def unit_that_writes(self, file: str) -> PlannedUnit:
        """The last that does. Raises ConfigError where none does."""
        found = [planned for planned in self.units if file in planned.unit.writes]
        if not found:
            raise ConfigError(f"{self.config.name} has no unit that writes {file}")
        return found[-1]

    def result_of(self, file: str) -> Entry:
        """The published result that has the file. Raises MissingInputError where there is none."""
        planned = self.unit_that_writes(file)
        if planned.entry is None:
            raise MissingInputError(
                f"{self.config.name}: {planned.unit.label} has no result yet; `ghosttrack run` makes it"
            )
        return planned.entry

    def of_stage(self, stage: str) -> list[PlannedUnit]:
        return [planned for planned in self.units if planned.unit.stage == stage]

    def stale_of(self, stage: str) -> list[PlannedUnit]:
        return [planned for planned in self.of_stage(stage) if planned.reason]

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.name,
            "root": str(self.root),
            "units": [
                {
                    "stage": planned.unit.stage,
                    "unit": planned.unit.name,
                    "reason": str(planned.reason) if planned.reason else None,
                    "kept": planned.kept,
                    "codeChanged": planned.changed == "code",
                    "imageChanged": planned.changed == "image",
                    "predictedSeconds": round(planned.seconds, 1) if planned.known else None,
                    "predictedBytes": round(planned.size) if planned.known else None,
                }
                for planned in self.units
            ],
            "staleUnits": len(self.stale),
            "predictedSeconds": round(self.seconds, 1),
            "predictedGpuHours": round(self.gpu_hours, 2),
            "predictedBytes": round(self.size),
            "freeBytes": self.free,
            "refusal": self.refusal,
        }


class FrozenStore(Store):
    """A store whose pointers and manifests are read once, for the length of one plan."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._seen: dict[tuple[str, str, str], Entry | CorruptInputError | None] = {}
        self._pointers: dict[tuple[str, str], set[str]] = {}

    def current(self, name: str, stage: str, unit: str) -> Entry | None:
        address = (name, stage, unit)
        if address not in self._seen:
            try:
                self._seen[address] = super().current(*address) if self._has(*address) else None
            except CorruptInputError as error:
                self._seen[address] = error
        found = self._seen[address]
        if isinstance(found, CorruptInputError):
            raise found
        return found

    def _has(self, name: str, stage: str, unit: str) -> bool:
        """Whether there may be a pointer; folders of pointers are listed once, which is quicker than many looks."""
        if (name, stage) not in self._pointers:
            self._pointers[name, stage] = set(self.published(name, stage))
        return unit in self._pointers[name, stage]


def make_plan(
    config: Config,
    contracts: Iterable[Contract],
    profile: ClusterProfile | None = None,
    *,
    strict_code: bool = False,
    images: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The state of every unit, upstream first. A unit that reads one which will run is taken to be stale.

    profile: of the machine that it would run on. strict_code: what other code or another image than there is now has made
    must run too. images: of the stages that run in one, the digest of what it is built from.
    """
    store = FrozenStore(config.paths.root)
    contracts = list(contracts)
    gpus = {contract.stage: gpus_of(contract, profile or ClusterProfile()) for contract in contracts}
    states = []
    stale: set[str] = set()
    kept: dict[str, Entry] = {}
    for contract in contracts:
        for unit in expand(contract, config, strict_code=strict_code, image=images.get(contract.stage, "")):
            found = state(store, unit, stale)
            if found.reason:
                stale.add(unit.label)
                if (entry := _kept(store, unit, found.reason, stale, kept)) is not None:
                    kept[unit.label] = entry
            states.append((unit, found, unit.label in kept))
    if not states:
        raise ConfigError(f"{config.name} has no unit of work: none of the stages has one for it")
    states = _with_released_inputs(states)
    entries = {unit.label: found.entry for unit, found, _ in states if found.entry}
    stages_folder = contracts[0].home.parent if contracts else STAGES_FOLDER
    estimator = Estimator(config, entries, stages_folder)
    planned = [
        PlannedUnit(
            unit,
            found.entry,
            found.reason,
            kept,
            *estimate,
            gpus=gpus[unit.stage][0],
            changed=changed_since(found.entry, unit) if found.entry else None,
        )
        for unit, found, kept in states
        for estimate in [
            Estimate(0.0, 0.0) if kept or not found.reason else estimator.predict(unit, gpus[unit.stage][1])
        ]
    ]
    waves = waves_of(config, (unit for unit, _, _ in states), estimator.size)
    return Plan(
        config=config,
        root=store.root,
        stages=list(dict.fromkeys(unit.stage for unit, _, _ in states)),
        units=planned,
        free=free_bytes(store.root),
        waves=waves,
        staged=sum(
            folder_size(store.layout.in_progress(config.name, contract.stage))
            for contract in contracts
            if any(pattern.temporary for pattern in contract.units)
        ),
    )


def gpus_of(contract: Contract, profile: ClusterProfile) -> tuple[int, float | None]:
    """GPUs that a job of the stage holds, and the FLOP a second of those that work."""
    asked = profile.resources_of(contract.stage)
    count = asked.gpus * asked.nodes
    at_work = 0 if not contract.gpu else count if contract.ranks == "shared" else min(count, 1)
    return count, at_work * asked.gpu_tflops * 1e12 or None


def _with_released_inputs(states: list[tuple[Unit, State, bool]]) -> list[tuple[Unit, State, bool]]:
    """The states, with a reason for every unit whose files were removed and are needed once more.

    It will come out as it was, so that nothing else becomes stale by it.
    """
    needed_by: dict[str, str] = {}
    found = []
    for unit, now, kept in reversed(states):
        if now.reason is None and now.entry and now.entry.released and unit.label in needed_by:
            now = State(now.entry, Reason("released", needed_by[unit.label]))
        if now.reason and not kept:
            needed_by.update({read.name: unit.label for read in unit.reads})
        found.append((unit, now, kept))
    return found[::-1]


@dataclass(frozen=True)
class Group:
    """Units of a stage that differ in their layer only: `layer_0-5,8` stands for seven units."""

    stage: str
    names: str
    state: str
    units: list[PlannedUnit]


def fold(plan: Plan) -> list[Group]:
    """The plan in few lines, in the order in which stages run."""
    groups: dict[tuple[str, str, str], list[PlannedUnit]] = {}
    for planned in plan.units:
        unit = planned.unit
        groups.setdefault((unit.stage, _pattern(unit, unit.name), state_of(planned)), []).append(planned)
    return [
        Group(stage, _names(pattern, members), text, members)
        for (stage, pattern, text), members in groups.items()
    ]


def state_of(planned: PlannedUnit) -> str:
    """Why a unit must run, in a few words; its own layer reads `layer_*`, so that layers can be folded."""
    if planned.reason is None:
        return f"up to date, {planned.changed} changed since" if planned.changed else "up to date"
    text = _pattern(planned.unit, str(planned.reason))
    return text + (" (kept from an earlier run)" if planned.kept else "")


def _kept(
    store: Store, unit: Unit, reason: Reason, stale: set[str], kept: Mapping[str, Entry]
) -> Entry | None:
    """A stale unit's result from an earlier run, of whichever name (it is verified when it is used); kept: of those before it."""
    if reason.kind in ("corrupt", "code", "image") or any(
        read.name in stale and read.name not in kept for read in unit.reads
    ):
        return None
    entries = dict(kept)
    try:
        for read in unit.reads:
            if read.name not in kept and (entry := store.current(unit.config_name, read.stage, read.unit)):
                entries[read.name] = entry
        found = store.kept(unit, task_key(unit, input_digests(unit, entries)), verified=False)
    except (GhostTrackError, KeyError):
        return None
    return None if found and unit.strict_code and changed_since(found, unit) else found


def _pattern(unit: Unit, text: str) -> str:
    if unit.layer is None:
        return text
    return re.sub(rf"(layer|independent)_{unit.layer}(?!\d)", r"\1_*", text)


def _names(pattern: str, members: list[PlannedUnit]) -> str:
    layers = [planned.unit.layer for planned in members if planned.unit.layer is not None]
    return pattern.replace("*", describe_layers(layers))
