"""Well-known data sets by the names of their columns: what of each is the question, the answer, the options, the response.

NQ-open and GSM8K need none: `question` and `answer` are our own fields. Each layout makes one row of a data set into rows of our fields (`rows.FIELDS`). The columns are those that the data sets' own
pages list; a data set is known where all columns of a layout are there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ghosttrack.stages.prepare.cells import of_cell
from ghosttrack.stages.prepare.rows import FIELDS, MASK_INSIDE, RowError

TRUTH = dict.fromkeys(("true", "1", "supports", "supported"), True) | dict.fromkeys(
    ("false", "0", "refutes", "refuted"), False
)
"""Labels of claims, in small letters."""
VERDICTS = {"is_hallucination": 1, "hallucination": 1, "hallucinated": 1, "is_correct": 0, "correct": 0}
"""Columns that judge a response: the label where they say yes."""
_YES, _NO = frozenset(("yes", "true", "1")), frozenset(("no", "false", "0"))
TURNS = frozenset(("messages", "conversations"))
"""Columns of conversations."""
Fields = dict[str, Any]
Convert = Callable[[Mapping[str, Any]], Iterable[Fields]]


class FileLayout(NamedTuple):
    """name; columns that must be there; what a row becomes."""

    name: str
    columns: frozenset[str]
    convert: Convert
    bulky: frozenset[str] = frozenset()
    """Columns that repeat a page of text for every row, and are not kept."""


def known(columns: Iterable[str]) -> FileLayout | None:
    """The layout of a data set with these columns; None where it is none of ours, or in our own fields: where all columns that
    tell a data set are fields of ours, it must have no other of those."""
    have = set(columns)
    if "relation" in have and have & {"answer", "response"}:
        return None
    ours = have & set(FIELDS) - {"label"}  # which SuperGLUE has beside the answer
    if have & {"question", "prompt"} and have & {"answer", "response"}:
        have -= TURNS  # the same once more
    return next((each for each in LAYOUTS if each.columns <= have and not each.columns < ours), None)


def _of(columns: str, **written: str) -> Convert:
    """Fields that columns have as they are: `ours=theirs`, or `ours` for a column of that name; `a.b` is nested in `a`, and may
    be absent, as may what ends in `?`. written: fields made of columns in braces."""
    pairs = [each.partition("=")[::2] for each in columns.split()]
    places = {ours: theirs or ours for ours, theirs in pairs}

    def convert(row: Mapping[str, Any]) -> Iterable[Fields]:
        found = {}
        for ours, column in places.items():
            optional = column.endswith("?") or "." in column
            found[ours] = nested(row, column.strip("?")) if optional else row[column]
        yield {**found, **{ours: text.format_map(row) for ours, text in written.items()}}

    return convert


def _yes(convert: Convert) -> Convert:
    """The same with a label that is written as yes (wrong) or no, FAIL or PASS."""
    words = {"yes": 1, "no": 0, "fail": 1, "pass": 0}
    return lambda row: (
        {**found, "label": words.get(str(found["label"]).strip().lower(), found["label"])}
        for found in convert(row)
    )


def verdict(row: Mapping[str, Any]) -> int | None:
    """The label of a response by a column that says whether it is wrong, or right; None where there is none."""
    column = next(filter(row.__contains__, VERDICTS), "")
    said = str(row.get(column)).strip().lower().removesuffix(".0")
    return VERDICTS[column] ^ (said in _NO) if said in _YES | _NO else None


def _both(right: str, wrong: str, convert: Convert) -> Convert:
    """Two questions a row: with a right and with a wrong response."""
    return lambda row: (
        {**found, "response": row[column], "label": label}
        for column, label in ((right, 0), (wrong, 1))
        for found in convert(row)
    )


def nested(record: Mapping[str, Any], column: str) -> Any:
    """What stands in a column, `a.b` for one inside of another, `a.0` and `a.-1` for the first and the last of a list; None where it is not there."""
    value: Any = record
    # of a table, `answer.value` may be the name
    for part in [column] if column in record else column.split("."):
        if isinstance(value, list):
            value = {str(place): one for start in (0, -len(value)) for place, one in enumerate(value, start)}
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _pop_qa(row: Mapping[str, Any]) -> Iterable[Fields]:
    yield {"id": row.get("id"), "question": row["question"], "answer": row["obj"], "relation": row["prop"],
           "subject": row["subj"], "aliases": _as_list(row["possible_answers"])}  # fmt: skip


def _simple_qa(row: Mapping[str, Any]) -> Iterable[Fields]:
    about = of_cell("metadata", row["metadata"])
    topic = about.get("topic") if isinstance(about, Mapping) else None
    yield {"question": row["problem"], "answer": row["answer"], "relation": topic}


def _truthful_csv(row: Mapping[str, Any]) -> Iterable[Fields]:
    """TruthfulQA as its authors publish it: right answers in one cell."""
    others = [answer.strip() for answer in row["Correct Answers"].split(";")]
    yield {
        "question": row["Question"],
        "answer": row["Best Answer"],
        "aliases": others,
        "relation": row["Category"],
    }


def _truthful_choice(row: Mapping[str, Any]) -> Iterable[Fields]:
    options = row["mc1_targets"]
    choices, labels = options.get("choices"), options.get("labels")
    if choices is None:  # the authors' own: the option to its label
        choices, labels = list(options), list(options.values())
    yield {
        "question": row["question"],
        "choices": list(choices),
        "answer": list(labels).index(1),
        "relation": "truthful_qa",
    }


_squad = _of(
    "id question passage=context subject=title answer=answers.text.0 aliases=answers.text", relation="squad"
)


def _squad_own(row: Mapping[str, Any]) -> Iterable[Fields]:
    """An article as SQuAD's authors publish it."""
    for paragraph in row["paragraphs"]:
        for asked in paragraph["qas"]:
            yield from _squad({**asked, "title": row.get("title"), "context": paragraph["context"],
                               "answers": {"text": [answer["text"] for answer in asked["answers"]]}})  # fmt: skip


