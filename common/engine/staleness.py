"""Whether a unit's published result still is what the configuration asks for, and if not, why."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from ghosttrack.common.engine.contract import ALL_FILES, Unit, task_key
from ghosttrack.common.engine.entry import broken_promise
from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import CorruptInputError, MissingInputError, first_of

Kind = Literal["missing", "param", "input", "contract", "code", "image", "corrupt", "released"]


@dataclass(frozen=True)
class Reason:
    """Why a unit must run."""

    kind: Kind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.detail}" if self.detail else self.kind


@dataclass(frozen=True)
class State:
    """A unit's published result, if it has one, and the reason to run it again, if there is one."""

    entry: Entry | None
    reason: Reason | None


def input_entries(store: Store, unit: Unit) -> dict[str, Entry]:
    """`stage/unit` to the current result of every unit that is read.

    Raises MissingInputError naming the stage to run, or CorruptInputError.
    """
    entries = {}
    for read in unit.reads:
        entry = store.current(unit.config_name, read.stage, read.unit)
        if entry is None:
            raise MissingInputError(
                f"{unit.label} needs {read.name}, which has no published result for {unit.config_name!r}; "
                f"run `python -m ghosttrack.stages.{read.stage}` first, or all with `ghosttrack run`"
            )
        entries[read.name] = entry
    return entries


def input_digests(unit: Unit, entries: dict[str, Entry]) -> dict[str, str]:
    """`stage/unit/file` to the recorded sha256, for every file that the unit reads."""
    digests = {}
    for read in unit.reads:
        subjects = entries[read.name].manifest.files
        for name in subjects if read.files == [ALL_FILES] else read.files:
            if name not in subjects:
                raise MissingInputError(
                    f"{unit.label} needs {read.name}/{name}, which that unit did not write; "
                    f"run `python -m ghosttrack.stages.{read.stage}` again"
                )
            digests[f"{read.name}/{name}"] = subjects[name].sha256
    return digests


def state(store: Store, unit: Unit, stale_upstream: Set[str] = frozenset()) -> State:
    """A unit's state, its files verified as `Store.verify` says. stale_upstream: `stage/unit` of the units that will run before it."""
    try:
        entry = store.current(unit.config_name, unit.stage, unit.name)
    except CorruptInputError as error:
        return State(None, Reason("corrupt", str(error)))
    if entry is None:
        return State(None, Reason("missing"))
    predicate = entry.manifest.predicate
    if predicate.contract_version != unit.version:
        return State(entry, Reason("contract", f"{predicate.contract_version}→{unit.version}"))
    if changed := _changed_parameter(entry.parameters, unit.parameters):
        return State(entry, Reason("param", changed))
    for read in unit.reads:
        if read.name in stale_upstream:
            return State(entry, Reason("input", read.name))
    try:
        digests = input_digests(unit, input_entries(store, unit))
    except (CorruptInputError, MissingInputError) as error:
        return State(entry, Reason("input", str(error)))
    if task_key(unit, digests) != entry.key:
        return State(entry, Reason("input", _changed_input(entry.manifest.input_digests, digests)))
    if broken := broken_promise(unit, entry.manifest.files):
        return State(entry, Reason("corrupt", f"its manifest has {broken}"))
    if unit.strict_code and (other := changed_since(entry, unit)):
        return State(entry, Reason(other))
    if entry.released:  # what was made from it is there, so it need not be
        return State(entry, None)
    try:
        store.verify(entry)
    except (CorruptInputError, MissingInputError) as error:
        return State(entry, Reason("corrupt", str(error)))
    if not store.links_are_whole(unit):
        return State(entry, Reason("missing", "a public name"))
    return State(entry, None)


def changed_since(entry: Entry, unit: Unit) -> Literal["code", "image"] | None:
    """What is another now than when a result was made; None for neither, and where that is not on record.

    An image is compared by what it was built from, and only where there was one then and there is one now.
    """
    then = entry.manifest
    image = (then.predicate.container_image or {}).get("inputsSha256", "")
    if then.code_digest and unit.code and then.code_digest != unit.code:
        return "code"
    return "image" if image and unit.image and image != unit.image else None


def _changed_parameter(old: dict[str, object], new: dict[str, object]) -> str | None:
    changes = [
        f"{key} {old.get(key, 'unset')}→{new.get(key, 'unset')}"
        for key in sorted({*old, *new})
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]
    return ", ".join(changes) or None


def _changed_input(old: dict[str, str], new: dict[str, str]) -> str:
    names = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return first_of(names, 1) or "digests"


_ABSENT = object()
