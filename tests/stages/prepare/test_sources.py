"""Local files and datasets: what is read, and what each bad line is told."""

import datetime
import decimal
import gzip
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ghosttrack.common.errors import ConfigError, DataError
from ghosttrack.stages.prepare import files
from ghosttrack.stages.prepare.run import told
from ghosttrack.stages.prepare.sources import (
    SourceRows,
    check_questions,
    read_asked,
    read_hub_corpus,
    read_local_corpus,
    read_questions,
)


def write(path: Path, *records: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


def read(path: Path, **columns: str) -> SourceRows:
    return read_questions(str(path), columns)


def test_questions_and_prompts_are_told_apart(tmp_path: Path) -> None:
    rows = read(
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
    assert rows.reasons == {"duplicate": 1}
    assert (fact.given.row, prompt.given.row) == (1, 3)


def test_new_questions_keep_order_ids_and_examples_and_need_no_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "new.jsonl",
        {"question": "Who wrote Emma?", "relation": "author", "subject": "Emma", "id": "emma"},
        {"prompt": "Two plus two is", "answer": 4},
    )
    (first, second), left_out, _ = read_asked(path, {"author": "Q: Who wrote Hamlet?\nA: Shakespeare\n\n"})
    assert left_out == []
    assert (first.id, first.prefix) == ("emma", "Q: Who wrote Hamlet?\nA: Shakespeare\n\n")
    assert (first.query, first.answer, first.aliases) == ("Q: Who wrote Emma?\nA:", "", ())
    assert (second.id, second.relation, second.prefix) == ("line_2", "all", "")
    assert (second.query, second.answer) == ("Two plus two is", "4")


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ({"q": {"text": "Who?"}, "gold": "Ada", "n": 1}, ("Q: Who?\nA:", ("Ada",), None)),  # as data.columns says
        ({"q": {"text": "Who?"}}, ("Q: Who?\nA:", (), None)),
        ({"question": "Who?", "answer": "Ada", "gold": "x"}, ("Q: Who?\nA:", ("Ada",), None)),
        ({"question": "Who?", "label": 1}, ("Q: Who?\nA:", (), None)),
        ({"subj": "E", "prop": "author", "obj": "Ada", "question": "Who?", "possible_answers": "[]"}, ("Q: Who?\nA:", ("Ada",), None)),
        ({"passage": "Ada sat.", "question": "did ada sit", "answer": True},
         ("Ada sat.\nQ: Did ada sit?\nA:", ("Yes", "True"), None)),
        ({"user_query": "Why?", "chatgpt_response": "So.", "hallucination": "yes"}, ("Q: Why?\nA:", (), "So.")),
    ],
)  # fmt: skip
def test_new_questions_are_read_through_the_mapping_of_the_run_s_own(
    tmp_path: Path, record: dict[str, Any], asked: tuple[object, ...]
) -> None:
    path = write(tmp_path / "new.json", [record])
    [line], left_out, _ = read_asked(path, {}, columns={"question": "q.text", "answer": "gold"})
    assert ((line.query, line.aliases, line.given.response), left_out) == (asked, [])


GERMAN = [
    {"frage": "Wer schrieb Emma?", "antwort": "Jane Austen"},
    {"frage": "Wo liegt Rom?", "antwort": "Italien"},
]


def test_columns_of_other_names_are_guessed_alike_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "fragen.jsonl", *GERMAN)
    rows = read(path)
    assert [(fact.question, fact.answer) for fact in rows.facts] == [tuple(row.values()) for row in GERMAN]
    assert rows.guessed == {"question": "frage", "answer": "antwort"}
    assert "question is 'frage', answer is 'antwort'" in told(rows)[0]
    lines, left_out, guessed = read_asked(path, {})
    assert ([line.question for line in lines], left_out, guessed) == (
        [row["frage"] for row in GERMAN],
        [],
        {"question": "frage"},
    )


def test_a_right_answer_to_a_new_question_is_one_that_is_called_so(tmp_path: Path) -> None:
    path = write(
        tmp_path / "new.jsonl",
        {"question": "Who?", "gold": "Ada", "kind": "person"},
        {"question": "Where?", "gold": "Oslo", "kind": "place"},
    )
    lines, _, guessed = read_asked(path, {})
    assert ([line.answer for line in lines], guessed) == (["Ada", "Oslo"], {"answer": "gold"})


def test_rows_behind_their_names_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(
        json.dumps(
            {"a": {"question": "Who?", "answer": "Ada"}, "b": {"question": "Where?", "answer": "Oslo"}}
        )
    )
    assert [(fact.given.id, fact.question) for fact in read(path).facts] == [("a", "Who?"), ("b", "Where?")]


