"""A run's published results, opened for reading wherever they lie; every file is checked before it is read.

A run may be half finished: what is not there is listed, with the command that makes it. What is there and does not match
its manifest is refused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import ConfigError, CorruptInputError, MissingInputError
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.detector import ASKED_SCORES
from ghosttrack.common.formats.file import File, Json, Lines, Table
from ghosttrack.common.formats.questions import OF_NEW

Kept = TypeVar("Kept")
OWN = "report"
SCORED, ACCOUNTED = ASKED_SCORES.unit, "track/account"


@dataclass
class Results:
    """entries: `stage/unit` to the result that counts now, in the order in which they can have been made."""

    store: Store
    name: str
    entries: dict[str, Entry]
    deep: bool = True
    """Whether every file is hashed again before it is read, not only one that has changed since it was."""
    _read: set[tuple[str, str]] = field(default_factory=set)
    _contents: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, root: str, name: str, *, deep: bool = True) -> "Results":
        """Of the configuration `name` under a root. Raises MissingInputError if it has no result at all, CorruptInputError."""
        store = Store(root)
        found = {
            stage: {
                unit: entry
                for unit in sorted(store.published(name, stage), key=_unit_order)
                if (entry := store.current(name, stage, unit))
            }
            for stage in sorted(store.stages(name))
            if stage != OWN
        }
        entries = {
            f"{stage}/{unit}": entry for stage in _in_order(found) for unit, entry in found[stage].items()
        }
        if not entries:
            raise MissingInputError(
                f"{name} has no results under {store.root}; `ghosttrack run {name}` makes them"
            )
        return cls(store, name, entries, deep)

    @classmethod
    def at(cls, place: str) -> "Results":
        """Of a folder `<root>/results/<name>`, or of a name with results under the working folder."""
        path = Path(place)
        if path.parent.name == "results" or path.is_dir():
            path = path.resolve()
            if path.parent.name != "results":
                raise ConfigError(f"{place} is no folder of results; give one such as results/demo")
            return cls.open(str(path.parent.parent), path.name)
        return cls.open(".", place)

    @property
    def stages(self) -> list[str]:
        """Those that have results, in the order in which they run."""
        return list(dict.fromkeys(label.split("/")[0] for label in self.entries))

    def has(self, file: File) -> bool:
        entry = self.entries.get(file.unit)
        return entry is not None and file.name in entry.manifest.files and not entry.released

    def has_table(self, table: Table) -> bool:
        """Whether a table of this version is there. Raises CorruptInputError."""
        if not self.has(table):
            return False
        path = self.path(table)
        with whole(path, f"run {table.stage} again", table.name):
            return set(table.names) <= set(pq.read_schema(path).names)

    def path(self, file: File) -> Path:
        """A file whose content has its digest. Raises MissingInputError or CorruptInputError."""
        if not self.has(file):
            raise MissingInputError(
                f"{self.name}: {file.unit} has no {file.name}; `ghosttrack run {self.name}` makes it"
            )
        return self.verified(file.unit, file.name)

    def verified(self, unit: str, name: str) -> Path:
        """The same of a file that is there, by its name."""
        entry = self.entries[unit]
        self.store.verify(entry, [name], deep=self.deep and (unit, name) not in self._read)
        self._read.add((unit, name))
        return entry.file(name)

    def of_new_questions(self) -> "Results | None":
        """Those of the last `ghosttrack score`, as if they were a run's own; None where there are none, or where their
        scores are of others that were asked before."""
        entries = {unit: self.entries[own] for unit, own in OF_NEW.items() if own in self.entries}
        if SCORED not in self.entries or OF_NEW.keys() - entries.keys() - {ACCOUNTED}:
            return None

        def of_these(entry: Entry) -> bool:
            """Whether it was made from the answers that are there."""
            answered, read = OF_NEW["track/answers"], entry.manifest.input_digests
            return all(
                read.get(f"{answered}/{file}", each.sha256) == each.sha256
                for file, each in self.entries[answered].manifest.files.items()
            )

        if not of_these(self.entries[SCORED]):
            return None
        if ACCOUNTED in entries and not of_these(entries[ACCOUNTED]):
            del entries[ACCOUNTED]
        kept = {unit: self.entries[unit] for unit in (SCORED, "prepare/model") if unit in self.entries}
        return Results(self.store, self.name, {**entries, **kept}, self.deep)

    @property
    def read(self) -> frozenset[tuple[str, str]]:
        """Unit and file of all that was read so far."""
        return frozenset(self._read)

    def json(self, file: Json) -> Any:
        """The content of a JSON file; read once, not to be changed."""
        return self.kept(file.name, lambda: file.read_any(self.path(file)))

    def json_if_there(self, file: Json) -> Any:
        """None where there is no such file."""
        return self.json(file) if self.has(file) else None

    def kept(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What is made of files, made once."""
        if name not in self._contents:
            self._contents[name] = make()
        found: Kept = self._contents[name]
        return found

    def lines(self, file: Lines) -> list[dict[str, Any]]:
        """The records of a JSON Lines file."""
        return file.read(self.path(file))

    def digest(self, unit: str, file: str) -> str:
        """sha256 of a file, as its manifest has it."""
        return self.entries[unit].manifest.files[file].sha256

    def absent(self, wanted: Iterable[tuple[str, File]]) -> list[dict[str, str]]:
        """Of what it is and the file those that are not there, each with the command that makes it."""
        return [
            {"what": what, "file": f"{file.unit}/{file.name}", "mend": f"ghosttrack run {self.name}"}
            for what, file in wanted
            if not self.has(file)
        ]


def _in_order(found: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    """The stages, each after those whose files its units have read. Raises CorruptInputError where their manifests go in a circle."""
    read = {
        stage: {name.split("/")[0] for entry in units.values() for name in entry.manifest.input_digests}
        - {stage}
        for stage, units in found.items()
    }
    try:
        return [stage for stage in TopologicalSorter(read).static_order() if stage in found]
    except CycleError as error:
        raise CorruptInputError(
            f"by their manifests {' and '.join(error.args[1][1:])} were made of each other; run them again"
        ) from error


def _unit_order(unit: str) -> tuple[str, int]:
    """layer_10 after layer_9."""
    stem, _, number = unit.rpartition("_")
    return (stem, int(number)) if number.isdecimal() else (unit, -1)
