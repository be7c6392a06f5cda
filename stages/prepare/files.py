"""Records of any file that `datasets` reads, each with the place that it is from: files, folders and hub data sets.

JSON and JSON Lines are read here, a record at a time: their rows may differ in types, may hold NaN and any character inside a
text (a line ends at a newline only), and one broken row is told without losing the others.
"""

import codecs
import contextlib
import csv
import gzip
import itertools
import json
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.errors import DataError
from ghosttrack.common.files import status_of
from ghosttrack.common.foreign import parse_json, refuse_bomb
from ghosttrack.stages.prepare.cells import of_cell

Record = dict[str, Any]
FORMATS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
           ".arrow": "arrow"}  # fmt: skip
"""Ending, before any `.gz`, to the reader of `datasets`."""
_INDEX = re.compile(r"(Unnamed: \d+|\.\d+)?")
"""The name of a column without one, such as of the numbers that pandas writes before its rows."""
_LINE_END = re.compile(r"\r\n?|\n")
_WHOLE = re.compile(r"(-?\d+\.0)?")
_PATTERN = re.compile(r"[*?\[\]{}$]|::")
"""What is no name to the library that reads tables, but a pattern, a variable or a chain of file systems."""
SEPARATORS = ",;\t|"
"""Of cells, in the order in which the head is tried."""
MMLU = ("question", "A", "B", "C", "D", "answer")
"""The columns of MMLU's own tables, which have no head: the first row ends in the letter of an option."""
NOT_GIVEN = frozenset({"nan", "NaN", "inf", "-inf"})
"""How Python and pandas write in a table what is no number."""
MOST_BYTES = 1 << 30
"""Of a text file, unpacked: it is read whole."""
MOST_ROWS = 1 << 21
"""Of a table, and of questions: each takes up to 400 bytes beside its texts."""
MOST_PARTS = 1 << 22
"""Lists and objects in one JSON value: HotpotQA's 90,000 questions have 2.3 million."""


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
    if kind in ("json", "csv"):
        yield from _json(path, key) if kind == "json" else _csv(path, key)
        return
    table = load(kind, key, str(path), data_files=str(path), split="train")
    yield from decoded(table, path, key, str(path))


def _csv(path: Path, key: str) -> Iterator[FileRow]:
    """The rows of a table, every cell as the text that it is: `007`, `NA` and `1e5` stay so, `nan` is none.

    A row with more cells than the head has names is told, since nobody knows which of its commas parts nothing.
    """
    csv.field_size_limit(MOST_BYTES)
    text, separator = _separated(path, key)
    ended: list[bool] = []

    def lines() -> Iterator[str]:
        yield from (f"{line}\n" for line in _lines(text))
        ended.append(True)

    reader = csv.reader(lines(), delimiter=separator)
    names: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if ended:  # it went on to the end to find the other quotation mark
                raise DataError(
                    f"{path} line {start}: a quotation mark opens a cell that nothing closes; write it twice inside of quotes"
                )
            if cells and not names and len(cells) == len(MMLU) and cells[-1] in MMLU[1:-1]:
                names = list(MMLU)
            if cells and names:
                rows.append((start, ["" if cell in NOT_GIVEN else cell for cell in cells]))
                _refuse_many(len(rows), path)
            elif cells:
                names = _unique(cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} line {start} cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{key} = {str(path)!r}: the file has no questions")
    columns = itertools.zip_longest(*(cells for _, cells in rows), fillvalue="")
    whole = {name for name, column in zip(names, columns, strict=False) if _is_whole(column)}
    for number, cells in rows:
        if any(cells[len(names) :]):
            yield FileRow(number, None, f"it has {len(cells)} cells, and the head names {len(names)} columns; put quotes around a cell that holds "
                          f"{separator!r}")  # fmt: skip
            continue
        record = {
            name: of_cell(name, cell.removesuffix(".0") if name in whole else cell) if cell else None
            for name, cell in itertools.zip_longest(names, cells[: len(names)], fillvalue="")
            if not _INDEX.fullmatch(name)
        }
        yield FileRow(number, record)