def test_new_questions_have_the_run_s_other_columns_where_the_question_s_needs_no_name(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "new.json", [{"question": "Who?", "gold": "Ada", "topic": "author"}])
    before = {"author": "Q: Who wrote Emma?\nA: Austen\n\n"}
    [line], _, _ = read_asked(path, before, columns={"answer": "gold", "relation": "topic"})
    assert (line.prefix, line.aliases) == (before["author"], ("Ada",))


def test_both_responses_of_a_row_are_asked(tmp_path: Path) -> None:
    both = {"knowledge": "k", "question": "Where?", "right_answer": "Oslo", "hallucinated_answer": "Rome"}
    lines, *_ = read_asked(write(tmp_path / "new.jsonl", both, both), {})
    assert [(line.given.row, line.given.response) for line in lines] == [
        (1, "Oslo"),
        (1, "Rome"),
        (2, "Oslo"),
        (2, "Rome"),
    ]
    assert len({line.id for line in lines}) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "R?", "id": "a"}, "the id 'a' was there before"),
        ({"answer": "a"}, "exactly one of 'question' and 'prompt'"),
        ({"question": "R?", "answer": ["a", {}]}, "'aliases' must be a list of texts"),
    ],
)
def test_a_bad_line_of_new_questions_is_told_in_its_place(tmp_path: Path, line: object, message: str) -> None:
    path = write(
        tmp_path / "new.jsonl", {"question": "Q?", "id": "a"}, line, {"question": "Last?", "id": "z"}
    )
    questions, [bad], _ = read_asked(path, {})
    assert [question.id for question in questions] == ["a", "z"]
    assert bad["row"] == 2
    assert message in bad["why"]