def _answers(row: Mapping[str, Any]) -> Iterable[Fields]:
    """Questions with a list of right answers, texts or objects with a text (WebQuestions, EntityQuestions, MKQA)."""
    found = _as_list(row["answers"])
    if isinstance(found, Mapping):  # as SQuAD has them
        found = _as_list(found.get("text"))
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in found or []]
    named = {
        name: row[name]
        for name in ("id", "subject", "passage", "choices", "response", "label")
        if name in row
    }
    yield {
        "question": row.get("question") or row.get("query"),
        "answer": texts[0] if texts else None,
        "aliases": texts,
        **named,
    }


def _options(row: Mapping[str, Any]) -> Iterable[Fields]:
    """ARC, CommonsenseQA and OpenBookQA: options with their own labels, here beside the question or inside of it."""
    asked = row.get("question", row.get("question_stem"))
    options: Any = row.get("choices")
    if isinstance(asked, Mapping):
        asked, options = asked["stem"], asked["choices"]
    if not isinstance(options, Mapping):
        options = {name: [one[name] for one in options] for name in ("text", "label")}
    key = row["answerKey"]
    place = list(options["label"]).index(key) if key else None
    yield {"id": row.get("id"), "question": asked, "choices": list(options["text"]), "answer": place}


def _lettered(row: Mapping[str, Any]) -> Iterable[Fields]:
    """Options in columns A, B, C and perhaps D and E."""
    choices = [row[letter] for letter in "ABCDE" if row.get(letter) not in (None, "")]
    yield {"id": row.get("id"), "question": row.get("question", row.get("input")), "choices": choices,
           "answer": row.get("answer", row.get("target")), "relation": row.get("subject")}  # fmt: skip


def _listed(row: Mapping[str, Any]) -> Iterable[Fields]:
    """RACE, MedQA, MMLU-Pro: options as a list, or as an object from letter to text."""
    options = row["options"]
    yield {"id": row.get("id"), "question": row["question"], "passage": row.get("article"), "answer": row["answer"],
           "relation": row.get("category"),
           "choices": list(options.values() if isinstance(options, Mapping) else options)}  # fmt: skip


