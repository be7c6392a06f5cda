"""Where questions and text come from: the factbook, local files, hub datasets. Reading, and clear errors.

A question of a local file or dataset has `question` or `prompt`, `answer`, and if wanted `aliases`,
`relation` and `subject`. A `prompt` is asked as it stands; a `question` is asked as `Q: … A:` after worked
examples of its relation.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ghosttrack.common.errors import ConfigError, DataError
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.prompts import Question
from ghosttrack.stages.prepare.text import ascii_letters, slug

HUB_PREFIX = "hub:"
FACTBOOK = "factbook"
DEFAULT_RELATION = "all"
FIELDS = ("question", "prompt", "answer", "aliases", "relation", "subject")


class Rows:
    """The questions of a file or dataset: `facts` to be asked with worked examples, `prompts` as they stand."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.prompts: list[Question] = []
        self.duplicates = 0
        self._seen: set[tuple[str, str]] = set()

    def add(self, row: Mapping[str, Any], where: str) -> None:
        """Check a row and keep it. where: `file line 3`, for errors. Raises DataError."""
        text, is_question = _asked_text(row, where)
        answer, aliases = _answers(row, where)
        relation = _label(row, "relation", where) or DEFAULT_RELATION
        subject = _label(row, "subject", where) or (text if is_question else text.strip().rsplit("\n", 1)[-1])
        if (relation, text) in self._seen:
            self.duplicates += 1
            return
        self._seen.add((relation, text))
        if is_question:
            self.facts.append(Fact(relation, subject, answer, aliases, text))
        else:
            name = f"{slug(relation)}/{slug(subject)}"
            self.prompts.append(Question(name, relation, subject, "", text, answer, aliases))


def read_jsonl_questions(path: Path) -> Rows:
    """The questions of a JSON Lines file; blank lines are allowed.

    Raises DataError naming the file, the line and what is wrong with it.
    """
    rows = Rows()
    for number, record in _jsonl(path, "data.questions"):
        where = f"{path} line {number}"
        if unknown := sorted(set(record) - {*FIELDS, "id"}):
            raise DataError(f"{where}: there is no field {unknown[0]!r}; the fields are {', '.join(FIELDS)}")
        rows.add(record, where)
    if not rows.facts and not rows.prompts:
        raise DataError(f"data.questions = {path}: the file has no questions")
    return rows


def read_asked(path: Path, examples: Mapping[str, str]) -> list[Question]:
    """New questions of a JSON Lines file, in its order; the right answer may be left out, where nobody knows it.

    examples: relation to the worked examples that come before its questions; a line that names another relation, or
    none, is asked without. Raises DataError naming the file, the line and what is wrong with it.
    """
    asked: dict[str, Question] = {}
    for number, row in _jsonl(path, "data.asked"):
        where = f"{path} line {number}"
        if unknown := sorted(set(row) - {*FIELDS, "id"}):
            raise DataError(
                f"{where}: there is no field {unknown[0]!r}; the fields are id, {', '.join(FIELDS)}"
            )
        text, is_question = _asked_text(row, where)
        answer, aliases = ("", ()) if row.get("answer") is None else _answers(row, where)
        relation = _label(row, "relation", where) or DEFAULT_RELATION
        name = _label(row, "id", where) or f"line_{number}"
        if name in asked:
            raise DataError(f"{where}: the id {name!r} was there before; ids must be unique")
        asked[name] = Question(
            id=name,
            relation=relation,
            subject=_label(row, "subject", where) or text.strip().rsplit("\n", 1)[-1],
            prefix=examples.get(relation, ""),
            query=f"Q: {text}\nA:" if is_question else text,
            answer=answer,
            aliases=aliases,
        )
    if not asked:
        raise DataError(f"data.asked = {path}: the file has no questions")
    return list(asked.values())


def read_hub_questions(name: str, config: str | None, split: str, columns: Mapping[str, str]) -> Rows:
    """The questions of a hub dataset (or of a local folder that `datasets` can read).

    columns: our field to the dataset's column; a nested column is written `answer.value`. A field that
    is not listed is taken from the column of its own name, if there is one. An answer that is a list
    gives the answer (its first) and the aliases. Rows without an answer are skipped.
    Raises ConfigError for an unknown field, DataError for a missing dataset, split or column.
    """
    if unknown := sorted(set(columns) - set(FIELDS)):
        raise ConfigError(
            f"data.questions_columns names {unknown[0]!r}, which is not one of our fields: {', '.join(FIELDS)}"
        )
    dataset = _load_dataset(name, config, split, "data.questions")
    available = list(dataset.column_names)
    mapping = {field: field for field in FIELDS if field in available} | dict(columns)
    if "question" in columns and "prompt" not in columns:
        mapping.pop("prompt", None)
    for field, column in mapping.items():
        if not _has_column(dataset.features, column):
            raise DataError(
                f"data.questions_columns.{field} = {column!r}, but the dataset {name} has the columns "
                f"{', '.join(_columns(dataset.features))}"
            )
    if "answer" not in mapping or not {"question", "prompt"} & set(mapping):
        raise DataError(
            f"the dataset {name} has the columns {', '.join(_columns(dataset.features))}; say with data.questions_columns which "
            "of them are 'question' and 'answer'"
        )
    rows = Rows()
    for index, record in enumerate(dataset):
        row = {field: _nested(record, column) for field, column in mapping.items()}
        if isinstance(row["answer"], list):
            row["aliases"] = [*row["answer"], *(row.get("aliases") or [])]
            row["answer"] = row["answer"][0] if row["answer"] else None
        if row["answer"] in (None, "") or not (row.get("question") or row.get("prompt")):
            continue
        rows.add(row, f"dataset {name}, {split} row {index}")
    if not rows.facts and not rows.prompts:
        raise DataError(
            f"data.questions = hub:{name}: the split {split!r} has no row with question and answer"
        )
    return rows