def test_new_questions_of_a_folder_are_those_of_all_its_splits(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", {"question": "Who?", "id": "first"})
    (tmp_path / "train.jsonl").write_text('{"question": broken\n{"question": "Who?", "id": "last"}\n')
    questions, [bad], _ = read_asked(tmp_path, {})
    assert sorted(question.id for question in questions) == ["first", "last"]
    assert "it is not JSON" in bad["why"]


def test_a_file_without_new_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.asked = .*: the file has no questions"):
        read_asked(write(tmp_path / "new.jsonl", ""), {})
    with pytest.raises(DataError, match="it has the columns Query Text, Gold"):
        read_asked(write(tmp_path / "new.jsonl", {"Query Text": "Who?", "Gold": "Ada"}), {})


GOOD = {"question": "Q?", "answer": "a"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "is not JSON"),
        (["a list"], "must be a JSON object"),
        ({"answer": "a"}, "exactly one of 'question' and 'prompt'"),
        ({"question": "Q?", "prompt": "P", "answer": "a"}, "exactly one of"),
        ({"question": "  ", "answer": "a"}, "exactly one of"),
        ({"question": "\u200b\ufeff\u00a0", "answer": "a"}, "exactly one of"),
        ({"question": 3, "answer": "a"}, "'question' must be a text"),
        ({"question": "Q?", "answer": "a", "aliases": "b"}, "'aliases' must be a list"),
        ({"question": "Q?", "answer": "a", "relation": ["r"]}, "'relation' must be a text"),
        ({"question": "Q\ud83d?", "answer": "a"}, "half of a surrogate pair"),
        ({"question": "Q?", "answer": "a", "label": 2}, "'label' must be 0 (right) or 1 (wrong), not 2"),
        ({"question": "Q?", "answer": "x", "choices": ["b", "c"]}, "'answer' must be one of the choices"),
        ({"question": "Q?", "response": "abc", "spans": [[0, 9, 1]]}, "outside the response's 3 characters"),
        (
            {"question": "Q?", "response": "abc", "spans": [[0, 2, 1], [1, 3, 0]]},
            "overlaps one that ends at 2",
        ),
        ({"question": "Q?", "response": "abc", "spans": [[0, 2, 3]]}, "a span's label must be 0"),
        ({"question": "Q?", "response": "abc", "spans": [[0, 2]]}, "a span must be [start, end, label]"),
        ({"question": "Q?", "answer": "a", "spans": [[0, 1, 1]]}, "'spans' are places in 'response'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = write(tmp_path / "q.jsonl", GOOD, line)
    with pytest.raises(DataError, match=r"q\.jsonl line 2") as caught:
        read(path)
    assert message in str(caught.value)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no questions"):
        read(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "b.jsonl").write_bytes(b'{"question": "\xff", "answer": "a"}')
    with pytest.raises(
        DataError, match=r"line 1: 'question' has the byte 0xff at character 0, which is no UTF-8"
    ):
        read(tmp_path / "b.jsonl")


@pytest.mark.parametrize("place", ["id", "question", "answer", "note"])
def test_a_byte_that_is_no_text_loses_its_row_alone(tmp_path: Path, place: str) -> None:
    lines = [
        json.dumps({"id": f"{n}", "question": f"Q{n}?", "answer": "a", "note": "b"}).encode()
        for n in range(4)
    ]
    lines[2] = json.dumps(
        {"id": "2", "question": "Q2?", "answer": "a", "note": "b"} | {place: "\u00e9"}, ensure_ascii=False
    ).encode("latin-1")
    (tmp_path / "q.jsonl").write_bytes(b"\n".join(lines))
    rows = read(tmp_path / "q.jsonl")
    assert [fact.question for fact in rows.facts] == ["Q0?", "Q1?", "Q3?"]
    assert [(row["row"], row["reason"]) for row in rows.left_out] == [(3, "broken text")]
    assert f"{place!r} has the byte 0xe9" in rows.left_out[0]["why"]
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl line 2: there is no text"):
        read_local_corpus(tmp_path / "c.jsonl", "text")


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    path = table(tmp_path / "q.csv", "q.text,a.b,c\nWho?,Ada,x\n")
    [fact] = read(path, question="q.text", answer="a.b").facts
    assert (fact.question, fact.answer, fact.given.extra) == ("Who?", "Ada", {"c": "x"})


def test_mmlu_s_own_tables_have_no_head(tmp_path: Path) -> None:
    path = table(tmp_path / "q.csv", '"Which, of these?",a,b,c,d,B\nWhy?,1,2,3,4,D\n')
    assert [(fact.question, fact.aliases) for fact in read(path).facts] == [
        ("Which, of these?", ("B", "b")),
        ("Why?", ("D", "4")),
    ]


def test_one_broken_row_of_many_is_told_and_the_rest_is_asked(tmp_path: Path) -> None:
    lines = [{"question": f"What is {n}?", "answer": n} for n in range(40)]
    rows = read(
        write(tmp_path / "q.jsonl", *lines[:20], "{broken", *lines[20:], {"question": " ", "answer": "a"})
    )
    assert len(rows.facts) == 40
    assert [(row["row"], row["reason"]) for row in rows.left_out] == [
        (21, "not readable"),
        (42, "no question"),
    ]


def test_fewer_than_half_of_the_rows_may_be_broken_and_the_rest_is_asked(tmp_path: Path) -> None:
    good = [{"question": f"Q {n}?", "answer": "a"} for n in range(3)]
    broken = {"question": "", "answer": "a"}
    rows = read(write(tmp_path / "some.jsonl", broken, *good, broken))
    assert (len(rows.facts), rows.reasons) == (3, {"no question": 2})
    with pytest.raises(DataError, match=r"line 1.*3 of 6 rows are broken"):
        read(write(tmp_path / "half.jsonl", broken, *good, broken, broken))


def test_an_id_of_several_rows_is_told(tmp_path: Path) -> None:
    lines = [{"id": "a", "question": f"What is {n}?", "answer": n} for n in range(2)]
    rows = read(write(tmp_path / "q.jsonl", *lines, {"id": "b", "question": "Q?", "answer": 1}))
    assert rows.repeated_ids == ["a"]
    assert any("'a'" in sentence and "several rows" in sentence for sentence in told(rows))


@pytest.mark.parametrize(
    ("choices", "answer", "right"),
    [
        ([1, 2, 3, 4], 2, ("B", "2")),
        (["0", "4", "2", "6"], 1, ("B", "4")),
        (["2", "4", "6"], 4, ("B", "4")),
        ([0.5, 1.5], 1.5, ("B", "1.5")),
        ([True, False], False, ("B", "False")),
        ({"A": "Oslo", "B": "Rome"}, "B", ("B", "Rome")),
    ],
)
def test_options_that_are_numbers_are_named_by_themselves(
    tmp_path: Path, choices: object, answer: object, right: tuple[str, ...]
) -> None:
    path = write(tmp_path / "q.jsonl", {"question": "Q?", "choices": choices, "answer": answer})
    assert read(path).facts[0].aliases == right


def test_an_empty_answer_to_read_is_left_out_and_said_to_be_empty(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "q.jsonl", GOOD, {"question": "Why?", "response": "", "label": 1}))
    assert [(row["row"], row["why"]) for row in rows.left_out] == [
        (2, "'response' is empty; leave it out to have the model answer")
    ]


def test_an_empty_response_is_not_answered_by_the_model_instead(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "q.jsonl", GOOD, {"question": "Why?", "response": "  ", "answer": "So."}))
    assert [row["reason"] for row in rows.left_out] == ["empty response"]