def _math(row: Mapping[str, Any]) -> Iterable[Fields]:
    """What stands in the last `\\boxed{}` of the solution is the answer."""
    end = begin = row["solution"].rindex("\\boxed{") + len("\\boxed{")
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(row["solution"][end], 0)
        end += 1
    yield {"question": row["problem"], "answer": row["solution"][begin : end - 1], "relation": row["type"]}


def _counterfact(row: Mapping[str, Any]) -> Iterable[Fields]:
    asked = row["requested_rewrite"]
    yield {"id": row["case_id"], "prompt": asked["prompt"].replace("{}", asked["subject"]), "subject": asked["subject"],
           "answer": asked["target_true"]["str"], "relation": asked.get("relation_id")}  # fmt: skip


def _lama(row: Mapping[str, Any]) -> Iterable[Fields]:
    """A sentence whose last word is masked, in the authors' file the first such; one that goes on behind the mask is not told by
    a model that reads forwards."""
    sentences = [one["masked_sentence"] for one in row.get("evidences", [row])]
    parts = (str(sentence).partition("[MASK]") for sentence in sentences)
    before = next((before for before, mask, after in parts if mask and not after.strip(" .")), None)
    if before is None:
        raise RowError(MASK_INSIDE, "its sentence goes on after [MASK]")
    yield {"id": row.get("uuid"), "prompt": before.rstrip(), "answer": row["obj_label"], "subject": row["sub_label"],
           "relation": row.get("predicate_id")}  # fmt: skip


def _turns(row: Mapping[str, Any]) -> Iterable[Fields]:
    """The last question of a conversation and its answer; what was said before, and what a system is told, is its passage. With a
    right answer beside it what was answered is a response."""
    turns = next(_as_list(row[column]) for column in sorted(TURNS) if row.get(column))
    said = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in turns]
    told = [said.pop(0)[1]] if said and said[0][0] == "system" else []
    if [who for who, _ in said[-2:]] not in (["user", "assistant"], ["human", "gpt"]):
        raise RowError(
            "not readable",
            "of a conversation the last question and its answer are read, and this ends in another turn; write it as prompt and answer",
        )
    if not all(isinstance(text, str) for _, text in said):
        raise RowError("not readable", "a turn of the conversation is no text; write it as prompt and answer")
    *before, (asks, question), (_, answer) = said
    told += [f"{'User' if who == asks else 'Assistant'}: {text}" for who, text in before]
    right = {"answer": row["answer"], "response": answer} if row.get("answer") else {"answer": answer}
    yield {"id": row.get("id"), "passage": "\n".join(told) or None, "question": question, **right}


def _claim(row: Mapping[str, Any]) -> Iterable[Fields]:
    """A claim that is true or false; one of which nobody knows has no answer."""
    evidence = row.get("evidence")
    yield {"id": row.get("id"), "question": f"Is this true? {row.get('claim', row.get('statement'))}", "relation": "claims",
           "passage": evidence if isinstance(evidence, str) else None,
           "answer": TRUTH.get(str(row["label"]).strip().lower())}  # fmt: skip


def _felm(row: Mapping[str, Any]) -> Iterable[Fields]:
    """Answers in segments, each true or false."""
    spans, at = [], 0
    for segment, true in zip(row["segmented_response"], row["labels"], strict=True):
        start = row["response"].index(segment.strip(), at)
        at = start + len(segment.strip())
        spans.append([start, at, int(not true)])
    yield {"id": row["index"], "question": row["prompt"], "response": row["response"], "spans": spans,
           "label": int(not all(row["labels"])), "relation": row["source"]}  # fmt: skip


def _super_glue(row: Mapping[str, Any]) -> Iterable[Fields]:
    """BoolQ as a part of SuperGLUE has it; its tests have the label -1."""
    truth = {"0": False, "false": False, "1": True, "true": True}
    yield from _bool_q({**row, "answer": truth.get(str(row["label"]).lower())})


