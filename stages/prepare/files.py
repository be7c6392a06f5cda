"""Records of any file that `datasets` reads, each with the place that it is from: files, folders and hub data sets.

JSON and JSON Lines are read here, a record at a time: their rows may differ in types, may hold NaN and any character inside a
text (a line ends at a newline only), and one broken row is told without losing the others.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.errors import DataError
from ghosttrack.common.foreign import parse_json
from ghosttrack.stages.prepare.cells import of_cell

Record = dict[str, Any]
FORMATS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
           ".arrow": "arrow"}  # fmt: skip
"""Ending, before any `.gz`, to the reader of `datasets`."""
_INDEX = re.compile(r"Unnamed: \d+")
"""The name of a column without one: the numbers that pandas writes before its rows."""
_WHOLE = re.compile(r"(-?\d+\.0)?")
_PATTERN = re.compile(r"[*?\[\]{}$]|::")
"""What is no name to the library that reads tables, but a pattern, a variable or a chain of file systems."""
MOST_BYTES = 1 << 30
"""Of a text file, unpacked: it is read whole."""


class FileRow(NamedTuple):
    """A row of a source. number: from 1, the line in text files. record: None where it cannot be read, for `trouble`."""

    number: int
    record: Record | None
    trouble: str = ""


def format_of(path: Path) -> str | None:
    """The reader of `datasets` for a file's ending; None for others."""
    return FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())


def read_file(path: Path, key: str) -> Iterator[FileRow]:
    """The rows of a file. Raises DataError for a file that is missing, unreadable or of another kind."""
    kind = format_of(path)
    if kind is None:
        raise DataError(
            f"{key} = {str(path)!r}: its ending must be one of {', '.join(FORMATS)}, with or without .gz"
        )
    if not path.is_file():
        raise DataError(f"{key} = {str(path)!r}: there is no such file")
    if kind == "json":
        yield from _json(path, key)
        return
    options: dict[str, Any] = {}
    if kind == "csv":
        separator, names = _header(path, key)
        options = {
            "sep": separator,
            "keep_default_na": False,
            "features": _texts(names),
            "encoding": encoding_of(path),
        }
    table = load(kind, key, str(path), data_files=str(path), split="train", **options)
    whole = _whole_numbers(table) if kind == "csv" else ()
    for number, record in enumerate(table, start=2 if kind == "csv" else 1):
        if kind == "csv":
            record = {
                name: of_cell(name, text.removesuffix(".0") if name in whole else text) if text else None
                for name, text in record.items()
                if not _INDEX.fullmatch(name)
            }
        yield FileRow(number, record)


def _whole_numbers(table: Any) -> frozenset[str]:
    """Columns of whole numbers of which some are not given: pandas writes those as 1912.0."""
    return frozenset(
        name
        for name in table.column_names
        if all(_WHOLE.fullmatch(text or "") for text in table[name])
        and {bool(text) for text in table[name]} == {True, False}
    )


def load(source: str, key: str, shown: str, **options: Any) -> Any:
    """`datasets.load_dataset`, whose dozen kinds of errors are one trouble to the user. Raises DataError.

    Local files are read anew every time: a folder with a README is one entry of the library's cache whatever its rows are,
    and whichever folder of that name it is.
    """
    import datasets

    datasets.disable_progress_bars()
    place = Path(options.get("data_files", source))
    pattern = place.exists() and _PATTERN.search(str(place.absolute()))
    try:
        if (place / "state.json").is_file() and (place / "dataset_info.json").is_file():
            return datasets.load_from_disk(str(place))  # what `save_to_disk` wrote has one split
        if not place.exists() or (options.get("streaming") and not pattern):
            return datasets.load_dataset(source, **options)
        with tempfile.TemporaryDirectory() as cache:
            if pattern:
                plain = _plainly_named(place, Path(cache))
                options = {name: value for name, value in options.items() if name != "streaming"}
                if place.is_dir():
                    source = str(plain)
                else:
                    options["data_files"] = str(plain)
            return datasets.load_dataset(source, cache_dir=cache, keep_in_memory=True, **options)
    except Exception as error:
        causes = [str(error), str(error.__cause__ or "")]
        text = " ".join(" ".join(causes).split())[:300]
        mend = (
            f"choose one of them with {key}_split or {key}_config"
            if re.search(r"(?i)config name is missing|available configs|(?:bad|unknown) split", text)
            else "check the name and that this machine can reach the hub or has it in its cache"
        )
        raise DataError(f"{key} = {shown} cannot be loaded: {text}; {mend}") from error