def _unique(names: Iterable[str]) -> list[str]:
    """Names of columns, a second one of a name told from the first."""
    found: dict[str, None] = {}
    again: Counter[str] = Counter()
    for name in map(str.strip, names):
        fresh = name
        while fresh in found:
            again[name] += 1
            fresh = f"{name}.{again[name]}"
        found[fresh] = None
    return list(found)


def _is_whole(column: Sequence[str]) -> bool:
    """Whether these are whole numbers of which some are not given: pandas writes those as 1912.0."""
    return all(_WHOLE.fullmatch(cell) for cell in column) and {bool(cell) for cell in column} == {True, False}


def load(source: str, key: str, shown: str, **options: Any) -> Any:
    """`datasets.load_dataset`, whose dozen kinds of errors are one trouble to the user. Raises DataError.

    Local files are read anew every time: a folder with a README is one entry of the library's cache whatever its rows are,
    and whichever folder of that name it is.
    """
    import datasets

    place = _whole_path(options.get("data_files", source))
    with _told(place, key, shown), tempfile.TemporaryDirectory() as cache:
        for file in [place] if place.is_file() else place.rglob("*.parquet"):
            if file.suffix == ".parquet":
                refuse_bomb(file, _size_of(file))
        if _is_saved(place):
            return datasets.load_from_disk(str(place))  # what `save_to_disk` wrote has one split
        plain = _plainly_named(place, Path(cache))
        if not place.exists():
            return datasets.load_dataset(source, **options)
        options |= {"data_files" if "data_files" in options else "path": str(plain)}
        if options.pop("streaming", False) and plain == place:
            return datasets.load_dataset(**{"path": source, "streaming": True} | options)
        return datasets.load_dataset(**{"path": source, "cache_dir": cache, "keep_in_memory": True} | options)


def read_set(source: str, key: str, shown: str, *, name: str | None, split: str | None) -> Sequence[FileRow]:
    """The rows of a folder or of a data set of the hub. split: None takes all of them. Raises DataError.

    Which files are of the split the library says. JSON and CSV among them are read here, as anywhere else: to the library
    `007` is 7, `NA` is nothing, and one broken row breaks its file.
    """
    import datasets

    place = _whole_path(source)
    with _told(place, key, shown), tempfile.TemporaryDirectory() as cache:
        if not _is_saved(place):
            plain = str(_plainly_named(place, Path(cache)))
            builder = datasets.load_dataset_builder(plain, name, cache_dir=cache if place.exists() else None)
            split = split or "+".join(map(str, builder.config.data_files or ()))
            parts = _texts(builder.config)
            of_split = {part: files for part, files in parts.items() if part in re.findall(r"\w+", split)}
            rows = {
                part: _rows_of(datasets.DownloadManager().download(files), key)
                for part, files in of_split.items()
            }
            if rows:
                cuts = datasets.ReadInstruction.from_spec(split).to_absolute(
                    {part: len(own) for part, own in rows.items()}
                )
                return [row for cut in cuts for row in rows[cut.splitname][cut.from_ : cut.to]]
    return list(decoded(load(source, key, shown, name=name, split=split), place, key, shown))


def decoded(table: Any, place: Path, key: str, shown: str) -> Iterator[FileRow]:
    """The rows of what `load` gives, which looks at what is in one as it is read. Raises DataError."""
    with _told(place, key, shown):
        yield from (FileRow(number, record) for number, record in enumerate(table, start=1))