def test_an_empty_cell_of_a_table_is_no_response_and_the_model_answers(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer,response\nWhy?,So.,\nHow?,So.,Like this.\n")
    rows = read(tmp_path / "q.csv")
    assert (rows.left_out, [fact.question for fact in rows.facts]) == ([], ["Why?"])
    assert [prompt.given.response for prompt in rows.prompts] == ["Like this."]


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([[5, 5, 1]], "the span 5–5 is empty"),
        ([[4, 2, 1]], "the span 4–2 is empty"),
        ([[0, 99, 1]], "outside the response's 9 characters"),
        ([[0, 4, 1], [3, 5, 0]], "the span 3–5 overlaps one that ends at 4"),
        ([{"start": 1, "end": 4}], "a span must be [start, end, label] or an object of these"),
        ("[[0, 4, 1]]", None),
        ([{"start": 0, "end": 4, "label": 1}], None),
    ],
)
def test_a_span_that_is_none_is_told_as_what_it_is(tmp_path: Path, spans: object, why: str | None) -> None:
    others = [{**GOOD, "question": f"Number {n}?"} for n in range(3)]
    rows = read(
        write(tmp_path / "q.jsonl", *others, {"question": "Why?", "response": "So it is.", "spans": spans})
    )
    assert [why in row["why"] for row in rows.left_out] == ([True] if why else [])
    assert bool(why) or [prompt.given.spans for prompt in rows.prompts] == [((0, 4, 1),)]


def test_an_answer_that_is_nan_is_not_given_and_a_whole_float_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "nan.jsonl"
    path.write_text(
        '{"id": "a", "question": "Peru?", "answer": NaN, "aliases": null, "subject": null}\n'
        '{"question": "Year?", "answer": 1912.0}\n{"question": "Big?", "answer": 1e+16}\n'
        '{"question": "Small?", "answer": 1e-05}\n{"question": "inf?", "answer": Infinity}\n'
    )
    rows = read(path)
    assert [fact.answer for fact in rows.facts] == ["1912", "10000000000000000", "0.00001"]
    assert [(row["row"], row["id"], row["reason"]) for row in rows.left_out] == [
        (1, "a", "no answer"),
        (5, None, "no answer"),
    ]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x1c"])
def test_a_line_ends_at_a_newline_only(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        json.dumps({"question": f"A talk{mark}by whom?", "answer": "Weir"}, ensure_ascii=False) + "\r\n",
        "utf-8",
    )
    assert read(path).facts[0].question == f"A talk{mark}by whom?"


def test_the_same_question_with_another_answer_is_kept_and_told(tmp_path: Path) -> None:
    same = {"question": "Who is on the money?"}
    rows = read(
        write(
            tmp_path / "q.jsonl",
            {**same, "answer": "Washington", "id": "q1"},
            {**same, "answer": "Lincoln", "id": "q2"},
        )
    )
    assert [(fact.given.id, fact.answer, set(fact.aliases)) for fact in rows.facts] == [
        ("q1", "Washington", {"Washington", "Lincoln"}), ("q2", "Lincoln", {"Washington", "Lincoln"})
    ]  # fmt: skip
    assert (rows.united, rows.left_out) == (1, [])


def test_columns_that_are_not_ours_are_kept(tmp_path: Path) -> None:
    [fact] = read(
        write(tmp_path / "q.jsonl", {"id": 7, "question": "Q?", "answer": "a", "source": "x", "page": 3.0})
    ).facts
    assert (fact.given.id, dict(fact.given.extra)) == ("7", {"source": "x", "page": 3})


ROWS = [
    {"id": "007", "question": "Code of Namibia?", "answer": "NA"},
    {"id": "1e5", "question": "Two\nlines, one?", "answer": "1912"},
]


@pytest.mark.parametrize(
    "ending",
    ["jsonl", "json", "csv", "semicolons.csv", "tsv", "parquet", "arrow", "jsonl.gz", "csv.gz", "json.gz"],
)
def test_every_format_is_read_alike(tmp_path: Path, ending: str) -> None:
    table, path = pa.Table.from_pylist(ROWS), tmp_path / f"q.{ending}"
    name = path.with_name(path.name.removesuffix(".gz"))
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif "sv" in ending:
        table.to_pandas().to_csv(
            name, sep="\t" if "tsv" in ending else ";" if "semi" in ending else ",", index=False
        )
    else:
        name.write_text("\n".join(map(json.dumps, ROWS)) if "jsonl" in ending else json.dumps(ROWS))
    if ending.endswith("gz"):
        path.write_bytes(gzip.compress(name.read_bytes()))
    facts = read(path).facts
    assert [(fact.given.id, fact.question, fact.answer) for fact in facts] == [
        (row["id"], row["question"], row["answer"]) for row in ROWS
    ]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A hundred kilobytes that are gigabytes of rows."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), ["x" * 1_000_000])
    pq.write_table(
        pa.table({"question": long, "answer": ["y"] * 3000}), tmp_path / "long.parquet", store_schema=False
    )
    pq.write_table(pa.table({"question": ["x"], "answer": [["y"] * 9_000_000]}), tmp_path / "many.parquet")
    (tmp_path / "deep.json.gz").write_bytes(gzip.compress(b"[" + b"[]," * 30_000_000 + b"[]]"))
    for file in tmp_path.iterdir():
        assert file.stat().st_size < 1_000_000
        with pytest.raises(DataError, match="unpacks to more than 50 times its size"):
            read(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.json", "[" + "[]," * 30 + "{}]"),
        ("q.jsonl", "[" + "{}," * 30 + "1]"),
        ("q.jsonl", "[]\n" * 30),
        ("q.csv", "question,answer\n" + "a,b\n" * 30),
    ],
)
def test_a_file_of_which_too_much_would_be_held_at_once_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    """Three bytes of `[],` take seventy, a line that is no question four hundred."""
    monkeypatch.setattr(files, "MOST_PARTS", 20)
    monkeypatch.setattr(files, "MOST_ROWS", 20)
    (tmp_path / name).write_text(content)
    for use in (lambda: read(tmp_path / name), lambda: read_asked(tmp_path / name, {})):
        with pytest.raises(
            DataError, match=f"{name} has more than .* million rows, lists or objects; cut it"
        ):
            use()