def read_local_corpus(path: Path, column: str) -> list[str]:
    """The documents of a `.txt` file (separated by blank lines), of a `.jsonl` file (field `column` of each
    line), or of every such file in a folder. Empty ones are kept, for the caller to count.

    Raises DataError for a missing or unreadable file, or a line without the field.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".jsonl"))
        if not files:
            raise DataError(f"data.corpus = {path}: the folder has no .txt or .jsonl files")
        return [document for file in files for document in read_local_corpus(file, column)]
    if path.suffix == ".txt":
        return re.split(r"\n[^\S\n]*\n\s*", _read_text(path, "data.corpus").strip())
    if path.suffix != ".jsonl":
        raise ConfigError(
            f"data.corpus = {str(path)!r} must be factbook, hub:<dataset>, .txt, .jsonl or a folder"
        )
    documents = []
    for number, record in _jsonl(path, "data.corpus"):
        if not isinstance(record.get(column), str):
            raise DataError(
                f"{path} line {number}: there is no text in the field {column!r} (data.corpus_column)"
            )
        documents.append(record[column])
    return documents


def read_hub_corpus(name: str, config: str | None, split: str, column: str) -> Sequence[str]:
    """The texts of a hub dataset, read from disk as they are indexed. Raises DataError."""
    dataset = _load_dataset(name, config, split, "data.corpus")
    if column not in dataset.column_names:
        raise DataError(
            f"data.corpus_column = {column!r}, but the dataset {name} has the columns "
            f"{', '.join(dataset.column_names)}"
        )
    texts: Sequence[str] = dataset[column]
    return texts


def _load_dataset(name: str, config: str | None, split: str, key: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, split=split)
    except (
        Exception
    ) as error:  # datasets raises a dozen kinds, some bare, for what is one trouble to the user
        text = " ".join(str(error).split())[:300]
        setting = f", configuration {config!r}" if config else ""
        raise DataError(
            f"{key} = hub:{name}{setting}, split {split!r} cannot be loaded: {text}; check the name and that this "
            "machine can reach the hub or has the dataset in its cache"
        ) from error


def _jsonl(path: Path, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read_text(path, key).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} line {number} must be a JSON object, not {_shown(record)}")
        yield number, record


def _read_text(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{key} = {str(path)!r}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}"
        ) from error
    except OSError as error:
        raise DataError(f"{key} = {str(path)!r} cannot be read: {error.strerror}") from error


def _asked_text(row: Mapping[str, Any], where: str) -> tuple[str, bool]:
    """The text of `question` or `prompt`, and whether it is a question."""
    for field in ("question", "prompt"):
        if row.get(field) is not None and not isinstance(row[field], str):
            raise DataError(f"{where}: {field!r} must be a text, not {_shown(row[field])}")
    question, prompt = _stripped(row.get("question")), _stripped(row.get("prompt"))
    if bool(question) == bool(prompt):
        raise DataError(f"{where}: give exactly one of 'question' and 'prompt', and not empty")
    return (question, True) if question else (prompt or "", False)


def _answers(row: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    answer = row.get("answer")
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(f"{where}: 'answer' must be a text, not {_shown(answer)}")
    aliases = row.get("aliases")
    aliases = [] if aliases is None else aliases
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise DataError(f"{where}: 'aliases' must be a list of texts, not {_shown(aliases)}")
    kept = _one_line([answer, *aliases])
    if not kept:
        raise DataError(f"{where}: 'answer' is empty")
    return kept[0], tuple(kept)


def _one_line(answers: Iterable[str]) -> list[str]:
    """The answers in one line each, with plain-letters variants, no repeats."""
    lines = [" ".join(answer.split()) for answer in answers]
    return list(dict.fromkeys(variant for line in lines if line for variant in (line, ascii_letters(line))))


def _label(row: Mapping[str, Any], field: str, where: str) -> str | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise DataError(f"{where}: {field!r} must be a text, not {_shown(value)}")
    return str(value).strip() or None


def _stripped(text: str | None) -> str | None:
    return text.rstrip(" ") if text and text.strip() else None


def _columns(features: Mapping[str, Any]) -> list[str]:
    """Columns of a dataset as questions_columns names them: `answer.value` of a struct."""
    return [
        f"{name}.{inner}" if inner else name
        for name, feature in features.items()
        for inner in (_columns(feature) if isinstance(feature, Mapping) and feature else [""])
    ]


def _has_column(features: Any, column: str) -> bool:
    for part in column.split("."):
        if not isinstance(features, Mapping) or part not in features:
            return False
        features = features[part]
    return True


def _nested(record: Mapping[str, Any], column: str) -> Any:
    value: Any = record
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
