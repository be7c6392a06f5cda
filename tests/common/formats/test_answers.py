import json

import pytest

from ghosttrack.common.errors import CorruptInputError, DataError
from ghosttrack.common.formats.answers import read_answers

LINE = {
    "id": "a", "relation": "capital", "group": "france", "prompt": "Spain: Madrid\nFrance:", "query": "France:", "question": "France:", "answer": "Paris",
    "gold": "Paris", "label": 0, "excluded": None, "tokens": ["Paris"], "logprobs": [-0.1], "entropies": [0.2],
}  # fmt: skip


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_worked_examples_are_what_stands_before_the_query(tmp_path):
    [answer] = read_answers(write(tmp_path / "generations.jsonl", LINE))
    assert answer.prefix == "Spain: Madrid\n"
    assert answer.reason is None


def test_a_passage_belongs_to_the_question(tmp_path):
    query = "Tom lives in Rome.\nQ: Where does Tom live?\nA:"
    line = LINE | {
        "prompt": f"Q: Who?\nA: Ann\n{query}",
        "query": query,
        "question": "Tom lives in Rome.\nWhere does Tom live?",
    }
    [answer] = read_answers(write(tmp_path / "generations.jsonl", line))
    assert (answer.prefix, answer.question) == ("Q: Who?\nA: Ann\n", line["question"])


def test_an_answer_without_label_or_reason_is_unexplained(tmp_path):
    [answer] = read_answers(write(tmp_path / "generations.jsonl", LINE | {"label": None}))
    assert answer.reason == "unexplained"


@pytest.mark.parametrize(
    "change",
    [{"label": 2}, {"logprobs": []}, {"tokens": None}, {"relation": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_bad_line_is_named(tmp_path, change):
    path = write(tmp_path / "generations.jsonl", LINE, LINE | {"id": "b"} | change)
    with pytest.raises(CorruptInputError, match=r"generations\.jsonl line 2"):
        read_answers(path)


def test_a_truncated_line_is_named(tmp_path):
    path = write(tmp_path / "generations.jsonl", LINE)
    path.write_text(path.read_text()[:40])
    with pytest.raises(CorruptInputError, match="line 1 is not JSON"):
        read_answers(path)


def test_an_id_must_not_come_twice(tmp_path):
    with pytest.raises(DataError, match="'a' occurs twice"):
        read_answers(write(tmp_path / "generations.jsonl", LINE, LINE))
