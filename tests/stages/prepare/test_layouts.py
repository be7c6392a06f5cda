"""Well-known data sets in their real columns are read without a mapping."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ghosttrack.common.errors import DataError
from ghosttrack.stages.prepare.layouts import LAYOUTS
from ghosttrack.stages.prepare.sources import SourceRows, read_questions

TRIVIA = {
    "question": "Who wrote Emma?", "question_id": "tc_1", "question_source": "http://x", "entity_pages": {"title": []},
    "search_results": {"title": []},
    "answer": {"aliases": ["Austen"], "normalized_aliases": ["austen"], "matched_wiki_entity_name": "", "value": "Jane Austen",
               "normalized_matched_wiki_entity_name": "", "normalized_value": "jane austen", "type": "WikipediaEntity"},
}  # fmt: skip
POP = {
    "id": 42, "subj": "Emma", "prop": "author", "obj": "Jane Austen", "subj_id": 1, "prop_id": 2, "obj_id": 3, "s_aliases": "[]",
    "o_aliases": "[]", "s_uri": "u", "o_uri": "u", "s_wiki_title": "Emma", "o_wiki_title": "Jane Austen", "s_pop": 5, "o_pop": 9,
    "question": "Who is the author of Emma?", "possible_answers": '["Jane Austen", "Austen"]',
}  # fmt: skip
SIMPLE = {
    "metadata": "{'topic': 'Art', 'answer_type': 'Person', 'urls': ['u']}",
    "problem": "Who painted it?",
    "answer": "Goya",
}
TRUTHFUL = {
    "type": "Adversarial", "category": "Myths", "question": "Do fish sleep?", "best_answer": "Fish rest",
    "correct_answers": ["Fish rest", "Yes, in a way"], "incorrect_answers": ["Never"], "source": "u",
}  # fmt: skip
TRUTHFUL_MC = {
    "question": "Is glass a liquid?",
    "mc1_targets": {"choices": ["Yes", "No, it is a solid"], "labels": [0, 1]},
    "mc2_targets": {"choices": ["Yes", "No"], "labels": [0, 1]},
}
SQUAD = {"id": "5a", "title": "Norway", "context": "Oslo is the capital.", "question": "What is the capital?",
         "answers": {"text": ["Oslo"], "answer_start": [0]}}  # fmt: skip
BOOL = {"question": "does tom live in rome", "answer": True, "passage": "Tom lives in Rome."}
MMLU = {"question": "What is 2 + 2?", "subject": "arithmetic", "choices": ["3", "4", "5", "6"], "answer": 1}
GSM = {"question": "How many apples?", "answer": "He has 3 and buys 2.\n3 + 2 = <<3+2=5>>5\n#### 1,005"}
HALU = {
    "knowledge": "Oslo is in Norway.",
    "question": "Where is Oslo?",
    "right_answer": "Norway",
    "hallucinated_answer": "Peru",
}
HALU_SAMPLE = {
    "knowledge": "k",
    "question": "Where is Oslo?",
    "answer": "Oslo is in Peru.",
    "hallucination": "yes",
}
RAG = {
    "id": "1", "query": "Why?", "context": "Because it rains.", "output": "It rains. It snows.", "task_type": "QA", "quality": "good",
    "model": "gpt-4", "temperature": 0.7, "hallucination_labels": '[{"start": 10, "end": 19, "text": "It snows.", "label_type": "x"}]',
    "hallucination_labels_processed": {"baseless": 1}, "input_str": "long",
}  # fmt: skip
SHROOM = {
    "id": "val-en-1", "lang": "EN", "model_input": "Who won?", "model_output_text": "Ada won in 1990.", "model_id": "m",
    "soft_labels": [{"start": 0, "prob": 0.4, "end": 3}], "hard_labels": [[0, 3], [11, 15]], "model_output_logits": [1.0],
    "model_output_tokens": ["Ada"],
}  # fmt: skip


def rows_of(folder: Path, record: dict[str, Any]) -> SourceRows:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return read_questions(str(path), {})


@pytest.mark.parametrize(
    ("record", "layout", "question", "aliases"),
    [
        (TRIVIA, "TriviaQA", "Who wrote Emma?", ("Jane Austen", "Austen")),
        ({"question": "Who?", "answer": ["A", "B"]}, None, "Who?", ("A", "B")),  # NQ-open
        (POP, "PopQA", "Who is the author of Emma?", ("Jane Austen", "Austen")),
        (SIMPLE, "SimpleQA", "Who painted it?", ("Goya",)),
        (TRUTHFUL, "TruthfulQA", "Do fish sleep?", ("Fish rest", "Yes, in a way")),
        (TRUTHFUL_MC, "TruthfulQA, options", "Is glass a liquid?", ("B", "No, it is a solid")),
        (SQUAD, "SQuAD", "What is the capital?", ("Oslo",)),
        (BOOL, "BoolQ", "Does tom live in rome?", ("Yes", "True")),
        (MMLU, "MMLU", "What is 2 + 2?", ("B", "4")),
        (BOOL | {"idx": 3, "label": 0}, "BoolQ", "Does tom live in rome?", ("Yes", "True")),
        (
            {"question": BOOL["question"], "passage": BOOL["passage"], "idx": 3, "label": False},
            "BoolQ, SuperGLUE",
            "Does tom live in rome?",
            ("No", "False"),
        ),
        (
            {
                "original_index": 1,
                "problem": "Who painted it?",
                "answer": "Goya",
                "topic": "Art",
                "answer_type": "Person",
                "multi_step": False,
                "requires_reasoning": False,
                "urls": "u",
            },
            "SimpleQA Verified",
            "Who painted it?",
            ("Goya",),
        ),
        (
            {
                "Type": "Adversarial",
                "Category": "Myths",
                "Question": "Do fish sleep?",
                "Best Answer": "Fish rest",
                "Correct Answers": "Fish rest; Yes, in a way",
                "Incorrect Answers": "Never",
                "Source": "u",
            },
            "TruthfulQA, authors' file",
            "Do fish sleep?",
            ("Fish rest", "Yes, in a way"),
        ),
        (GSM, None, "How many apples?", ("1005",)),
        ({"train": MMLU}, "MMLU, training rows", "What is 2 + 2?", ("B", "4")),
        (
            {
                "problem": "1 + 1?",
                "solution": "s",
                "answer": "2",
                "subject": "Algebra",
                "level": 1,
                "unique_id": "test/1.json",
            },
            "MATH-500",
            "1 + 1?",
            ("2",),
        ),
        (
            {
                "id": 7,
                "verifiable": "VERIFIABLE",
                "label": "REFUTES",
                "claim": "Rome is in Peru.",
                "evidence": [[[1, 2, "Rome", 0]]],
            },
            "claims",
            "Is this true? Rome is in Peru.",
            ("No", "False"),
        ),
        (
            {"statement": "Rome is in Italy.", "label": 1},
            "claims",
            "Is this true? Rome is in Italy.",
            ("Yes", "True"),
        ),
    ],
)
def test_questions(
    tmp_path: Path, record: dict[str, Any], layout: str | None, question: str, aliases: tuple[str, ...]
) -> None:
    rows = rows_of(tmp_path, record)
    [fact] = rows.facts
    assert (rows.layout, fact.question, fact.aliases) == (layout, question, aliases)


def test_ids_relations_and_what_is_kept_beside(tmp_path: Path) -> None:
    [pop] = rows_of(tmp_path, POP).facts
    assert (pop.given.id, pop.relation, pop.subject, pop.given.extra["s_pop"]) == ("42", "author", "Emma", 5)
    [simple] = rows_of(tmp_path, SIMPLE).facts
    assert simple.relation == "Art"
    [mmlu] = rows_of(tmp_path, MMLU).facts
    assert (mmlu.relation, mmlu.given.choices) == ("arithmetic", ("3", "4", "5", "6"))
    [squad] = rows_of(tmp_path, SQUAD).facts
    assert (squad.given.id, squad.given.passage) == ("5a", "Oslo is the capital.")


OWN = {"id": "7", "question": "who is he?", "answer": "Tom", "aliases": ["Thomas"], "subject": "he"}


@pytest.mark.parametrize("more", [{"passage": "Tom is he."}, {"choices": ["Tom", "Ada"]}])
def test_a_file_in_our_own_fields_is_no_other_data_set(tmp_path: Path, more: dict[str, Any]) -> None:
    rows = rows_of(tmp_path, OWN | more)
    [fact] = rows.facts
    assert (rows.layout, fact.given.id, fact.question, fact.relation, fact.subject) == (
        None,
        "7",
        "who is he?",
        "all",
        "he",
    )
    assert fact.aliases == (("Tom", "Thomas") if "passage" in more else ("A", "Tom"))


def test_a_passage_with_an_answer_in_words_is_no_yes_or_no(tmp_path: Path) -> None:
    [fact] = rows_of(tmp_path, {"question": "who is he?", "passage": "Tom is he.", "answer": "Tom"}).facts
    assert (fact.question, fact.relation, fact.aliases) == ("who is he?", "all", ("Tom",))


def test_an_id_stays_whatever_the_layout(tmp_path: Path) -> None:
    [fact] = rows_of(tmp_path, TRUTHFUL | {"id": 12}).facts
    assert fact.given.id == "12"


@pytest.mark.parametrize(
    ("record", "responses"),
    [
        (HALU, [("Norway", 0, None), ("Peru", 1, None)]),
        (HALU_SAMPLE, [("Oslo is in Peru.", 1, None)]),
        ({"knowledge": "k", "dialogue_history": "[Human]: Hi", "right_response": "Yes", "hallucinated_response": "No"},
         [("Yes", 0, None), ("No", 1, None)]),
        ({"knowledge": "k", "dialogue_history": "[Human]: Hi", "response": "Yes", "hallucination": "yes"}, [("Yes", 1, None)]),
        ({"document": "d", "summary": "s", "hallucination": "no"}, [("s", 0, None)]),
        ({"document": "d", "right_summary": "r", "hallucinated_summary": "h"}, [("r", 0, None), ("h", 1, None)]),
        ({"ID": "1", "user_query": "Why?", "chatgpt_response": "So.", "hallucination": "no", "hallucination_spans": []},
         [("So.", 0, None)]),
        (RAG, [("It rains. It snows.", 1, ((10, 19, 1),))]),
        (RAG | {"hallucination_labels": [{"start": 10, "end": 15}, {"start": 3, "end": 12}]},
         [("It rains. It snows.", 1, ((3, 15, 1),))]),
        ({name: value for name, value in SHROOM.items() if name != "hard_labels"} | {"soft_labels": [{"start": 0, "prob": 0.6, "end": 3}, {"start": 4, "prob": 0.2, "end": 7}]},
         [("Ada won in 1990.", 1, ((0, 3, 1),))]),
        (SHROOM, [("Ada won in 1990.", 1, ((0, 3, 1), (11, 15, 1)))]),
        ({"id": "1", "passage": "p", "question": "Why?", "answer": "So.", "label": "FAIL", "source_ds": "DROP"}, [("So.", 1, None)]),
    ],
)  # fmt: skip
def test_given_answers_with_their_labels(
    tmp_path: Path, record: dict[str, Any], responses: list[Any]
) -> None:
    found = [(q.given.response, q.given.label, q.given.spans) for q in rows_of(tmp_path, record).prompts]
    assert found == responses


def test_an_unanswerable_question_is_left_out_by_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "squad.jsonl"
    open_question = SQUAD | {"id": "5b", "answers": {"text": [], "answer_start": []}}
    path.write_text(json.dumps(SQUAD) + "\n" + json.dumps(open_question) + "\n")
    rows = read_questions(str(path), {})
    assert [(row["id"], row["reason"]) for row in rows.left_out] == [("5b", "no answer")]


def test_an_unanswerable_question_of_an_article_loses_no_other(tmp_path: Path) -> None:
    asked = [
        {
            "id": f"{n}",
            "question": f"Where, {n}?",
            "answers": [{"text": "Oslo", "answer_start": 0}] if n else [],
        }
        for n in range(3)
    ]
    article = {"title": "Norway", "paragraphs": [{"context": "Oslo is the capital.", "qas": asked}]}
    rows = rows_of(tmp_path, article)
    assert [fact.given.id for fact in rows.facts] == ["1", "2"]
    assert [(row["id"], row["reason"]) for row in rows.left_out] == [("0", "no answer")]


def test_ragtruth_without_its_prompts_says_where_they_are(tmp_path: Path) -> None:
    row = {"id": "0", "source_id": "1", "model": "m", "labels": [], "response": "r"}
    with pytest.raises(DataError, match=r"source_info\.jsonl, which must lie beside it"):
        rows_of(tmp_path, row)


def test_ragtruth_as_its_authors_publish_it_is_joined_with_its_prompts(tmp_path: Path) -> None:
    own = {"id": "0", "source_id": "7", "model": "gpt-4", "temperature": 0.7, "split": "train", "quality": "good",
           "labels": [{"start": 10, "end": 19, "text": "It snows.", "meta": "", "label_type": "x", "implicit_true": False,
                       "due_to_null": False}], "response": "It rains. It snows."}  # fmt: skip
    source = {
        "source_id": "7",
        "task_type": "QA",
        "source": "MARCO",
        "source_info": {"question": "Why?"},
        "prompt": "Why? Say:",
    }
    (tmp_path / "response.jsonl").write_text(json.dumps(own) + "\n")
    (tmp_path / "source_info.jsonl").write_text(json.dumps(source) + "\n")
    for place in (tmp_path / "response.jsonl", tmp_path):
        rows = read_questions(str(place), {}, split="train")
        [prompt] = rows.prompts
        assert (prompt.query, prompt.relation, prompt.given.spans) == ("Why? Say:", "QA", ((10, 19, 1),))
        assert "source_info" not in prompt.given.extra
        assert rows.left_out == []


def test_layouts_do_not_take_each_other_s_data_sets() -> None:
    for layout in LAYOUTS:
        assert next(other for other in LAYOUTS if other.columns <= layout.columns) is layout


STEM = {"stem": "Which is wet?", "choices": [{"text": "sand", "label": "A"}, {"text": "rain", "label": "B"}]}
OPTIONS = {"text": ["sand", "rain"], "label": ["1", "2"]}
PARAGRAPH = {
    "context": "Oslo is the capital.",
    "qas": [
        {
            "id": "1",
            "question": "What is the capital?",
            "answers": [{"text": "Oslo", "answer_start": 0}],
            "is_impossible": False,
        }
    ],
}


@pytest.mark.parametrize(
    ("record", "layout", "asked", "aliases", "choices"),
    [
        ({"id": "M1", "question": "Which is wet?", "choices": OPTIONS, "answerKey": "2"}, "ARC", "Which is wet?",
         ("B", "rain"), ("sand", "rain")),
        ({"id": "M1", "question": STEM, "answerKey": "B"}, "ARC, authors' file", "Which is wet?", ("B", "rain"), ("sand", "rain")),
        ({"id": "7", "question_stem": "Wet is the", "choices": OPTIONS, "answerKey": "2"}, "OpenBookQA", "Wet is the",
         ("B", "rain"), ("sand", "rain")),
        ({"question": "2 + 2?", "A": "3", "B": "4", "C": "5", "D": "6", "answer": "B"}, "options in columns", "2 + 2?",
         ("B", "4"), ("3", "4", "5", "6")),
        ({"article": "Ann ate.", "question": "Who ate?", "options": ["Bea", "Ann"], "answer": "B"}, "lists of options",
         "Who ate?", ("B", "Ann"), ("Bea", "Ann")),
        ({"question": "Who?", "options": {"A": "Bea", "B": "Ann"}, "answer": "Ann", "answer_idx": "B"}, "lists of options",
         "Who?", ("B", "Ann"), ("Bea", "Ann")),
        ({"ind": 4, "activity_label": "Roof", "ctx": "A man sits.", "endings": ["flies", "sings"], "label": "1"}, "HellaSwag",
         "A man sits. … How does it go on?", ("B", "sings"), ("flies", "sings")),
        ({"question": "Is it?", "mc1_targets": {"Yes": 0, "No": 1}, "mc2_targets": {"Yes": 0, "No": 1}}, "TruthfulQA, options",
         "Is it?", ("B", "No"), ("Yes", "No")),
        ({"Answer": {"Value": "Oslo", "Aliases": ["Christiania"]}, "Question": "Where?", "QuestionId": "tc_1", "EntityPages": []},
         "TriviaQA, authors' file", "Where?", ("Oslo", "Christiania"), ()),
        ({"version": "v2.0", "data": [{"title": "Norway", "paragraphs": [PARAGRAPH]}]}, "SQuAD, authors' file",
         "What is the capital?", ("Oslo",), ()),
        ({"url": "u", "question": "where is it", "answers": ["Oslo", "Norway"]}, "lists of answers", "where is it",
         ("Oslo", "Norway"), ()),
        ({"question": "where is it", "answers": {"text": ["Oslo", "Norway"], "answer_start": [0, 9]}}, "lists of answers",
         "where is it", ("Oslo", "Norway"), ()),
        ({"query": "where", "answers": [{"type": "entity", "text": "Oslo"}]}, "lists of answers", "where", ("Oslo",), ()),
        ({"query_id": "q", "passage": "3 dogs.", "question": "How many?", "answers_spans": {"spans": ["3"], "types": ["number"]}},
         "DROP", "How many?", ("3",), ()),
        ({"question": "What?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "d", "support": "d."},
         "SciQ", "What?", ("d",), ()),
        ({"problem": "Half?", "level": "Level 1", "type": "Algebra", "solution": "So $\\boxed{\\frac{1}{2}}$."}, "MATH",
         "Half?", ("\\frac{1}{2}",), ()),
        ({"known_id": 0, "subject": "Oslo", "attribute": "Norway", "template": "{} is in", "prompt": "Oslo is in",
          "relation_id": "P17"}, "Known facts", "Oslo is in", ("Norway",), ()),
        ({"case_id": 3, "requested_rewrite": {"prompt": "{} is in", "subject": "Oslo", "relation_id": "P17",
          "target_true": {"str": "Norway"}, "target_new": {"str": "Peru"}}}, "CounterFact", "Oslo is in", ("Norway",), ()),
        ({"uuid": "u", "obj_label": "Norway", "sub_label": "Oslo", "masked_sentence": "Oslo is in [MASK].", "predicate_id": "P17"},
         "LAMA", "Oslo is in", ("Norway",), ()),
        ({"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Oslo"}]}, "conversations",
         "Where?", ("Oslo",), ()),
        ({"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Where?"},
                            {"from": "gpt", "value": "Oslo"}]}, "conversations", "Where?", ("Oslo",), ()),
    ],
)  # fmt: skip
def test_other_sets_that_people_have(
    tmp_path: Path,
    record: dict[str, Any],
    layout: str,
    asked: str,
    aliases: tuple[str, ...],
    choices: tuple[str, ...],
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(record if "data" in record else [record]))
    rows = read_questions(str(path), {})
    [row] = [*rows.facts, *rows.prompts]
    assert (rows.layout, row.question, row.aliases, row.given.choices) == (layout, asked, aliases, choices)


def test_a_conversation_that_ends_in_a_question_is_left_out_and_told(tmp_path: Path) -> None:
    turns = [{"role": who, "content": "Hi"} for who in ("user", "assistant")]
    path = tmp_path / "rows.jsonl"
    rows = (
        {"messages": turns},
        {"messages": turns + turns[:1]},
        {"messages": turns * 2},
        {"messages": turns[:1]},
    )
    path.write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n, row in enumerate(rows)))
    with pytest.raises(DataError, match=r"line 2: of a conversation the last question.*2 of 4 rows"):
        read_questions(str(path), {})


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [
        ("is_hallucination", True, 1),
        ("hallucination", "no", 0),
        ("is_correct", True, 0),
        ("correct", 0, 1),
        ("is_correct", "False", 1),
    ],
)
def test_a_column_that_judges_a_response_is_its_label(
    tmp_path: Path, column: str, value: object, label: int
) -> None:
    row = {"question": "Where?", "response": "Oslo", "passage": "In Oslo.", column: value}
    [read] = rows_of(tmp_path, row).prompts
    assert (read.given.label, read.given.passage) == (label, "In Oslo.")
    [own] = rows_of(tmp_path, row | {"label": 1 - label}).prompts
    assert own.given.label == 1 - label


def test_segments_of_an_answer_are_spans(tmp_path: Path) -> None:
    record = {"index": "0", "source": "quora", "prompt": "Who?", "response": "Ann did. Bob did.",
              "segmented_response": ["Ann did.", "Bob did."], "labels": [True, False]}  # fmt: skip
    [row] = rows_of(tmp_path, record).prompts
    assert (row.given.label, row.given.spans) == (1, ((0, 8, 0), (9, 17, 1)))


@pytest.mark.parametrize("kind", ["index.csv", "numpy.csv", "utf-16.csv", "lists.tsv"])
@pytest.mark.parametrize("record", [TRIVIA, TRUTHFUL, TRUTHFUL_MC, SQUAD, BOOL, MMLU, SHROOM], ids=len)
def test_tables_that_hold_lists_as_text(tmp_path: Path, record: dict[str, Any], kind: str) -> None:
    """pandas writes an index without a name, and NumPy's arrays as `['a' 'b']`; spreadsheets write UTF-16."""
    table = pd.DataFrame([record, record | {"question": "Another?"}])
    if kind == "numpy.csv":
        table.to_parquet(tmp_path / "table.parquet")
        table = pd.read_parquet(tmp_path / "table.parquet")
    settings: dict[str, Any] = {"utf-16.csv": {"encoding": "utf-16"}, "lists.tsv": {"sep": "\t"}}.get(
        kind, {}
    )
    table.to_csv(tmp_path / kind, index=kind == "index.csv", **settings)

    def read(rows: SourceRows) -> object:
        row = [*rows.facts, *rows.prompts][0]
        given = row.given
        return (
            rows.layout,
            row.question,
            row.aliases,
            given.choices,
            given.passage,
            given.response,
            given.spans,
        )

    assert read(read_questions(str(tmp_path / kind), {})) == read(rows_of(tmp_path, record))