def _bool_q(row: Mapping[str, Any]) -> Iterable[Fields]:
    answer = {"true": True, "false": False}.get(str(row["answer"]).lower())
    if answer is None:  # questions of somebody's own about passages
        yield {name: row.get(name) for name in FIELDS}
        return
    question = str(row["question"] or "").strip()
    asked = question and f"{question[0].upper()}{question[1:].rstrip('?')}?"
    yield {
        "question": asked,
        "passage": row["passage"],
        "answer": answer,
        "relation": "boolq",
        "subject": question,
    }


def _ragtruth(row: Mapping[str, Any]) -> Iterable[Fields]:
    """RAGTruth as the hub has it, a row a response with its prompt's parts."""
    spans = _spans(row["hallucination_labels"])
    yield {"id": row["id"], "question": row["query"], "passage": row["context"], "response": row["output"], "spans": spans,
           "label": int(bool(spans)), "relation": row["task_type"]}  # fmt: skip


def _ragtruth_own(row: Mapping[str, Any]) -> Iterable[Fields]:
    """RAGTruth as its authors publish it: response.jsonl, joined with the prompts of source_info.jsonl."""
    spans = _spans(row["labels"])
    if not row.get("prompt"):
        raise ValueError("its prompt is in source_info.jsonl, which must lie beside it")
    yield {"id": row["id"], "prompt": row["prompt"], "response": row["response"], "spans": spans,
           "label": int(bool(spans)), "relation": row.get("task_type")}  # fmt: skip


def _mu_shroom(row: Mapping[str, Any]) -> Iterable[Fields]:
    hard, soft = row.get("hard_labels"), row.get("soft_labels")
    if hard is None and soft is not None:  # by most of its annotators
        hard = [(label["start"], label["end"]) for label in soft if label["prob"] > 0.5]
    spans = None if hard is None else _joined(hard)
    yield {"id": row["id"], "question": row["model_input"], "response": row["model_output_text"], "spans": spans,
           "label": None if spans is None else int(bool(spans)), "relation": row.get("lang")}  # fmt: skip


def _spans(value: Any) -> list[list[int]]:
    labels = _as_list(value) if value else []
    return _joined([(label["start"], label["end"]) for label in labels])


def _joined(spans: Iterable[Sequence[int]]) -> list[list[int]]:
    """Wrong spans in order; those that overlap, as annotators' do, are one."""
    joined: list[list[int]] = []
    for start, end in sorted(map(tuple, spans)):
        if joined and start < joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end, 1])
    return joined


def _as_list(value: Any) -> Any:
    found = of_cell("", value)
    return [found] if isinstance(found, str) else found


def _layout(name: str, columns: str, convert: Convert, bulky: str = "") -> FileLayout:
    return FileLayout(name, frozenset(columns.split()), convert, frozenset(bulky.split()))


