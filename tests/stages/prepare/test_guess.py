"""Which columns are question and answer: by names that people use, by what stands in them, or not at all."""

import json

import pytest
from click.testing import CliRunner

from ghosttrack.common.errors import ConfigError
from ghosttrack.stages.prepare.commands import columns
from ghosttrack.stages.prepare.commands import guess as command
from ghosttrack.stages.prepare.guess import guess

QUERIES = ["日本の首都はどこですか？", "フランスの首都は？", "ドイツの首都は？"]
CITIES = ["東京", "パリ", "ベルリン"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"question": QUERIES, "answer": CITIES}, {}),
        ({"Query": QUERIES, "Gold": CITIES}, {"question": "Query", "answer": "Gold"}),
        ({"答え": CITIES, "質問": QUERIES}, {"question": "質問", "answer": "答え"}),
        ({"n": [1, 2, 3], "a": CITIES, "質問": QUERIES}, {"question": "質問", "answer": "a"}),
        ({"x": ["The capital of Chad is", "The capital of Mali is", "Peru is in"], "y": ["N'Djamena", "Bamako", "America"]},
         {"prompt": "x", "answer": "y"}),
        ({"x": ["Short", "Is it", "Who"], "y": [["a very long right answer", "b"], ["c"], ["d"]]}, {"prompt": "x", "answer": "y"}),
        ({"prompt_text": QUERIES, "gold": CITIES}, {"question": "prompt_text", "answer": "gold"}),
        ({"x": QUERIES, "y": CITIES, "z": CITIES[::-1]}, None),
        ({"x": QUERIES, "y": [1, 2, 3]}, None),
        ({"x": QUERIES, "y": CITIES, "kind": ["町"] * 2 + ["村"]}, None),  # too few rows to tell an answer from a kind
        ({"x": 4 * QUERIES, "kind": 6 * ["町", "村"], "y": [f"{city}{n}" for n in range(4) for city in CITIES]},
         {"question": "x", "answer": "y"}),
        ({"why": ["Since it was made so by law, long ago"] * 2 + ["By habit of the kings"], "y": CITIES, "x": QUERIES},
         {"question": "x", "answer": "y"}),
        ({"land": ["日本", "フランス", "ドイツ"], "x": QUERIES, "y": CITIES}, {"question": "x", "answer": "y"}),
        ({"land": ["Chad", "Mali", "Peru"], "x": ["The capital of Chad is", "The capital of Mali is", "Peru is in"], "gold": CITIES},
         {"prompt": "x", "answer": "gold"}),
        ({"x": QUERIES, "y": QUERIES[::-1], "gold": CITIES}, None),
        ({"question": ["The capital of Chad is", "Peru lies in", "Emma was written by"], "answer": CITIES}, {"prompt": "question"}),
        ({"query": ["La capital de Chad es", "Perú está en", "Emma es de"], "gold": CITIES}, {"prompt": "query", "answer": "gold"}),
        ({"question": ["who wrote emma", "what is the capital of", "where is peru"], "answer": CITIES}, {}),
        ({"question": ["The capital of Chad?", "Is it", "Name a city in Chad"], "answer": CITIES}, {}),
        ({"id": ["a", "b", "c"], "question": QUERIES, "key": CITIES}, {"answer": "key"}),
        ({"x": QUERIES, "split": ["test"] * 3, "y": CITIES}, {"question": "x", "answer": "y"}),
        ({"question": 6 * QUERIES, "answer": 6 * CITIES, "Category": 9 * ["land", "city"]}, {"relation": "Category"}),
        ({"query": 6 * QUERIES, "topic": 9 * ["land", "city"], "y": 6 * CITIES},
         {"question": "query", "answer": "y", "relation": "topic"}),
        ({"question": 6 * QUERIES, "answer": 6 * CITIES, "topic": 6 * ["a", "b", "c"]}, {}),  # too few rows of each
        ({"question": 6 * QUERIES, "answer": 6 * CITIES, "topic": 18 * ["a"]}, {}),
        ({"question": 6 * QUERIES, "answer": 6 * CITIES, "topic": 9 * ["a", "b"], "relation": 18 * ["c"]}, {}),
    ],
)  # fmt: skip
def test_columns_of_a_file_of_somebody_else(columns: dict[str, list[object]], expected: object) -> None:
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert guess(records) == expected


def test_the_command_counts_the_rows(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text("السؤال,الإجابة\nما هي عاصمة مصر؟,القاهرة\nما هي عاصمة العراق؟,بغداد\n", encoding="utf-8")
    said = json.loads(CliRunner().invoke(command, [str(path)]).output)
    assert said == {
        "rows": 2, "names": ["السؤال", "الإجابة"], "columns": {"question": "السؤال", "answer": "الإجابة"}
    }  # fmt: skip


def test_a_relation_that_the_questions_do_not_have_is_told_before_anything_runs(write_config, tmp_path):
    source = tmp_path / "mine.jsonl"
    row = {"question": "What is the capital of Chad?", "answer": "N'Djamena", "relation": "capital"}
    source.write_text(json.dumps(row) + "\n")
    path = write_config(
        data={"questions": str(source), "corpus": "factbook", "relations": ["border", "capital"]}
    )
    with pytest.raises(ConfigError, match="'border', which the questions do not have; they have capital"):
        CliRunner().invoke(columns, ["--config", str(path)], catch_exceptions=False)