def test_many_columns_of_one_name_are_told_apart_at_once(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer" + ",a" * 50_000 + ",a.1\nWho?,me" + ",x" * 50_001)
    [fact] = read(tmp_path / "q.csv").facts
    assert len(fact.given.extra) == 50_001


@pytest.mark.parametrize("given", ['["Lima", "Lima, Peru"]', "['Lima', 'Lima, Peru']"])
def test_a_list_that_a_table_holds_as_text_is_a_list_of_answers(tmp_path: Path, given: str) -> None:
    pd.DataFrame({"question": ["Capital of Peru?", "Sign?"], "answer": [given, "[a]"]}).to_csv(
        tmp_path / "q.csv", index=False
    )
    found = read(tmp_path / "q.csv").facts
    assert [fact.aliases for fact in found] == [("Lima", "Lima, Peru"), ("[a]",)]


def test_whole_numbers_that_pandas_wrote_beside_empty_cells_are_whole(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"question": ["a?", "b?", "c?"], "answer": [1912, None, 7], "version": ["1.0", "2.0", "3.0"]}
    )
    for nothing in ("", "nan"):
        table.to_csv(tmp_path / "q.csv", index=False, na_rep=nothing)
        rows = read(tmp_path / "q.csv")
        assert [(fact.answer, fact.given.extra["version"]) for fact in rows.facts] == [
            ("1912", "1.0"),
            ("7", "3.0"),
        ]
        assert rows.reasons == {"no answer": 1}


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding", "answers"),
    [
        ("\ufeffquestion,answer\r\nA?,1\r\nB?,b\r\n", "utf-8", ["1", "b"]),
        ("question,answer\rA?,a\rB?,b\r", "utf-8", ["a", "b"]),
        ("question;answer\rA, or?;a\rB?;b\r", "utf-8", ["a", "b"]),
        ('"said, by whom";question;answer\nx;A?;a\ny;B?;b\n', "utf-8", ["a", "b"]),
        ("question,answer\nA?,ä\nB?,b\n", "utf-32", ["ä", "b"]),
        (" question , answer\n A?, a\nB?, b\n", "utf-8", ["a", "b"]),
        ("question,answer,answer,\nA?,a,x,\nB?,b,y,\n", "utf-8", ["a", "b"]),
        ("question,answer\n\nA?,a\n\nB?,b\n\n", "utf-8", ["a", "b"]),
        (f"question,answer\nA{'a' * 200_000}?,a\nB?,b\n", "utf-8", ["a", "b"]),
        ('question,answer\n"A, or ""B""?\u2028Or C?",a\u2028b\nB?,b\n', "utf-8", ["a b", "b"]),
    ],
    ids=[
        "mark",
        "old-ends",
        "old-semicolons",
        "quoted-head",
        "utf-32",
        "spaces",
        "twice",
        "blank",
        "huge",
        "quotes",
    ],
)
def test_tables_of_many_programs_are_read(
    tmp_path: Path, text: str, encoding: str, answers: list[str]
) -> None:
    facts = read(table(tmp_path / "q.csv", text, encoding)).facts
    assert [fact.answer for fact in facts] == answers
    assert [fact.question[:1] for fact in facts if fact.question] == ["A", "B"]
    others = {(name, value) for name in ("answer.1", "said, by whom") for value in "xy"}
    assert all(set(fact.given.extra.items()) <= others for fact in facts)


