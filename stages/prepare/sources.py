"""Where questions and text come from: the factbook, local files, hub datasets. Reading, and clear errors.

A question has `question` or `prompt`, `answer`, and if wanted the other `rows.FIELDS`. A `prompt` is asked as it stands; a
`question` is asked as `Q: … A:` after worked examples of its relation, unless the row brings its own `response`.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ghosttrack.common.engine.fingerprint import HUB_PREFIX
from ghosttrack.common.errors import ConfigError, DataError
from ghosttrack.common.files import as_path
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.files import (
    FileRow,
    decoded,
    format_of,
    held,
    load,
    read_file,
    read_set,
    read_text,
)
from ghosttrack.stages.prepare.guess import guess
from ghosttrack.stages.prepare.layouts import FileLayout, known, nested, verdict
from ghosttrack.stages.prepare.prompts import QuestionLine, Shot, asked, in_words
from ghosttrack.stages.prepare.rows import BEHIND, FIELDS, LETTERS, MASK_INSIDE, Row, RowError, check
from ghosttrack.stages.prepare.text import slug

FIRST_ROWS = 200
"""Of a source, that tell its columns."""
MOST_BROKEN = 0.5
"""Share of broken rows from which on it is the file or its mapping that is wrong."""
HARMLESS = frozenset({"no answer", "empty response", "duplicate", MASK_INSIDE})
"""Reasons for which a row is left out that are no fault of the file."""


_HALF = re.compile("[\ud800-\udfff]")
"""What no text has: a byte that is no UTF-8 as `files` reads it, or half of a surrogate pair."""
BROKEN = (
    RowError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
)  # fmt: skip
"""What a row of the wrong shape may raise on its way."""


@dataclass
class SourceRows:
    """The questions of a source: `facts` to be asked with worked examples, `prompts` as they stand.

    left_out: of every row that is not among them, its number, id, reason and what is wrong in words. united: questions
    that were there before with another right answer; both are kept, and either answer is right in both. guessed: our field
    to the column, where neither their names nor data.columns say so.
    """

    where: str
    facts: list[Fact] = field(default_factory=list)
    prompts: list[QuestionLine] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    united: int = 0
    layout: str | None = None
    guessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def repeated_ids(self) -> list[str]:
        """Ids that several rows have, which do not tell those apart."""
        given = [fact.given.id for fact in self.facts] + [prompt.given.id for prompt in self.prompts]
        return [name for name, count in Counter(filter(None, given)).items() if count > 1]

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows are left out, by reason."""
        return dict(sorted(Counter(row["reason"] for row in self.left_out).items()))


def read_questions(
    source: str, columns: Mapping[str, str], config: str | None = None, split: str = "validation"
) -> SourceRows:
    """The questions of a file, a folder or a hub data set.

    columns: our field to the source's column; a nested column is written `answer.value`. A field that is not listed is
    taken from the column of its own name; without any mapping, well-known data sets are known by their columns
    (`layouts`), and others' columns by what stands in them (`guess`). Raises ConfigError for an unknown field or kind of source, DataError for a source that cannot be read.
    """
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise ConfigError(
            f"data.columns names {unknown[0]!r}, which is not one of our fields: {', '.join(FIELDS)}"
        )
    where, reads = _open(source, config, split)
    return _rows(where, _with_sources(held(reads, where), source), columns)


def check_questions(source: str, columns: Mapping[str, str], config: str | None, split: str) -> None:
    """Whether a source can be read and has its columns, from its first rows: the rest of a data set is not fetched.

    Raises as `read_questions`.
    """
    _, reads = _open(source, config, split, streaming=True)
    first = list(itertools.islice(reads, FIRST_ROWS))
    layout, columns = _columns(first, columns)
    if not layout:
        _check_columns(first, columns, source)


