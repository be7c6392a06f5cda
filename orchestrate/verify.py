"""Every published file of a configuration against its manifest, every public name against the store."""

from collections.abc import Iterable
from dataclasses import dataclass

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.entry import MEND, broken_promise
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.files import target_of


@dataclass(frozen=True)
class Verification:
    findings: list[str]
    """What is wrong with a unit, each with the unit before it."""
    unpublished: list[str]
    """Units that have no result."""
    files: int
    size: int


def verify_units(store: Store, units: Iterable[Unit], *, deep: bool = False) -> Verification:
    """Hold the files of units against their manifests. deep: hash every file again, whether it was hashed since it
    last changed or not."""
    findings: list[str] = []
    unpublished: list[str] = []
    files = size = 0
    for unit in units:
        try:
            entry = store.current(unit.config_name, unit.stage, unit.name)
        except CorruptInputError as error:
            findings.append(f"{unit.label}: {str(error).removeprefix(f'{unit.label}: ')}")
            continue
        if entry is None:
            unpublished.append(unit.label)
            continue
        if broken := broken_promise(unit, entry.manifest.files):
            findings.append(f"{unit.label}: its manifest has {broken}; {MEND}")
        if entry.released:
            continue
        for subject in entry.manifest.subject:
            files += 1
            size += subject.size
            try:
                store.verify(entry, [subject.name], deep=deep)
            except (CorruptInputError, MissingInputError) as error:
                findings.append(f"{unit.label}: {error}")
        for public, target in store.layout.public_links(unit).items():
            if target_of(public) != target:
                findings.append(f"{unit.label}: {public} is not the link to the result; {MEND}")
    return Verification(findings, unpublished, files, size)