def test_a_row_of_a_table_with_a_cell_too_many_is_told_by_its_line_and_no_cell_moves(tmp_path: Path) -> None:
    """Its cells are one to the left of their names where the first is taken for the row's own."""
    text = 'question,answer\nWhat is 1, 2 and 3?,6\n"A\nB?",a\nC?,c\nD?,d\nE?,e,f\n'
    rows = read(table(tmp_path / "q.csv", text))
    assert [fact.answer for fact in rows.facts] == ["a", "c", "d"]
    assert [(row["row"], row["reason"]) for row in rows.left_out] == [
        (2, "not readable"),
        (7, "not readable"),
    ]
    assert "3 cells, and the head names 2 columns" in rows.left_out[0]["why"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\nA?,a\nB?,b,c,d\n", r"q\.csv line 3: it has 4 cells"),
        ('question,answer\nA?,a\n"B?,b\nC?,c\n', r"q\.csv line 3: a quotation mark opens a cell that nothing closes"),
        ("question,answer\n", "the file has no questions"),
        ("", "the file has no questions"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_an_error_that_names_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(table(tmp_path / "q.csv", text))


def test_a_list_of_objects_that_is_no_json_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text('[\n{"question": "A?", "answer": "a"},\n]\n')
    with pytest.raises(DataError, match=r"q\.json is not JSON: .* line (2|3) column"):
        read(tmp_path / "q.json")


@pytest.mark.parametrize("label", ["True", "1.0", " 1 ", 1.0, True])
def test_a_label_is_read_as_tables_write_it(tmp_path: Path, label: object) -> None:
    given = {"question": "Q?", "response": "x", "label": label}
    [prompt] = read(write(tmp_path / "q.jsonl", given)).prompts
    assert prompt.given.label == 1
    pd.DataFrame([given]).to_csv(tmp_path / "q.csv", index=False)
    [prompt] = read(tmp_path / "q.csv").prompts
    assert prompt.given.label == 1


def test_a_label_without_a_response_is_told(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "q.jsonl", GOOD | {"label": 1}))
    [sentence] = told(rows)
    assert "1 row with a label and no response, row 1 the first" in sentence


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([b"caf\xc3\xa9", b"b"], "café"),
        ([decimal.Decimal("1.50"), None], "1.50"),
        ([datetime.datetime(2020, 1, 2), None], "2020-01-02"),
        ([datetime.datetime(2020, 1, 2, 3), None], "2020-01-02T03:00:00"),
    ],
)
def test_typed_columns_are_texts(tmp_path: Path, values: list[Any], answer: str) -> None:
    pq.write_table(pa.table({"question": [b"A?", b"B?"], "answer": values}), tmp_path / "q.parquet")
    fact = read(tmp_path / "q.parquet").facts[0]
    assert (fact.question, fact.answer) == ("A?", answer)


def test_options_that_are_counted_from_one_are_refused_and_one_bad_number_is_not(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "choices": ["a", "b", "c"], "answer": n} for n in (1, 2, 3)]
    with pytest.raises(DataError, match=r"line 3: .*they seem to be counted from 1"):
        read(write(tmp_path / "q.jsonl", *rows))
    found = read(write(tmp_path / "q.jsonl", *rows, {**rows[0], "question": "0?", "answer": 0}))
    assert [fact.answer for fact in found.facts] == ["B", "C", "A"]
    assert [row["row"] for row in found.left_out] == [3]


def test_a_list_in_a_file_of_lines_is_read_and_numbers_name_questions(tmp_path: Path) -> None:
    rows = [
        {"id": name, "question": f"{n}?", "answer": str(n)} for n, name in enumerate((2.5, 3.0, 4, math.nan))
    ]
    (tmp_path / "q.jsonl").write_text(json.dumps(rows, indent=1))
    assert [fact.given.id for fact in read(tmp_path / "q.jsonl").facts][:3] == ["2.5", "3", "4"]
    (tmp_path / "q.jsonl").write_text(json.dumps(rows, indent=1)[:-9])
    with pytest.raises(DataError, match=r"q\.jsonl is not JSON"):
        read(tmp_path / "q.jsonl")


def test_turns_of_a_conversation_are_columns_by_their_place(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q?"},
        {"role": "assistant", "content": "a"},
    ]
    path = write(tmp_path / "q.jsonl", {"turns": turns})
    [fact] = read(path, question="turns.-2.content", answer="turns.2.content").facts
    assert (fact.question, fact.answer) == ("Q?", "a")
    with pytest.raises(DataError, match=r"columns turns, turns\.0, turns\.0\.role, turns\.0\.content; say"):
        read(path)
    [known] = read(write(tmp_path / "known.jsonl", {"messages": turns})).facts
    assert (known.question, known.answer, known.given.passage) == ("Q?", "a", "Be brief.")
    asked = [*turns, {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "b"}]
    [last] = read(write(tmp_path / "last.jsonl", {"messages": asked})).facts
    assert (last.question, last.answer) == ("And now?", "b")
    assert last.given.passage == "Be brief.\nUser: Q?\nAssistant: a"
    [given] = read(write(tmp_path / "given.jsonl", {"messages": asked, "answer": "c"})).prompts
    assert (given.answer, given.given.response) == ("c", "b")
    parts = [{**asked[1], "content": [{"type": "text", "text": "Q?"}]}, *asked[2:]]
    with pytest.raises(DataError, match=r"line 1: a turn of the conversation is no text; write it as prompt"):
        read(write(tmp_path / "parts.jsonl", {"messages": parts}))
    with pytest.raises(DataError, match=r"line 1: of a conversation the last question .* write it as prompt"):
        read(write(tmp_path / "open.jsonl", {"messages": asked[:-1]}))


