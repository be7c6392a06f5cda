"""Unit `contexts`: every candidate answer read again in every context, shard by shard of the questions.

Where several processes do it together, each takes every so-many-th shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.files import fsync
from ghosttrack.common.formats.answers import GENERATIONS, Answer, read_answers
from ghosttrack.common.formats.contexts import CONTEXTS, Context, contexts_by_question, read_contexts
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.questions import in_chat
from ghosttrack.common.maths.text import normalise
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import encode
from ghosttrack.common.models.steps import Step, shard_name, shards_done
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.hypotheses import Standing, rows_of
from ghosttrack.stages.track.loaded import language_model_of
from ghosttrack.stages.track.outputs import columns_of, gathered
from ghosttrack.stages.track.questions import Batch, even, plan_shards, questions_of, sizes_of
from ghosttrack.stages.track.reread import ContextReader
from ghosttrack.stages.track.run_answers import ends_of


class ContextPrompt(NamedTuple):
    """A question in a context. text: its worked examples; tokens: of all of it."""

    examples: str
    tokens: list[int]


def run(job: Job) -> dict[str, Any]:
    """Read every answer again after other worked examples."""
    questions = questions_of(job)
    answers = read_answers(job.input(GENERATIONS))
    if [question["id"] for question in questions] != [answer.id for answer in answers]:
        raise CorruptInputError(
            f"{job.input(GENERATIONS)} answers other questions than were asked; run track again"
        )
    own = contexts_by_question(read_contexts(job.input(CONTEXTS)), questions)
    settings = job.config.tracking
    shards = plan_shards(
        keys_of(questions, own), even(len(questions), settings.shard_questions), settings.batch_size
    )

    def begin() -> tuple[torch.device, Step]:
        model = language_model_of(job)
        ends = {chat: ends_of(job, model, chat) for chat in {in_chat(question) for question in questions}}
        return model.device, lambda number: _do_shard(
            job, model, ends, questions, answers, own, number, shards[number]
        )

    if not shards_done(job, sizes_of(shards), "contexts", begin):
        return {}
    paths = [job.scratch(f"{shard_name(number)}.{EVIDENCE.name}") for number in range(len(shards))]
    table = gathered(EVIDENCE, paths)
    EVIDENCE.write(job.output(EVIDENCE), table)
    metrics = _metrics(table, answers, own)
    if said := told(metrics):
        job.log.info(said)
    return metrics


def keys_of(
    questions: Sequence[dict[str, Any]], contexts: Sequence[Sequence[Context]]
) -> list[tuple[str, bool]]:
    """What questions must have alike to be read together: all that stands before them, and whether it is a chat.

    Where no other question has the same before it, as where a context is made for one alone, any may be in its batch.
    """
    pairs = zip(questions, contexts, strict=True)
    before = ["\0".join([q["prefix"], *(context.prefix for context in each)]) for q, each in pairs]
    count = Counter(before)
    return [(text if count[text] > 1 else "", in_chat(q)) for text, q in zip(before, questions, strict=True)]


def _do_shard(
    job: Job, model: LanguageModel, ends: dict[bool, Ends], questions: list[dict[str, Any]], answers: list[Answer],
    contexts: list[list[Context]], number: int, batches: list[Batch],
) -> None:  # fmt: skip
    """Write a shard's rows to scratch."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        prompts = [prompts_of(model, questions[line], contexts[line]) for line in batch.numbers]
        standings = read_batch(
            model, ends[batch.prefix[1]], job.config.tracking.max_new_tokens, prompts,
            [answers[line].token_ids for line in batch.numbers],
        )  # fmt: skip
        for line, standing in zip(batch.numbers, standings, strict=True):
            rows += rows_of(line, standing, lambda tokens: model.tokenizer.decode(list(tokens)).strip())
    path = job.scratch(f"{shard_name(number)}.{EVIDENCE.name}")
    EVIDENCE.write(path, columns_of(EVIDENCE, rows))
    fsync(path)


