"""`questions.jsonl` and `asked.jsonl`: what the model is asked; `left_out.jsonl`: what it is not."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ghosttrack.common.formats.file import File, Lines

AnyFile = TypeVar("AnyFile", bound=File)
QUESTIONS = Lines(
    "questions.jsonl",
    "prepare/questions",
    "a question a line: `id, relation, subject, prefix` (few-shot text, shared by a relation), `query` (cloze), `closing` (only of a "
    "turn of a chat: what the template writes between the question and the model's answer), `answer, "
    "aliases` (list, answer included), `question` (what is asked, in plain words, with passage and options), `shots` (the "
    "worked examples behind the prefix: question or cloze, and completion); where its file gives them `row` (in the file, from "
    "1), `passage`, `choices`, `response` (an answer to read instead of one that the model gives), `label`, `spans` ([start, "
    "end, label] in characters of the response), `facts` (of a profile: relation to all right answers, by which its claims are "
    "labelled), `extra` (its other columns); prompt = prefix + query + closing",
)
LEFT_OUT = Lines(
    "left_out.jsonl",
    "prepare/questions",
    "a row of the questions' file that is not asked a line: `row, id, reason, why`",
)
ASKED_LEFT_OUT = Lines("asked_left_out.jsonl", "prepare/asked", "the same of the file of new questions")
ASKED = Lines("asked.jsonl", "prepare/asked", "new questions, in the same form as questions.jsonl")
QUESTION_MARKS = ("?", "？", "؟", "՞", ";", "፧")
"""Ends of questions, in the scripts that have their own; any other text is one to go on from."""
OF_NEW = {"track/answers": "track/asked_answers", "track/all": "track/asked", "track/contexts": "track/asked_contexts",
          "prepare/contexts": "prepare/asked_contexts", "track/account": "track/asked_account"}  # fmt: skip
"""The units of new questions that have the files of a run's own."""
NEW = "new:"
"""Begins the id of a new question wherever it stands beside the run's own, so that one of the same id is not taken for it."""


def prompt_of(question: Mapping[str, Any]) -> str:
    """The whole text that a question is asked with."""
    return str(question["prefix"] + question["query"] + question.get("closing", ""))


def of_new(file: AnyFile) -> AnyFile:
    """The file of new questions that is of the form of a run's own."""
    return replace(file, unit=OF_NEW.get(file.unit, file.unit))


def in_chat(question: Mapping[str, Any]) -> bool:
    """Whether a question is a turn of a chat, whose template writes the special tokens into the text."""
    return "closing" in question


def worked_examples(questions: Iterable[Mapping[str, Any]]) -> int:
    """How many facts stand before these questions as worked examples; they are not asked."""
    return len(
        {(question["relation"], *shot) for question in questions for shot in question.get("shots", ())}
    )