def test_ragtruth_s_own_files_are_joined(tmp_path: Path) -> None:
    write(
        tmp_path / "source_info.jsonl",
        {
            "source_id": "s1",
            "task_type": "QA",
            "source": "MARCO",
            "source_info": {},
            "prompt": "Answer: why?",
        },
    )
    path = write(tmp_path / "response.jsonl", {
        "id": "0", "source_id": "s1", "model": "gpt-4", "temperature": 0.7, "split": "train", "quality": "good", "response": "Because. Perhaps.",
        "labels": [{"start": 9, "end": 17, "text": "Perhaps.", "meta": "", "label_type": "Baseless", "implicit_true": False, "due_to_null": False}],
    })  # fmt: skip
    [prompt] = read(path).prompts
    assert (prompt.query, prompt.given.response, prompt.given.spans) == (
        "Answer: why?",
        "Because. Perhaps.",
        ((9, 17, 1),),
    )
    assert (prompt.relation, prompt.given.label, prompt.given.extra["model"]) == ("QA", 1, "gpt-4")


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


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = trivia(tmp_path / "trivia") / "validation.jsonl"
    rows = read(path, question="text", answer="reply.value", aliases="reply.aliases", relation="topic")
    assert [(f.relation, f.question, f.aliases) for f in rows.facts] == [
        ("capital", "Capital of Peru?", ("Lima", "Lima, Peru"))
    ]
    assert rows.reasons == {"no answer": 1}


def test_a_folder_is_read_by_its_split(tmp_path: Path) -> None:
    folder = tmp_path / "nq"
    folder.mkdir()
    write(folder / "train.jsonl", {"question": "Who?", "answer": ["A", "B"]})
    for source in (str(folder), f"hub:{folder}"):
        [fact] = read_questions(source, {}, split="train").facts
        assert (fact.answer, fact.aliases) == ("A", ("A", "B"))


def test_a_folder_may_be_called_as_a_reader_of_the_library_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("json").mkdir()
    write(Path("json/train.jsonl"), {"question": "Who?", "answer": "A"})
    write(Path("beside.jsonl"), {"question": "Not this?", "answer": "B"})
    for source in ("json", "hub:json"):
        assert [fact.question for fact in read_questions(source, {}, split="train").facts] == ["Who?"]
        check_questions(source, {}, None, "train")


def test_a_table_in_a_folder_is_read_as_one_beside_it(tmp_path: Path) -> None:
    """The library says which files are of a split; it would read 007 as 7, NA as nothing, and no file with a broken row."""
    folder = tmp_path / "codes"
    folder.mkdir()
    for name, separator in (("train.csv", ","), ("test.csv", "|")):
        pd.DataFrame(ROWS).to_csv(folder / name, index=False, sep=separator)
    card = "---\nconfigs:\n- config_name: codes\n  sep: '|'\n  data_files: test.csv\n---\n"
    expected = [(row["id"], row["answer"]) for row in ROWS]
    for place in (folder, f"hub:{folder}"):
        rows = read_questions(str(place), {}, split="train")
        assert [(fact.given.id, fact.answer) for fact in rows.facts] == expected
    [last] = read_questions(str(folder), {}, split="train[1:]").facts
    assert (last.given.id, last.given.row) == ("1e5", 3)
    (folder / "README.md").write_text(card)
    rows = read_questions(str(folder), {}, "codes", "train")
    assert [(fact.given.id, fact.answer) for fact in rows.facts] == expected


def test_a_broken_row_in_one_of_several_files_is_told_by_its_place(tmp_path: Path) -> None:
    write(tmp_path / "rows/train-1.jsonl", GOOD, {**GOOD, "question": "R\u2028?"})
    write(tmp_path / "rows/train-2.jsonl", "{broken", {"question": "S?", "answer": 7})
    rows = read_questions(str(tmp_path / "rows"), {}, split="train")
    assert [(fact.question, fact.given.row) for fact in rows.facts] == [("Q?", 1), ("R\u2028?", 2), ("S?", 4)]
    [bad] = rows.left_out
    assert bad["row"] == 3
    assert bad["why"].startswith("train-2.jsonl line 1: it is not JSON")


def test_a_folder_that_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(
        [{"question": "Who?", "answer": "A"}, {"question": "Why?", "answer": "B"}]
    )
    rows.save_to_disk(tmp_path / "saved")
    check_questions(str(tmp_path / "saved"), {}, None, "validation")
    assert [fact.answer for fact in read(tmp_path / "saved").facts] == ["A", "B"]


