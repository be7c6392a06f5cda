"""Prompts that the model cannot hold are left out and told; the others are asked. `ghosttrack data` shows both."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ghosttrack.common.errors import DataError
from ghosttrack.stages.prepare.commands import data, labelled
from ghosttrack.stages.prepare.lengths import (
    TOO_LONG,
    TOO_SHORT,
    UNKNOWN,
    TokenReader,
    fitting,
    lengths,
    readable,
    reader_of,
)
from ghosttrack.stages.prepare.prompts import QuestionLine
from ghosttrack.stages.prepare.rows import Given
from ghosttrack.stages.prepare.run import told
from ghosttrack.stages.prepare.sources import read_questions
from tests.tiny_models import byte_tokenizer, random_model

CONTEXT = 128  # of the tiny models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    byte_tokenizer().save_pretrained(folder)
    random_model("llama").config.save_pretrained(folder)  # no weights: they are not needed
    return folder


def asked(text: str, response: str | None = None) -> QuestionLine:
    return QuestionLine("q", "r", "", "ab ", text, "", (), given=Given(row=3, response=response))


def test_a_prompt_counts_in_tokens_with_its_response(folder: Path) -> None:
    reader = reader_of(folder)
    assert reader.longest == CONTEXT
    assert lengths(reader, [asked("é"), asked("x", "yy")]) == [5, 6]  # a token a byte


def test_what_does_not_fit_is_left_out_and_told(folder: Path) -> None:
    questions = [asked("x" * 10), asked("x" * (CONTEXT - 3)), asked("x", "y" * (CONTEXT - 4))]
    kept, [left] = fitting(questions, lengths(reader_of(folder), questions), CONTEXT, new=4)
    assert kept == [questions[0], questions[2]]  # nothing is generated after a response
    assert (left["row"], left["reason"]) == (3, TOO_LONG)
    with pytest.raises(DataError, match="no question fits the model"):
        fitting(questions[1:2], [CONTEXT], CONTEXT, new=4)


def test_a_prompt_of_one_token_is_left_out_and_told(folder: Path) -> None:
    """The first token is a sink; one such row of a file of new questions left none of them scored."""
    reader = reader_of(folder)
    short, given, good = (
        replace(asked(text, said), prefix="") for text, said in (("x", None), ("x", "yes"), ("ab", None))
    )
    kept, [first] = readable(reader, [short, given, good])
    kept, [second] = fitting(kept, lengths(reader, kept), CONTEXT, new=4)
    assert kept == [good]
    assert [row["reason"] for row in (first, second)] == [TOO_SHORT, TOO_SHORT]


def test_a_response_of_unknown_words_is_left_out_and_told() -> None:
    words = Tokenizer(models.WordLevel({"?": 0, "ab": 1, "x": 2, "yes": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    reader = TokenReader(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?"), None)
    questions = [asked("x"), asked("x", " yes"), asked("x", " yes, 𝕏")]
    kept, [left] = readable(reader, questions)
    assert kept == questions[:2]
    assert (left["row"], left["reason"]) == (3, UNKNOWN)
    assert "cannot give back the response ' yes, 𝕏'" in left["why"]
    with pytest.raises(DataError, match="no response can be read"):
        readable(reader, questions[2:])


def test_a_response_that_the_tokenizer_writes_otherwise_is_left_out_and_told() -> None:
    words = byte_tokenizer().backend_tokenizer
    words.normalizer = normalizers.NFKC()
    reader = TokenReader(PreTrainedTokenizerFast(tokenizer_object=words), None)
    kept, [left] = readable(reader, [asked("x", "a ½ mile"), asked("x", "a mile")])
    assert [question.given.response for question in kept] == ["a mile"]
    assert "it reads '1⁄2 mile' for '½ mile'" in left["why"]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (Given(label=1), ["labelled wrong"]),
        (
            Given(label=0, spans=((4, 6, 1), (6, 8, 0))),
            ["labelled right", "marked wrong: '😀é'", "marked right: ' b'"],
        ),
        (Given(spans=()), ["no part of it is marked"]),
        (Given(), ["not labelled: judged by what is right"]),
    ],
)
def test_what_a_row_says_of_its_own_answer_is_shown_in_its_own_words(given: Given, lines: list[str]) -> None:
    assert [line.strip() for line in labelled(given, "all 😀é b c")] == lines


def test_rows_that_contradict_themselves_or_are_left_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(
        "".join(
            json.dumps({"question": f"Why {n}?", "response": "So it is.", "label": label, "spans": spans})
            + "\n"
            for n, (label, spans) in enumerate(
                [(0, [[0, 2, 1]]), (1, [[0, 2, 1]]), (0, []), (1, []), (2, []), (1, [[0, 2, 1]]), (3, [])]
            )
        )
    )
    left_out, contradicting = told(read_questions(str(tmp_path / "q.jsonl"), {}))
    assert "2 rows with a label" in contradicting
    assert "row 1 the first" in contradicting
    assert "2 rows left out, bad label (rows 5, 7); the first is row 5" in left_out


def test_rows_that_the_model_answers_and_parts_marked_right_are_told(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(
        '{"question": "Why?", "answer": "So."}\n{"question": "How?", "response": "So it is.", "spans": [[0, 2, 1], [3, 5, 0]]}\n'
    )
    mixed, right = told(read_questions(str(tmp_path / "q.jsonl"), {}))
    assert "1 row without a response; the model answers there" in mixed
    assert "1 part of 2 marked as right, so that tokens in no part count as neither" in right


def test_the_questions_are_shown_as_the_model_will_read_them(folder: Path, tmp_path: Path) -> None:
    rows = [{"id": f"own-{n}", "question": f"What is {n} plus 1?", "answer": n + 1} for n in range(20)]
    rows += [
        {"id": "long", "question": "x" * CONTEXT, "answer": "y"},
        {"id": "open", "question": "Why?", "answer": None},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.yaml").write_text(
        f"model: {{base_model: {folder}}}\nsae: {{d_hidden: 8, target_l0: 4}}\n"
        f"data: {{questions: {tmp_path}/q.jsonl, shots: 2}}\npaths: {{root: {tmp_path}}}\ntracking: {{max_new_tokens: 3}}\n"
    )
    shown = CliRunner().invoke(data, ["--config", str(tmp_path / "tiny.yaml")], catch_exceptions=False).output
    assert "2 rows set aside as worked examples" in shown
    assert "2 rows kept for further contexts" in shown
    assert "no answer; the first is row 22" in shown
    assert "longer than the context; the first is row 21" in shown
    assert f"of a context of {CONTEXT}" in shown
    blocks = shown.split("\n\n")[1:]
    assert len(blocks) == 10
    assert all(block.count("    Q: What is") == 3 and block.count("    A:") == 3 for block in blocks)