def check_corpus(source: str, config: str | None, split: str, column: str) -> None:
    """The same of text. Raises as `read_hub_corpus`, and DataError for a path where nothing is."""
    if not source.startswith(HUB_PREFIX):
        if not as_path(source).exists():
            raise DataError(f"data.corpus = {source!r}: there is no such file or folder")
        return
    table = _table("data.corpus", source, config, split, streaming=True)
    _check_corpus_column(source, column, table.column_names or next(iter(table), {}))


def _check_corpus_column(source: str, column: str, names: Iterable[str]) -> None:
    if column not in (known := list(names)):
        raise DataError(
            f"data.corpus_column = {column!r}, but the dataset {source} has the columns {', '.join(known)}"
        )


def _table(key: str, source: str, config: str | None, split: str, *, streaming: bool = False) -> Any:
    """A data set of the hub, or a folder laid out like one, as `datasets` has it. key: that names it. Raises DataError."""
    place, shown = _place(source, config, split)
    options = {"streaming": True} if streaming else {}
    return load(place, key, shown, name=config, split=split, **options)


def _place(source: str, config: str | None, split: str) -> tuple[str, str]:
    """Name or path of a data set for the library, and for a message."""
    name = source.removeprefix(HUB_PREFIX)
    setting = f", configuration {config!r}" if config else ""
    place = name if source.startswith(HUB_PREFIX) else str(as_path(name))
    return place, f"{source}{setting}, split {split!r}"


def _open(
    source: str, config: str | None, split: str, *, streaming: bool = False
) -> tuple[str, Iterator[FileRow]]:
    """How the source is called in messages, and its rows as they are asked for."""
    path = as_path(source.removeprefix(HUB_PREFIX))
    if source.startswith(HUB_PREFIX) or path.is_dir():
        where = f"{source.removeprefix(HUB_PREFIX)}, {split}"
        if streaming and not path.exists():
            table = _table("data.questions", source, config, split, streaming=True)
            return where, decoded(table, path, "data.questions", where)
        place, shown = _place(source, config, split)
        return where, iter(read_set(place, "data.questions", shown, name=config, split=split))
    if format_of(path) is None:
        raise ConfigError(
            f"data.questions = {source!r} must be factbook, hub:<dataset>, a folder, or a file of .jsonl, .json, .csv, .tsv, "
            ".parquet or .arrow, with or without .gz"
        )
    return str(path), read_file(path, "data.questions")


def _rows(where: str, reads: Sequence[FileRow], columns: Mapping[str, str]) -> SourceRows:
    """Every row checked and sorted into what is asked how, and what is left out why. Raises DataError."""
    given, (layout, columns) = columns, _columns(reads, columns)
    rows = SourceRows(where, layout=layout.name if layout else None, guessed={} if given else columns)
    if not layout:
        _check_columns(reads, columns, where)
    kept: dict[Any, Row] = {}
    for row in _checked(reads, columns, layout, rows.left_out):
        _keep(rows, kept, row)
    _refuse_counted_from_one(rows, kept.values())
    _refuse_broken(rows, len(reads))
    for row in kept.values():
        _sort_in(rows, row)
    if not kept:
        raise DataError(f"data.questions = {where}: the file has no questions{_told(rows)}")
    return rows


def _columns(
    reads: Sequence[FileRow], columns: Mapping[str, str], needs_answer: bool = True
) -> tuple[FileLayout | None, Mapping[str, str]]:
    """The data set that the columns are of, or our field to the column: as given, else as guessed where no name is ours."""
    records = [read.record for read in reads[:FIRST_ROWS] if read.record]
    names = {name for record in records for name in record}
    if columns or (layout := known(names)):
        return (None, columns) if columns else (layout, {})
    guessed = guess(records, needs_answer) or {}
    if {"question", "prompt"} & names:
        guessed = {
            ours: column
            for ours, column in guessed.items()
            if ours in ("answer", "relation") and column not in FIELDS
        }
    return None, guessed