@pytest.mark.parametrize(
    "table",
    [
        {"question": {"0": "Who?", "5": "Why?"}, "answer": {"0": "A", "5": "B"}},
        {"question": ["Who?", "Why?"], "answer": ["A", "B"]},
    ],
)
def test_a_table_that_is_written_by_its_columns_is_read(tmp_path: Path, table: object) -> None:
    assert [fact.answer for fact in read(write(tmp_path / "q.json", table)).facts] == ["A", "B"]


def test_errors_of_a_source_name_the_key(tmp_path: Path) -> None:
    path = trivia(tmp_path / "trivia") / "validation.jsonl"
    with pytest.raises(DataError, match=r"data\.columns\.answer = 'respons'.*reply\.value"):
        read(path, question="text", answer="respons")
    with pytest.raises(ConfigError, match="'querry'"):
        read(path, querry="text")
    with pytest.raises(DataError, match="'question'"):
        read(path)
    with pytest.raises(
        DataError, match=r"split 'test' cannot be loaded.*choose one of them with data\.questions_split"
    ):
        read_questions(str(path.parent), {}, split="test")
    with pytest.raises(DataError, match=r"data\.corpus_column = 'body'"):
        read_hub_corpus(str(path.parent), None, "validation", "body")


def test_local_text_is_split_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\nline.\n\n \nTwo.\n", encoding="utf-8")
    write(tmp_path / "b.jsonl", {"body": "Three."}, {"body": ""})
    assert read_local_corpus(tmp_path / "a.txt", "body") == ["One\nline.", "Two."]
    assert read_local_corpus(tmp_path, "body") == ["One\nline.", "Two.", "Three.", ""]
    with pytest.raises(DataError, match=r"b\.jsonl line 1.*'text'"):
        read_local_corpus(tmp_path / "b.jsonl", "text")
    with pytest.raises(ConfigError, match=r"data\.corpus"):
        read_local_corpus(tmp_path / "a.doc", "text")


def test_rows_without_a_text_are_empty_documents_and_line_ends_of_windows_are_ends(tmp_path: Path) -> None:
    rows = write(tmp_path / "c.jsonl", {"text": "one"}, {"text": None}, {"text": "two"})
    assert read_local_corpus(rows, "text") == ["one", "", "two"]
    (tmp_path / "c.txt").write_bytes(b"One\r\nline.\r\n\r\nTwo.\r\n")
    assert read_local_corpus(tmp_path / "c.txt", "text") == ["One\nline.", "Two."]
    with pytest.raises(DataError, match=r"c\.jsonl line 1: there is no text in the field 'txt'"):
        read_local_corpus(rows, "txt")


def test_a_column_of_numbers_is_no_corpus(tmp_path: Path) -> None:
    write(tmp_path / "hub/train.jsonl", {"text": 1})
    with pytest.raises(DataError, match="holds int64 and no text"):
        read_hub_corpus(f"hub:{tmp_path / 'hub'}", None, "train", "text")


def test_hub_corpus_is_a_sequence_of_texts(tmp_path: Path) -> None:
    texts = read_hub_corpus(str(trivia(tmp_path / "trivia")), None, "validation", "text")
    assert [texts[index] for index in range(len(texts))] == ["Capital of Peru?", "Unanswered?"]


def test_passages_with_a_question_are_as_many_questions_as_there_are_rows(tmp_path: Path) -> None:
    """Their last lines are all the same; the question is the whole prompt, and no subject is guessed from it."""
    names = [f"Sam number {n}" for n in range(60)]
    path = write(tmp_path / "boolq.jsonl", *(
        {"id": f"b-{n}", "prompt": f"Passage: {name} lives in Lima.\nQuestion: does {name} live in Oslo?\nAnswer (yes or no):",
         "answer": "No", "relation": "boolq"}
        for n, name in enumerate(names)
    ))  # fmt: skip
    prompts = read(path).prompts
    assert [prompt.id for prompt in prompts] == [f"b-{n}" for n in range(60)]
    assert len({prompt.question for prompt in prompts}) == 60
    assert {prompt.subject for prompt in prompts} == {""}


@pytest.mark.parametrize("name", ["new*", "[new]", "$HOME", "a::b", "~new #2, b: c"])
def test_a_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    """Beside a file and a folder of other questions, which a pattern would find."""
    for place, asked in ((name, "Mine?"), ("newer", "Other?"), ("n", "Other?")):
        table = pd.DataFrame({"question": [asked], "answer": ["x"]})
        table.to_csv(tmp_path / f"{place}.csv", index=False)
        (tmp_path / place).mkdir()
        table.to_csv(tmp_path / place / "train.csv", index=False)
    for source in (tmp_path / f"{name}.csv", tmp_path / name):
        rows = read_questions(str(source), {}, split="train")
        assert [fact.question for fact in rows.facts] == ["Mine?"]
        check_questions(str(source), {}, None, "train")
