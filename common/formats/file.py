"""What a published file is: its name, its version, what stands in it, and the one way to read and to write it.

Every file that another stage, the report or the orchestrator reads has a module beside this one that makes one of these;
its name stands nowhere else but in the contract of the stage that writes it. Nothing here loads torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.foreign import parse_json, uncollected, whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """A part of a JSON file that has a schema: nothing else may be in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class File:
    """A file of a unit. name: may hold `{layer}` or `{group}`; unit: the `stage/unit` that writes it, of several the first;
    content: what is in it, in a sentence or two."""

    name: str
    unit: str
    content: str

    def __str__(self) -> str:
        return self.name

    @property
    def stage(self) -> str:
        return self.unit.partition("/")[0]

    def of(self, place: object) -> File:
        """The file of one layer, or of one wave of layers."""
        name, unit = (re.sub(r"\{(layer|group)\}", str(place), text) for text in (self.name, self.unit))
        return replace(self, name=name, unit=unit)

    def corrupt(self, path: Path, why: object) -> CorruptInputError:
        """The error for a file that is not what its name says."""
        return CorruptInputError(
            f"{path} is not a whole {self.name} ({' '.join(str(why).split())}); run {self.stage} again"
        )


@dataclass(frozen=True)
class Json(File):
    """A JSON object; `schema_version` says what it looks like, where it has a version."""

    version: int | None = None
    indent: int | None = 1
    record: type[BaseModel] | None = None
    """What all that read it rely on: checked when it is written and when it is read. There may be more in it."""

    def read(self, path: Path) -> dict[str, Any]:
        """Raises CorruptInputError for what is no JSON object or is of another version."""
        content = self.read_any(path)
        if self.version is not None and not self.is_current(content):
            raise CorruptInputError(
                f"{path} has schema version {content.get('schema_version')}, not {self.version}; run {self.stage} again"
            )
        return content

    @uncollected()
    def read_any(self, path: Path) -> dict[str, Any]:
        """A file of whichever version; that of today's is as declared. Raises CorruptInputError."""
        with whole(path, f"run {self.stage} again", self.name):
            text = path.read_text(encoding="utf-8")
            try:
                content = parse_json(text)
            except ValueError as error:
                raise CorruptInputError(f"{path} is not JSON ({error}); run {self.stage} again") from error
        if not isinstance(content, dict):
            raise self.corrupt(path, "it is not a JSON object")
        if self.record is not None and (self.version is None or self.is_current(content)):
            try:
                record = self.record.model_validate(content)
            except ValidationError as error:
                raise self.corrupt(path, _first_fault(error)) from error
            # all of it is declared: what came later has its default
            if self.record.model_config.get("extra") == "forbid":
                return record.model_dump(mode="json")
        return content

    def is_current(self, content: Mapping[str, Any]) -> bool:
        """Whether what was read is of the version that is written now."""
        return content.get("schema_version") == self.version

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write the file, its version first. content: without its version. Raises ValidationError for what is not as
        declared, a defect of the stage."""
        if self.record is not None:
            self.record.model_validate(content)
        head = {} if self.version is None else {"schema_version": self.version}
        write_json(path, {**head, **content}, self.indent)


@dataclass(frozen=True)
class Lines(File):
    """JSON Lines: a record a line."""

    @uncollected()
    def read(self, path: Path) -> list[dict[str, Any]]:
        """Every record, an object each. Raises CorruptInputError naming the line."""
        return list(self.each(path))

    def each(self, path: Path) -> Iterator[dict[str, Any]]:
        """The same one after another."""
        with whole(path, f"run {self.stage} again", self.name), path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = parse_json(line)
                except ValueError as error:
                    raise CorruptInputError(
                        f"{path} line {number} is not JSON ({error}); run {self.stage} again"
                    ) from error
                if not isinstance(record, dict):
                    raise CorruptInputError(f"{path} line {number} is no JSON object; run {self.stage} again")
                yield record

    @uncollected()
    def read_as(self, path: Path, kind: type[Model]) -> list[Model]:
        """The same as records of a kind. Raises CorruptInputError naming the line and the key."""
        records = []
        for number, content in enumerate(self.each(path), start=1):
            try:
                records.append(kind.model_validate(content))
            except ValidationError as error:
                raise CorruptInputError(
                    f"{path} line {number}: {_first_fault(error)}; run {self.stage} again"
                ) from error
        return records

    def write(self, path: Path, records: Iterable[Mapping[str, Any]]) -> None:
        with path.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


Where = Mapping[str, range]
"""Column to the range that its values must lie in."""


def only(questions: range | None) -> Where | None:
    """Rows of some questions, or all."""
    return None if questions is None else {"question": questions}


@dataclass(frozen=True)
class Column:
    """type: `int32`, `float32`, `string`, …; meaning: what it says, with its unit."""

    name: str
    type: str
    meaning: str = ""


@dataclass(frozen=True)
class Table(File):
    """A Parquet file. content: what a row is, and how rows are sorted."""

    columns: tuple[Column, ...] = ()

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def read(
        self, path: Path, columns: Sequence[str] | None = None, *, where: Where | None = None
    ) -> dict[str, NDArray[Any]]:
        """Column to values; all of them, or these, of all rows or of some. Raises CorruptInputError."""
        table = self.table(path, columns, where=where)
        return {name: table[name].to_numpy() for name in table.column_names}

    def frame(
        self, path: Path, columns: Sequence[str] | None = None, *, where: Where | None = None
    ) -> pd.DataFrame:
        """The same as a DataFrame. Raises CorruptInputError."""
        return self.table(path, columns, where=where).to_pandas()

    def table(
        self,
        path: Path,
        columns: Sequence[str] | None = None,
        dictionaries: Sequence[str] = (),
        *,
        where: Where | None = None,
    ) -> pa.Table:
        """The same as an Arrow table. dictionaries: columns of few different texts; where: only rows whose columns are in
        these ranges; row groups without such rows are not read. Raises CorruptInputError."""
        import pyarrow.parquet as pq

        with whole(path, f"run {self.stage} again", self.name):
            table = pq.read_table(
                path,
                columns=None if columns is None else list(columns),
                read_dictionary=list(dictionaries) or None,
                filters=_filters(where),
            )
        return self._checked(path, table, columns)

    def _checked(self, path: Path, table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
        """The table, where it has its columns as declared. Raises CorruptInputError."""
        if missing := set(self.names if columns is None else columns) - set(table.column_names):
            raise self.corrupt(path, f"it has no column {min(missing)!r}")
        for column in self.columns:
            if column.name in table.column_names:
                found = table[column.name]
                if _kind(str(found.type)) != _kind(column.type):
                    raise self.corrupt(path, f"its column {column.name!r} is {found.type}, not {column.type}")
                if column.type.startswith("int") and found.null_count:
                    raise self.corrupt(path, f"its column {column.name!r} has gaps")
        return table

    def rows(self, path: Path, wanted: range, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by number, all columns or these, for a table that has no column to find them by; other row groups are not read. Raises
        CorruptInputError."""
        import pyarrow.parquet as pq

        with whole(path, f"run {self.stage} again", self.name):
            groups: list[int] = []
            file, start, first = pq.ParquetFile(path), 0, 0
            for group in range(file.metadata.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                if start < wanted.stop and stop > wanted.start:
                    first = first if groups else start
                    groups.append(group)
                start = stop
            table = file.read_row_groups(groups, columns).slice(wanted.start - first, len(wanted))
        if len(table) != len(wanted):
            raise self.corrupt(path, f"it has {start} rows and should have {wanted.stop} or more")
        return self._checked(path, table, columns)

    def write(self, path: Path, columns: Arrays | pa.Table) -> None:
        """Write the table. columns: as declared, in this order and of these types."""
        with self.in_pieces(path) as write:
            write(columns)

    @contextmanager
    def in_pieces(self, path: Path) -> Iterator[Callable[[Arrays | pa.Table], None]]:
        """Writes rows as they come, so that they need not be held together; a piece is a row group, a long one several."""
        import pyarrow.parquet as pq

        with ExitStack() as opened:
            writer: pq.ParquetWriter | None = None

            def write(columns: Arrays | pa.Table) -> None:
                nonlocal writer
                table = self._as_declared(columns)
                if writer is None:
                    writer = opened.enter_context(pq.ParquetWriter(path, table.schema, compression="zstd"))
                writer.write_table(table)

            yield write

    def _as_declared(self, columns: Arrays | pa.Table) -> pa.Table:
        import pyarrow as pa

        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        kinds = {column.name: ARROW_NAMES.get(column.type, column.type) for column in self.columns}
        for place, field in enumerate(table.schema):
            # no row, or none with a value, to tell the type by
            if pa.types.is_null(field.type) and field.name in kinds:
                empty = pa.nulls(len(table), pa.type_for_alias(kinds[field.name]))
                table = table.set_column(place, field.name, empty)
        found = [(field.name, str(field.type)) for field in table.schema]
        declared = list(kinds.items())
        assert found == declared, f"{self.name}: {found} is not as declared"
        return table

    def join(self, path: Path, pieces: Sequence[Path]) -> None:
        """One file of the rows of several, a row group each, or more where pyarrow cuts a long one."""
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, pq.read_schema(pieces[0]), compression="zstd") as writer:
            for piece in pieces:
                writer.write_table(pq.read_table(piece))