def prompts_of(
    model: LanguageModel, question: dict[str, Any], contexts: Sequence[Context]
) -> list[ContextPrompt]:
    """The question in context 0 and in every other."""
    asked, closing, special = question["query"], question.get("closing", ""), not in_chat(question)
    pairs = [
        (question["prefix"], asked),
        *((c.prefix, asked if c.query is None else c.query) for c in contexts),
    ]
    return [
        ContextPrompt(prefix, encode(model, prefix + query + closing, special=special).tokens)
        for prefix, query in pairs
    ]


def read_batch(
    model: LanguageModel,
    ends: Ends,
    limit: int,
    prompts: Sequence[Sequence[ContextPrompt]],
    own: Sequence[list[int]],
) -> list[Standing]:
    """What every context says of the answers of some questions.

    prompts: by question and context; own: the model's answers, token ids. A context that does not fit the model's window
    with any answer is left out; where that is the prompt that was answered, nothing but its own answer is read.
    """
    most = max(map(len, prompts), default=0)

    def fit(row: int, context: int) -> bool:
        room = len(prompts[row][context].tokens) + max(limit, len(own[row]))
        return not model.longest or room <= model.longest

    standings = [
        Standing(tuple(tokens), [None] * len(mine), [normalise(prompt.examples) for prompt in mine])
        for tokens, mine in zip(own, prompts, strict=True)
    ]
    fits = [
        [
            row for row, mine in enumerate(prompts)
            if context < len(mine) and (not context or (fit(row, 0) and fit(row, context)))
        ]
        for context in range(most)
    ]  # fmt: skip
    read = [(row, context) for context, rows in enumerate(fits) for row in rows]
    texts = [[prompts[row][context].tokens for row in rows] for context, rows in enumerate(fits)]
    reader = ContextReader(model, texts, ends, limit)
    others = {number: own[row] for number, (row, context) in enumerate(read) if context}
    said = reader.greedy(others)
    for number, (row, context) in enumerate(read):
        standings[row].greedy[context] = tuple(said[number]) if context else standings[row].own
    spellings = [standings[row].spellings() for row, _ in read]
    found = reader.score([[list(tokens) for tokens in mine] for mine in spellings])
    for (row, context), mine, scores in zip(read, spellings, found, strict=True):
        for tokens, one in zip(mine, scores, strict=True):
            standings[row].known[context, tokens] = (one.evidence, one.end)
    return standings


def _metrics(
    table: dict[str, np.ndarray], answers: list[Answer], contexts: list[list[Context]]
) -> dict[str, Any]:
    n = len(answers)
    other = (table["hypothesis"] == 0) & (table["context"] > 0)
    read = np.bincount(table["question"][other], minlength=n)
    wanted = np.array([len(each) for each in contexts])
    count = np.zeros(n, dtype=np.int64)
    np.maximum.at(count, table["question"], table["hypothesis"].astype(np.int64) + 1)
    unshown = np.bincount(table["question"][other & ~table["shows"]], minlength=n)
    return {
        "questions": n,
        "contexts": round(float(read.mean()), 3),
        "hypotheses": round(float(count.mean()), 3),
        "agreeing": round(float(table["greedy"][other].mean()), 4) if other.any() else None,
        "left_out": {
            "no_context": int((wanted == 0).sum()),
            "too_long_for_the_model": int((wanted - read).sum()),
        },
        "every_context_shows_the_answer": int(((unshown == 0) & (read > 0)).sum()),
        "every_context_another_answer": int((count == 1 + read).sum() - (read == 0).sum()),
        "empty_answers": sum(not answer.token_ids for answer in answers),
        "kinds": dict(Counter(context.kind for each in contexts for context in each)),
    }


def told(metrics: Mapping[str, Any]) -> str:
    """What was out of the ordinary, counted by reason; empty where nothing was."""
    counts = {
        "questions without another context": metrics["left_out"]["no_context"],
        "contexts that do not fit the model": metrics["left_out"]["too_long_for_the_model"],
        "answers that every context shows": metrics["every_context_shows_the_answer"],
        "questions with another answer in every context": metrics["every_context_another_answer"],
        "empty answers": metrics["empty_answers"],
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