def _checked(
    reads: Iterable[FileRow],
    columns: Mapping[str, str],
    layout: FileLayout | None,
    left_out: list[dict[str, Any]],
    needs_answer: bool = True,
) -> Iterator[Row]:
    """Every row, checked; what is told of one that cannot be asked is put behind left_out."""
    for read in reads:
        try:
            if read.record is None:
                raise RowError("not readable", read.trouble)
            for fields, extra in _fields(read.record, columns, layout):
                try:
                    yield check(fields, read.number, extra, needs_answer)
                except RowError as error:  # one question of an article; the others are asked
                    left_out.append(_broken(read, error, layout, fields))
        except BROKEN as error:
            left_out.append(_broken(read, error, layout))


def _fields(
    record: Mapping[str, Any], columns: Mapping[str, str], layout: FileLayout | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Our fields and the columns kept beside them, of each question in a record."""
    if layout:
        for fields in layout.convert(record):
            values = [value for value in fields.values() if value is not None]
            extra = {n: value for n, value in record.items() if n not in layout.bulky and value not in values}
            name = record.get("id")
            yield {"id": name if isinstance(name, (str, int)) else None, **fields}, extra
        return
    mapping = {name: name for name in FIELDS if name in record} | dict(columns)
    for one, other in (("question", "prompt"), ("prompt", "question")):
        if one in columns and other not in columns:
            mapping.pop(other, None)
    taken = {part for column in mapping.values() for part in (column, column.split(".")[0])}
    fields = {name: nested(record, column) for name, column in mapping.items()}
    if "response" in mapping and "label" not in mapping:
        fields["label"] = verdict(record)
    yield (fields, {name: value for name, value in record.items() if name not in taken})


def _broken(
    read: FileRow, error: Exception, layout: FileLayout | None, fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is told of a row, or of one question in it, that cannot be asked."""
    known, how = isinstance(error, RowError), f"as {layout.name} has it" if layout else "as it should be"
    name = (fields or read.record or {}).get("id")
    return {
        "row": read.number,
        "id": name if isinstance(name, (str, int)) else None,
        "reason": error.reason if isinstance(error, RowError) else "not readable",
        "why": str(error) if known else f"is not {how}: {error!r}",
    }


def _keep(rows: SourceRows, kept: dict[Any, Row], row: Row) -> None:
    """Keep a row once; one that asks the same with another answer is kept too, and both answers are right in both."""
    given = row.given
    key = (row.relation, row.text, given.passage, given.choices, given.response, given.label, given.spans)
    if key not in kept:
        kept[key] = row
        return
    old = kept[key]
    if set(row.aliases) <= set(old.aliases):
        why = f"the same as row {old.given.row}"
        rows.left_out.append({"row": given.row, "id": given.id, "reason": "duplicate", "why": why})
        return
    both = tuple(dict.fromkeys((*old.aliases, *row.aliases)))
    kept[key] = replace(old, aliases=both)
    kept[(*key, given.row)] = replace(row, aliases=tuple(dict.fromkeys((*row.aliases, *both))))
    rows.united += 1


def _sort_in(rows: SourceRows, row: Row) -> None:
    if row.is_question and row.given.response is None:
        rows.facts.append(Fact(row.relation, row.subject, row.answer, row.aliases, row.text, row.given))
    else:
        rows.prompts.append(
            _line(row, row.given.id or f"{slug(row.relation)}/{slug(row.subject or row.text)}")
        )


def _line(row: Row, name: str, prefix: str = "", shots: tuple[Shot, ...] = ()) -> QuestionLine:
    """A row as it is asked. prefix, shots: the worked examples before it, and those of a chat."""
    query, words = row.text, row.text.strip()
    if row.is_question:
        query, words = asked(row.text, row.given), in_words(row.text, row.given)
    return QuestionLine(
        name, row.relation, row.subject, prefix, query, row.answer, row.aliases, words, shots, given=row.given
    )


def _refuse_counted_from_one(rows: SourceRows, kept: Iterable[Row]) -> None:
    """Every other row would have its neighbour's option for the right one. Raises DataError."""
    behind = next((row for row in rows.left_out if row["reason"] == BEHIND), None)
    if behind and not any(row.given.choices and row.answer == LETTERS[0] for row in kept):
        raise DataError(
            f"{rows.where} line {behind['row']}: {behind['why']}; in no row the first option is right, so that they seem to be counted from 1; count from 0, or write the options' "
            "letters or texts"
        )


def _refuse_broken(rows: SourceRows, count: int) -> None:
    """A broken row is told and the rest goes on; many broken rows are an error. Raises DataError naming the first."""
    broken = [row for row in rows.left_out if row["reason"] not in HARMLESS]
    if broken and len(broken) >= MOST_BROKEN * count:
        first = broken[0]
        more = f" ({len(broken)} of {count} rows are broken)" if len(broken) > 1 else ""
        raise DataError(f"{rows.where} line {first['row']}: {first['why']}{more}")


def _told(rows: SourceRows) -> str:
    """Reasons and the first row of each, for a message."""
    if not rows.left_out:
        return ""
    firsts = {row["reason"]: row for row in reversed(rows.left_out)}
    return "; left out: " + ", ".join(
        f"{count} for {reason!r} (row {firsts[reason]['row']}: {firsts[reason]['why']})"
        for reason, count in rows.reasons.items()
    )


def _check_columns(reads: Sequence[FileRow], columns: Mapping[str, str], where: str) -> None:
    """Raises DataError for a mapping to a column that is not there, or a source without question and answer."""
    records = [read.record for read in reads[:1000] if read.record]
    if not records:
        return
    for name, column in columns.items():
        if all(nested(record, column) is None for record in records):
            raise DataError(
                f"data.columns.{name} = {column!r}, but {where} has the columns {', '.join(_paths(records[0]))}"
            )
    have = {*columns, *(name for record in records for name in record)}
    if not {"question", "prompt"} & have or not {"answer", "response"} & have:
        raise DataError(
            f"{where} has the columns {', '.join(_paths(records[0]))}; say with data.columns which of them are 'question' "
            "(or 'prompt') and 'answer' (or 'response')"
        )


def _paths(record: Any, before: str = "", deeper: int = 3) -> list[str]:
    """Names of a record's columns, and behind dots of what is inside of one, in a list of its first element."""
    record = dict(enumerate(record[:1])) if isinstance(record, list) else record
    if not isinstance(record, Mapping) or not deeper:
        return []
    return [
        path
        for name, value in record.items()
        for path in (f"{before}{name}", *_paths(value, f"{before}{name}.", deeper - 1))
    ]


def _with_sources(reads: list[FileRow], source: str) -> list[FileRow]:
    """RAGTruth's responses with their prompts, which its authors publish in a file beside them, perhaps of the same folder."""
    path = as_path(source)
    prompts = (path if path.is_dir() else path.parent) / "source_info.jsonl"
    first = next((read.record for read in reads if read.record), {})
    if source.startswith(HUB_PREFIX) or "source_id" not in first or not prompts.exists():
        return reads
    infos = {str(r.record["source_id"]): r.record for r in read_file(prompts, "data.questions") if r.record}
    return [
        read
        if read.record is None
        else read._replace(record=infos.get(str(read.record["source_id"]), {}) | read.record)
        for read in reads
        if read.record is None or "source_info" not in read.record or "response" in read.record
    ]


def read_asked(
    path: Path,
    examples: Mapping[str, str],
    shots: Mapping[str, tuple[Shot, ...]] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[QuestionLine], list[dict[str, Any]], Mapping[str, str]]:
    """New questions of a file or folder, in its order, what is told of the rows that cannot be asked, and the columns as guessed.

    The right answer may be left out, where nobody knows it. examples: relation to the worked examples that come before its
    questions; a line that names another relation, or none, is asked without. shots: those of a chat, for its questions.
    columns: as of `read_questions`, for a file that has the columns asked of; others are read as there without them.
    Raises DataError where no row can be asked.
    """
    key, name = "data.asked", str(path)
    rows = read_set(name, key, name, name=None, split=None) if path.is_dir() else read_file(path, key)
    reads = _with_sources(held(rows, name), name)
    records = [read.record for read in reads[:1000] if read.record]
    asks, columns = {"question", "prompt"}, columns or {}
    given = {
        ours: column
        for ours, column in columns.items()
        if any(nested(each, column) is not None for each in records)
    }
    names = {name for record in records for name in record}
    if not asks & given.keys() and (asks & columns.keys() or not asks & names or known(names)):
        given = {}  # a file in other columns than the run's
    layout, columns = _columns(reads, given, needs_answer=False)
    new: dict[str, QuestionLine] = {}
    left_out: list[dict[str, Any]] = []
    for row in _checked(reads, columns, layout, left_out, needs_answer=False):
        number, name = row.given.row, row.given.id or f"line_{row.given.row}"
        if name in new and row.given.id:
            why = f"the id {name!r} was there before; ids must be unique"
            left_out.append({"row": number, "id": name, "reason": "id twice", "why": why})
            continue
        if name in new:  # two responses in a row of the file
            name = f"{name}_{len(new)}"
        of_chat = (shots or {}).get(row.relation, ()) if row.is_question else ()
        new[name] = _line(row, name, examples.get(row.relation, ""), of_chat)
    if not new:
        first = f"; line {left_out[0]['row']}: {left_out[0]['why']}" if left_out else ""
        have = f"; it has the columns {', '.join(_paths(records[0]))}" if records else ""
        raise DataError(f"data.asked = {path}: the file has no questions{first}{have}")
    return list(new.values()), left_out, {} if given else columns


def read_local_corpus(path: Path, column: str) -> list[str]:
    """The documents of a `.txt` file (separated by blank lines), of a file of rows (field `column` of each), or of every
    such file in a folder. Empty ones are kept, for the caller to count.

    Raises DataError for a missing or unreadable file, or a row without the field.
    """
    if path.is_dir():
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and (_is_text(file) or format_of(file))
        )
        if not files:
            raise DataError(f"data.corpus = {path}: the folder has no .txt or .jsonl files")
        return [document for file in files for document in read_local_corpus(file, column)]
    if _is_text(path):
        text = re.sub(r"\r\n?", "\n", read_text(path, "data.corpus"))
        return re.split(r"\n[^\S\n]*\n\s*", text.strip())
    if format_of(path) is None:
        raise ConfigError(
            f"data.corpus = {str(path)!r} must be factbook, hub:<dataset>, .txt, .jsonl (or another file of rows) or a folder"
        )
    documents = []
    for number, record, trouble in read_file(path, "data.corpus"):
        if record is None:
            raise DataError(f"{path} line {number} {trouble}")
        if not isinstance(text := record.get(column, 0), str | None) or _HALF.search(text or ""):
            raise DataError(
                f"{path} line {number}: there is no text in the field {column!r} (data.corpus_column)"
            )
        documents.append(text or "")
    return documents


def read_hub_corpus(source: str, config: str | None, split: str, column: str) -> Sequence[str]:
    """The texts of a hub dataset, read from disk as they are indexed. Raises DataError."""
    dataset = _table("data.corpus", source, config, split)
    _check_corpus_column(source, column, dataset.column_names)
    if (kind := str(getattr(dataset.features[column], "dtype", "list"))) not in ("string", "large_string"):
        raise DataError(
            f"data.corpus_column = {column!r}, but that column of {source} holds {kind} and no text"
        )
    texts: Sequence[str] = dataset[column]
    return texts


def _is_text(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".txt")
