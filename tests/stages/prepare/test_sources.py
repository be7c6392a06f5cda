"""Local files and datasets: what is read, and what each bad line is told."""

import json
from pathlib import Path

import pytest

from ghosttrack.common.errors import ConfigError, DataError
from ghosttrack.stages.prepare.sources import (
    read_asked,
    read_hub_corpus,
    read_hub_questions,
    read_jsonl_questions,
    read_local_corpus,
)


def write(path: Path, *records: object) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


def test_questions_and_prompts_are_told_apart(tmp_path: Path) -> None:
    rows = read_jsonl_questions(
        write(
            tmp_path / "q.jsonl",
            {
                "question": "Who wrote Emma?",
                "answer": "Jane Austen",
                "aliases": ["Austen"],
                "subject": "Emma",
            },
            "",
            {"prompt": "Two plus two is ", "answer": 4, "relation": "sums"},
            {"question": "Who wrote Emma?", "answer": "Jane Austen"},
        )
    )
    (fact,), (prompt,) = rows.facts, rows.prompts
    assert (fact.relation, fact.subject, fact.question) == ("all", "Emma", "Who wrote Emma?")
    assert fact.aliases == ("Jane Austen", "Austen")
    assert (prompt.prefix, prompt.query, prompt.answer) == ("", "Two plus two is", "4")
    assert prompt.id == "sums/two-plus-two-is"
    assert rows.duplicates == 1


def test_new_questions_keep_order_ids_and_examples_and_need_no_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "new.jsonl",
        {"question": "Who wrote Emma?", "relation": "author", "subject": "Emma", "id": "emma"},
        {"prompt": "Two plus two is", "answer": 4},
    )
    first, second = read_asked(path, {"author": "Q: Who wrote Hamlet?\nA: Shakespeare\n\n"})
    assert (first.id, first.prefix) == ("emma", "Q: Who wrote Hamlet?\nA: Shakespeare\n\n")
    assert (first.query, first.answer, first.aliases) == ("Q: Who wrote Emma?\nA:", "", ())
    assert (second.id, second.relation, second.prefix) == ("line_2", "all", "")
    assert (second.query, second.answer) == ("Two plus two is", "4")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "R?", "id": "a"}, "the id 'a' was there before"),
        ({"question": "R?", "answr": "a"}, "there is no field 'answr'; the fields are id, question"),
        ({"answer": "a"}, "exactly one of 'question' and 'prompt'"),
        ({"question": "R?", "answer": ""}, "'answer' must be a text"),
    ],
)
def test_a_bad_line_of_new_questions_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path / "new.jsonl", {"question": "Q?", "id": "a"}, line)
    with pytest.raises(DataError, match=r"new\.jsonl line 2") as caught:
        read_asked(path, {})
    assert message in str(caught.value)


def test_a_file_without_new_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.asked = .*: the file has no questions"):
        read_asked(write(tmp_path / "new.jsonl", ""), {})


GOOD = {"question": "Q?", "answer": "a"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "is not JSON"),
        (["a list"], "must be a JSON object"),
        ({"answer": "a"}, "exactly one of 'question' and 'prompt'"),
        ({"question": "Q?", "prompt": "P", "answer": "a"}, "exactly one of"),
        ({"question": "  ", "answer": "a"}, "exactly one of"),
        ({"question": 3, "answer": "a"}, "'question' must be a text"),
        ({"question": "Q?"}, "'answer' must be a text, not null"),
        ({"question": "Q?", "answer": ""}, "'answer' must be a text"),
        ({"question": "Q?", "answer": True}, "'answer' must be a text, not true"),
        ({"question": "Q?", "answer": "a", "aliases": "b"}, "'aliases' must be a list"),
        ({"question": "Q?", "answer": "a", "relation": ["r"]}, "'relation' must be a text"),
        ({"question": "Q?", "answr": "a"}, "there is no field 'answr'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path / "q.jsonl", GOOD, line)
    with pytest.raises(DataError, match=r"q\.jsonl line 2") as caught:
        read_jsonl_questions(path)
    assert message in str(caught.value)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_jsonl_questions(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no questions"):
        read_jsonl_questions(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "b.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read_jsonl_questions(tmp_path / "b.jsonl")


def trivia(folder: Path) -> Path:
    folder.mkdir()
    write(
        folder / "validation.jsonl",
        {
            "text": "Capital of Peru?",
            "reply": {"value": "Lima", "aliases": ["Lima, Peru"]},
            "topic": "capital",
        },
        {"text": "Unanswered?", "reply": {"value": "", "aliases": []}, "topic": "capital"},
    )
    return folder


def test_dataset_columns_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    columns = {"question": "text", "answer": "reply.value", "aliases": "reply.aliases", "relation": "topic"}
    rows = read_hub_questions(str(trivia(tmp_path / "trivia")), None, "validation", columns)
    assert [(f.relation, f.question, f.aliases) for f in rows.facts] == [
        ("capital", "Capital of Peru?", ("Lima", "Lima, Peru"))
    ]


def test_a_list_of_answers_is_answer_and_aliases(tmp_path: Path) -> None:
    folder = tmp_path / "nq"
    folder.mkdir()
    write(folder / "train.jsonl", {"question": "Who?", "answer": ["A", "B"]})
    rows = read_hub_questions(str(folder), None, "train", {})
    assert (rows.facts[0].answer, rows.facts[0].aliases) == ("A", ("A", "B"))


def test_dataset_errors_name_the_key(tmp_path: Path) -> None:
    folder = str(trivia(tmp_path / "trivia"))
    with pytest.raises(DataError, match=r"questions_columns\.answer = 'respons'.*topic"):
        read_hub_questions(folder, None, "validation", {"question": "text", "answer": "respons"})
    with pytest.raises(ConfigError, match="'querry'"):
        read_hub_questions(folder, None, "validation", {"querry": "text"})
    with pytest.raises(DataError, match="'question' and 'answer'"):
        read_hub_questions(folder, None, "validation", {})
    with pytest.raises(DataError, match="split 'test' cannot be loaded"):
        read_hub_questions(folder, None, "test", {})
    with pytest.raises(DataError, match=r"data\.corpus_column = 'body'"):
        read_hub_corpus(folder, None, "validation", "body")


def test_local_text_is_split_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\nline.\n\n \nTwo.\n", encoding="utf-8")
    write(tmp_path / "b.jsonl", {"body": "Three."}, {"body": ""})
    assert read_local_corpus(tmp_path / "a.txt", "body") == ["One\nline.", "Two."]
    assert read_local_corpus(tmp_path, "body") == ["One\nline.", "Two.", "Three.", ""]
    with pytest.raises(DataError, match=r"b\.jsonl line 1.*'text'"):
        read_local_corpus(tmp_path / "b.jsonl", "text")
    with pytest.raises(ConfigError, match=r"data\.corpus"):
        read_local_corpus(tmp_path / "a.csv", "text")


def test_hub_corpus_is_a_sequence_of_texts(tmp_path: Path) -> None:
    texts = read_hub_corpus(str(trivia(tmp_path / "trivia")), None, "validation", "text")
    assert [texts[index] for index in range(len(texts))] == ["Capital of Peru?", "Unanswered?"]