def test_a_claim_of_which_nobody_knows_has_no_answer_and_evidence_in_words_is_read_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "claims.jsonl"
    claims = [("SUPPORTS", "Rome is large."), ("NOT ENOUGH INFO", None)]
    path.write_text(
        "".join(
            json.dumps({"claim": "It is.", "label": label, "evidence": said}) + "\n" for label, said in claims
        )
    )
    rows = read_questions(str(path), {})
    assert ([fact.given.passage for fact in rows.facts], rows.reasons) == (
        ["Rome is large."],
        {"no answer": 1},
    )


def test_sentences_that_go_on_after_their_mask_are_left_out_however_many(tmp_path: Path) -> None:
    path = tmp_path / "lama.jsonl"
    sentences = ["Ada was born in [MASK].", "[MASK] is her home.", "In [MASK] she lived."]
    path.write_text(
        "".join(
            json.dumps({"masked_sentence": one, "obj_label": "London", "sub_label": "Ada"}) + "\n"
            for one in sentences
        )
    )
    rows = read_questions(str(path), {})
    assert ([line.query for line in rows.prompts], rows.reasons) == (
        ["Ada was born in"],
        {"goes on after its mask": 2},
    )


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"obj_label": "Oslo", "sub_label": "Ada", "evidences": [{"masked_sentence": "[MASK] is home."}, {"masked_sentence": "Ada lives in [MASK]."}]},
         ("Ada lives in", "Oslo", "all")),
        ({"relation": "{} lies in", "relation_id": "P17", "prompt": "Oslo lies in", "target_true": " Norway", "target_false": " Peru", "subject": "Oslo"},
         ("Oslo lies in", "Norway", "P17")),
    ],
)  # fmt: skip
def test_sentences_to_go_on_with(
    tmp_path: Path, record: dict[str, Any], prompt: tuple[str, str, str]
) -> None:
    [line] = rows_of(tmp_path, record).prompts
    assert (line.query, line.answer, line.relation) == prompt
