import json

import pytest

from ghosttrack.common.errors import CorruptInputError, DataError
from ghosttrack.common.formats.answers import read_answers

LINE = {
    "id": "a", "relation": "capital", "group": "france", "prompt": "Spain: Madrid\nFrance:", "answer": "Paris",
    "gold": "Paris", "label": 0, "excluded": None, "tokens": ["Paris"], "logprobs": [-0.1], "entropies": [0.2],
}  # fmt: skip


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_question_is_the_last_line_of_the_prompt(tmp_path):
    [answer] = read_answers(write(tmp_path / "generations.jsonl", LINE))
    assert answer.question == "France:"
    assert answer.reason is None


def test_a_question_with_an_answer_line_is_two_lines_of_the_prompt(tmp_path):
    prompt = "Q: Who wrote Emma?\nA: Jane Austen\nQ: Who wrote Ulysses?\nA:"
    [answer] = read_answers(write(tmp_path / "generations.jsonl", LINE | {"prompt": prompt}))
    assert answer.question == "Who wrote Ulysses?"
    assert answer.query == "Q: Who wrote Ulysses?\nA:"


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