def _first_fault(error: ValidationError) -> str:
    """The key and what is wrong with it."""
    first = error.errors()[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


def _kind(arrow: str) -> str:
    """What sort of values an Arrow type, or one of our own names of it, holds, however wide they are."""
    name = re.sub(r"dictionary<values=(\w+).*", r"\1", arrow)
    if inner := re.fullmatch(r"(?:large_|fixed_size_)?list<(?:\w+: )?(.*?)>(?:\[\d+\])?", name):
        return f"list of {_kind(inner[1])}"
    if re.fullmatch(r"u?int\d+|halffloat|double|float\d*", name):
        return "number"
    return name.removeprefix("large_")


def _filters(where: Where | None) -> list[tuple[str, str, int]] | None:
    if not where:
        return None
    return [
        term
        for name, values in where.items()
        for term in ((name, ">=", values.start), (name, "<", values.stop))
    ]


def write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """JSON that any reader takes, in UTF-8; numpy arrays as lists. Raises NumericError for NaN or Inf, which JSON lacks."""
    try:
        text = json.dumps(
            content, indent=indent, ensure_ascii=False, allow_nan=False, default=lambda array: array.tolist()
        )
    except ValueError as error:
        raise NumericError(f"{path.name}: a figure is not finite ({error})") from error
    path.write_text(text + "\n", encoding="utf-8")


ARROW_NAMES = {"float16": "halffloat", "float32": "float", "float64": "double"}
"""How Arrow writes types that have another name elsewhere."""

QUESTION = Column("question", "int32", "line of generations.jsonl, from 0")
POSITION = Column(
    "position",
    "int16",
    "−1 last token of the subject, 0 last prompt token, 1… answer tokens; position p ≥ 0 predicts answer token p + 1",
)
LAYER = Column("layer", "int16", "block of the model, from 0")
LATENT = Column("latent", "int32", "unit of the layer's SAE")