def _texts(settings: Any) -> dict[str, list[str]]:
    """The files of each split, where all are JSON or CSV that is written as usual; {} for others, which the library reads."""
    files = {part: [str(file) for file in each] for part, each in (settings.data_files or {}).items()}
    told = ("name", "version", "data_dir", "data_files", "description", "sep")
    usual = type(settings)(**{each: getattr(settings, each) for each in told if hasattr(settings, each)})
    if any(format_of(Path(file)) not in ("json", "csv") for each in files.values() for file in each):
        return {}
    return files if usual == settings and getattr(settings, "sep", ",") in SEPARATORS else {}


def _rows_of(paths: Sequence[str], key: str) -> list[FileRow]:
    """The rows of files, with their own numbers where it is one file, else counted through."""
    rows = [(Path(path), row) for path in paths for row in read_file(Path(path), key)]
    if len(paths) == 1:
        return [row for _, row in rows]
    return [
        FileRow(number, row.record, row.trouble and f"{path.name} line {row.number}: {row.trouble}")
        for number, (path, row) in enumerate(rows, start=1)
    ]


def _size_of(path: Path) -> int:
    """Bytes that a Parquet file takes as a table, about: it may hold one long value for all of its rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    texts = [
        field.name
        for field in file.schema_arrow
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    coded, size = pq.ParquetFile(path, read_dictionary=texts), 0
    for group in range(file.num_row_groups):
        told = file.metadata.row_group(group)
        size += told.total_byte_size + 8 * sum(told.column(n).num_values for n in range(told.num_columns))
        refuse_bomb(path, size)  # before any of it is unpacked
        for name in texts:
            for chunk in coded.read_row_group(group, [name]).column(0).chunks:
                size += pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
    return size


def _is_saved(place: Path) -> bool:
    return (place / "state.json").is_file() and (place / "dataset_info.json").is_file()


@contextlib.contextmanager
def _told(place: Path, key: str, shown: str) -> Iterator[None]:
    """Raises DataError for whatever the library raises."""
    import datasets

    datasets.disable_progress_bars()
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        causes = [str(error), str(error.__cause__ or "")]
        text = " ".join(" ".join(causes).split())[:300]
        mend = (
            f"choose one of them with {key}_split or {key}_config"
            if re.search(r"(?i)config name is missing|available configs|(?:bad|unknown) split", text)
            else "it is damaged, or holds no rows; write it again"
            if place.exists()
            else "check the name and that this machine can reach the hub or has it in its cache"
        )
        raise DataError(f"{key} = {shown} cannot be loaded: {text}; {mend}") from error


def _whole_path(source: str) -> Path:
    """Of what is here, from the root on: the library takes a folder `json` for its reader of that name, and reads all that lies beside it."""
    return Path(source).absolute() if Path(source).exists() else Path(source)


def _plainly_named(place: Path, folder: Path) -> Path:
    """A file or folder; where its name is a pattern, by which the library would look for others, links to it under another."""
    if not place.exists() or not _PATTERN.search(str(place)):
        return place
    if place.is_file():
        packed = ".gz" if place.suffix == ".gz" else ""
        link = folder / f"rows{Path(place.name.removesuffix(packed)).suffix}{packed}"
        link.symlink_to(place)
        return link
    plain = folder / "rows"
    for file in (entry for entry in place.rglob("*") if entry.is_file()):
        link = plain / file.relative_to(place)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return plain


def _by_mark(first: bytes) -> str:
    if first in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def read_text(path: Path, key: str, errors: str = "strict") -> str:
    """A text file, unpacked if it ends in .gz. errors: what becomes of bytes that are no text, as `bytes.decode` has it.

    Raises DataError.
    """
    try:
        status_of(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise DataError(
                f"{path} holds more than {MOST_BYTES >> 30} GiB of text; cut it into several files"
            )
        refuse_bomb(path, len(raw))
        return raw.decode(_by_mark(raw[:4]), errors)
    except FileNotFoundError as error:
        raise DataError(f"{key} = {str(path)!r}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} text: byte {error.start} is {error.object[error.start]:#x}; save it as UTF-8"
        ) from error
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{key} = {str(path)!r} cannot be read: {error}") from error


def held(rows: Iterable[FileRow], where: str) -> list[FileRow]:
    """All rows of a source. Raises DataError for more than may be held at once."""
    found = list(itertools.islice(rows, MOST_ROWS + 1))
    _refuse_many(len(found), where)
    return found


def _refuse_many(count: int, path: Path | str, most: int | None = None) -> None:
    """Raises DataError where a file has more than may be held at once."""
    if count > (most := most or MOST_ROWS):
        raise DataError(
            f"{path} has more than {most >> 20} million rows, lists or objects; cut it into several files, or take some of them"
        )


def _lines(text: str) -> Iterator[str]:
    """One after another: as a list those of a text of short ones take many times what it takes."""
    start = 0
    for end in _LINE_END.finditer(text):
        yield text[start : end.start()]
        start = end.end()
    yield text[start:]


def _parsed(text: str, path: Path) -> Any:
    """The value of a JSON text of a file. Raises ValueError for what is none, DataError for too much of it."""
    _refuse_many(text.count("[") + text.count("{"), path, MOST_PARTS)
    return parse_json(text)


def _json(path: Path, key: str) -> Iterator[FileRow]:
    """A list of objects, whatever the file is called, objects a line, or an object whose one list holds them (`{"data": […]}`)."""
    text = read_text(path, key, "surrogateescape")
    whole: Any = None
    is_list = text.lstrip().startswith("[")
    if is_list or ".json" in path.suffixes:
        try:
            whole = _parsed(text, path)
        except ValueError as error:
            if is_list:
                raise DataError(f"{path} is not JSON: {error}") from error
    if isinstance(whole, Mapping) and (table := _of_columns(whole)):
        whole = table
    if isinstance(whole, Mapping):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 and all(isinstance(one, dict) for one in lists[0]) else [whole]
    if isinstance(whole, list):
        for number, value in enumerate(whole, start=1):
            yield _object(number, value)
        return
    for number, line in enumerate(_lines(text), start=1):
        if line.strip():
            try:
                yield _object(number, _parsed(line, path))
            except ValueError as error:
                yield FileRow(number, None, f"it is not JSON: {error}")


def _of_columns(whole: Mapping[str, Any]) -> list[Record]:
    """The rows of a table that is written by its columns, lists or, as pandas has it, objects from row to value, or of rows that
    their names stand before; [] for others."""
    columns: list[Any] = [
        dict(enumerate(each)) if isinstance(each, list) else each for each in whole.values()
    ]
    if len(columns) < 2 or not all(isinstance(column, Mapping) for column in columns):
        return []
    keys = list(columns[0])
    if all({"question", "prompt"} & set(column) for column in columns):
        return [{"id": name, **row} for name, row in zip(whole, columns, strict=True)]
    if any(list(column) != keys for column in columns) or isinstance(
        next(iter(columns[0].values()), None), Mapping
    ):
        return []
    return [{name: column[key] for name, column in zip(whole, columns, strict=True)} for key in keys]


def _object(number: int, value: Any) -> FileRow:
    if isinstance(value, dict):
        return FileRow(number, value)
    return FileRow(number, None, f"must be a JSON object, not {shown(value)}")


def _separated(path: Path, key: str) -> tuple[str, str]:
    """The text of a table, and what separates its cells.

    A .csv whose first line has no comma to cut at is cut at semicolons, tabs or bars: spreadsheets write the first where the comma
    is in numbers.
    """
    text = read_text(path, key, "surrogateescape")
    head = _LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0]
    separators = "\t" if ".tsv" in path.name.lower() else SEPARATORS
    cuts = (each for each in separators if len(next(csv.reader([head], delimiter=each), [])) > 1)
    return text, next(cuts, separators[0])


def shown(value: object) -> str:
    """A value in a message, cut at 60 characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