_MMLU = _of("question choices answer relation=subject subject=question")
DIALOGUE, SUMMARY = "{knowledge}\n{dialogue_history}\n[Assistant]:", "{document}\nSummary:"
LAYOUTS = [
    _layout("TriviaQA, authors' file", "Answer Question QuestionId",
            _of("id=QuestionId question=Question answer=Answer.Value aliases=Answer.Aliases"), "EntityPages SearchResults"),
    _layout("SQuAD, authors' file", "paragraphs title", _squad_own, "paragraphs"),
    _layout("ARC", "question choices answerKey", _options),
    _layout("ARC, authors' file", "question answerKey", _options),
    _layout("OpenBookQA", "question_stem choices answerKey", _options),
    _layout("options in columns", "question A B C answer", _lettered),
    _layout("options in columns", "input A B C target", _lettered),
    _layout("lists of options", "question options answer", _listed),
    _layout("HellaSwag", "activity_label ctx endings label",
            _of("choices=endings answer=label subject=activity_label", question="{ctx} … How does it go on?", relation="hellaswag")),
    _layout("SciQ", "question correct_answer distractor1 support",
            _of("question passage=support answer=correct_answer", relation="sciq")),
    _layout("MATH", "problem level type solution", _math),
    _layout("MATH-500", "problem solution answer subject level", _of("id=unique_id? question=problem answer relation=subject")),
    _layout("DROP", "passage question answers_spans",
            _of("id=query_id? question passage answer=answers_spans.spans.0 aliases=answers_spans.spans", relation="drop")),
    _layout("Known facts", "subject attribute prompt template",  # of ROME's causal tracing: unfinished sentences
            _of("id=known_id? prompt answer=attribute subject relation=relation_id?")),
    _layout("CounterFact", "case_id requested_rewrite", _counterfact,
            "paraphrase_prompts neighborhood_prompts attribute_prompts generation_prompts"),
    _layout("CounterFact, prompts", "prompt target_true subject relation_id", _of("prompt answer=target_true subject relation=relation_id")),
    _layout("LAMA", "masked_sentence obj_label sub_label", _lama),
    _layout("LAMA, authors' file", "evidences obj_label sub_label", _lama, "evidences"),
    _layout("FELM", "index source prompt response segmented_response labels", _felm),
    _layout("TriviaQA", "question question_id question_source entity_pages answer",
            _of("id=question_id question answer=answer.value aliases=answer.aliases"), "entity_pages search_results"),
    _layout("PopQA", "subj prop obj question possible_answers", _pop_qa),
    _layout("SimpleQA", "metadata problem answer", _simple_qa),
    _layout("SimpleQA Verified", "original_index problem answer topic", _of("question=problem answer relation=topic")),
    FileLayout("TruthfulQA, authors' file", frozenset({"Question", "Best Answer", "Correct Answers", "Category"}), _truthful_csv),
    _layout("TruthfulQA", "category question best_answer correct_answers incorrect_answers",
            _of("question answer=best_answer aliases=correct_answers relation=category")),
    _layout("TruthfulQA, options", "question mc1_targets mc2_targets", _truthful_choice),
    _layout("SQuAD", "id title context question answers", _squad),
    _layout("HaluBench", "passage question answer label source_ds",
            _yes(_of("id? question passage response=answer label relation=source_ds"))),
    _layout("BoolQ", "question answer passage", _bool_q),
    _layout("BoolQ, SuperGLUE", "question passage idx label", _super_glue),
    _layout("MMLU", "question subject choices answer", _MMLU),
    _layout("MMLU, training rows", "train", lambda row: _MMLU(row["train"])),
    _layout("HaluEval, QA", "knowledge question right_answer hallucinated_answer",
            _both("right_answer", "hallucinated_answer",
                  _of("question passage=knowledge answer=right_answer", relation="halueval_qa"))),
    _layout("HaluEval, QA samples", "knowledge question answer hallucination",
            _yes(_of("question passage=knowledge response=answer label=hallucination", relation="halueval_qa"))),
    _layout("HaluEval, dialogue", "knowledge dialogue_history right_response hallucinated_response",
            _both("right_response", "hallucinated_response", _of("", prompt=DIALOGUE, relation="halueval_dialogue"))),
    _layout("HaluEval, dialogue samples", "knowledge dialogue_history response hallucination",
            _yes(_of("response label=hallucination", prompt=DIALOGUE, relation="halueval_dialogue"))),
    _layout("HaluEval, summary samples", "document summary hallucination",
            _yes(_of("response=summary label=hallucination", prompt=SUMMARY, relation="halueval_summary"))),
    _layout("HaluEval, summaries", "document right_summary hallucinated_summary",
            _both("right_summary", "hallucinated_summary", _of("", prompt=SUMMARY, relation="halueval_summary"))),
    _layout("HaluEval, general", "user_query chatgpt_response hallucination",
            _yes(_of("id=ID? question=user_query response=chatgpt_response label=hallucination", relation="halueval_general"))),
    _layout("RAGTruth", "id query context output task_type hallucination_labels", _ragtruth, "input_str"),
    _layout("RAGTruth, authors' files", "id source_id model labels response", _ragtruth_own, "source_info source"),
    _layout("Mu-SHROOM", "model_input model_output_text", _mu_shroom, "soft_labels model_output_tokens model_output_logits"),
    *(_layout("conversations", column, _turns, column) for column in sorted(TURNS)),
    _layout("claims", "claim label", _claim),
    _layout("claims", "statement label", _claim),
    _layout("lists of answers", "question answers", _answers),
    _layout("lists of answers", "query answers", _answers),
]  # fmt: skip