def _plainly_named(place: Path, folder: Path) -> Path:
    """Links to a file, or to all files of a folder, under a name that is no pattern, by which the library would look for others."""
    if place.is_file():
        packed = ".gz" if place.suffix == ".gz" else ""
        link = folder / f"rows{Path(place.name.removesuffix(packed)).suffix}{packed}"
        link.symlink_to(place.absolute())
        return link
    plain = folder / "rows"
    for file in (entry for entry in place.rglob("*") if entry.is_file()):
        link = plain / file.relative_to(place)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.absolute())
    return plain


def encoding_of(path: Path) -> str:
    """Of a text file, by the mark that it begins with; UTF-8 without one."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return _by_mark(file.read(4))


def _by_mark(first: bytes) -> str:
    return "utf-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def read_text(path: Path, key: str) -> str:
    """A text file, unpacked if it ends in .gz. Raises DataError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise DataError(
                f"{path} holds more than {MOST_BYTES >> 30} GiB of text; cut it into several files"
            )
        return raw.decode(_by_mark(raw[:4]))
    except FileNotFoundError as error:
        raise DataError(f"{key} = {str(path)!r}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} text: byte {error.start} is {error.object[error.start]:#x}; save it as UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{key} = {str(path)!r} cannot be read: {error}") from error


def _json(path: Path, key: str) -> Iterator[FileRow]:
    """A list of objects, objects a line, or an object whose one list holds them (`{"data": […]}`)."""
    text = read_text(path, key)
    whole: Any = None
    if ".json" in path.suffixes:
        with contextlib.suppress(ValueError):
            whole = parse_json(text)
    if isinstance(whole, Mapping) and (table := _of_columns(whole)):
        whole = table
    if isinstance(whole, Mapping):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 and all(isinstance(one, dict) for one in lists[0]) else [whole]
    if isinstance(whole, list):
        for number, value in enumerate(whole, start=1):
            yield _object(number, value)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _object(number, parse_json(line))
            except ValueError as error:
                yield FileRow(number, None, f"it is not JSON: {error}")


def _of_columns(whole: Mapping[str, Any]) -> list[Record]:
    """The rows of a table that is written by its columns, lists or, as pandas has it, objects from row to value; [] for others."""
    columns = [dict(enumerate(column)) if isinstance(column, list) else column for column in whole.values()]
    if len(columns) < 2 or not all(isinstance(column, Mapping) for column in columns):
        return []
    keys = list(columns[0])
    if any(list(column) != keys for column in columns) or isinstance(
        next(iter(columns[0].values()), None), Mapping
    ):
        return []
    return [{name: column[key] for name, column in zip(whole, columns, strict=True)} for key in keys]


def _object(number: int, value: Any) -> FileRow:
    if isinstance(value, dict):
        return FileRow(number, value)
    return FileRow(number, None, f"must be a JSON object, not {shown(value)}")


def _header(path: Path, key: str) -> tuple[str, list[str]]:
    """Separator and names of the columns of a table.

    A .csv whose first line has no comma to cut at is cut at semicolons or tabs: spreadsheets write the first where the comma
    is in numbers.
    """
    text = read_text(path, key)
    separators = "\t" if ".tsv" in path.name.lower() else ",;\t"
    try:
        found = {each: next(csv.reader(io.StringIO(text), delimiter=each), []) for each in separators}
    except csv.Error as error:
        raise DataError(f"{key} = {str(path)!r} cannot be read: {error}") from error
    if not any(found.values()):
        raise DataError(f"{key} = {str(path)!r}: the file has no questions")
    return next((item for item in found.items() if len(item[1]) > 1), (separators[0], found[separators[0]]))


def _texts(names: Iterable[str]) -> Any:
    """Every column of a table as text, so that `007`, `NA` and `1e5` stay what they are."""
    from datasets import Features, Value

    found: dict[str, Any] = {}
    for place, name in enumerate(
        names
    ):  # as pandas calls columns without a name, and those of a name that was there
        name = name or f"Unnamed: {place}"
        count = next(n for n in itertools.count() if (f"{name}.{n}" if n else name) not in found)
        found[f"{name}.{count}" if count else name] = Value("string")
    return Features(found)


def shown(value: object) -> str:
    """A value in a message, cut at 60 characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
