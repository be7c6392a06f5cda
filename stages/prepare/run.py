"""Phase 0: the model as a folder, the questions as JSON lines, the corpus as packed tokens."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.fingerprint import (
    FACTBOOK,
    FACTBOOK_PROFILES,
    FACTBOOK_QUESTIONS,
    HUB_PREFIX,
    WORDS,
)
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import ConfigError, ModelMismatchError, first_of
from ghosttrack.common.files import as_path
from ghosttrack.common.formats.contexts import (
    CONTEXTS,
    Context,
    contexts_by_question,
    read_contexts,
    write_contexts,
)
from ghosttrack.common.formats.corpus import CORPUS
from ghosttrack.common.formats.questions import ASKED, ASKED_LEFT_OUT, LEFT_OUT, QUESTIONS, in_chat, prompt_of
from ghosttrack.common.formats.snapshot import CONFIG
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.prompts import around
from ghosttrack.stages.prepare import bos, contexts, factbook, lengths, miniature, packing, snapshot, sources
from ghosttrack.stages.prepare.chat import Chat, chat_of, dated, default_template, put
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.profiles import profiles
from ghosttrack.stages.prepare.prompts import (
    QuestionLine,
    ask,
    asked_for,
    even_quota,
    shot_of,
    with_unique_ids,
)
from ghosttrack.stages.prepare.rows import DEFAULT_RELATION
from ghosttrack.stages.prepare.tokenizer import without_beyond


def run(job: Job) -> dict[str, Any]:
    """Do one unit: `model`, `judge`, `questions`, `contexts`, `asked`, `asked_contexts` or `corpus`; returns its metrics."""
    units = {
        "model": prepare_model,
        "judge": prepare_judge,
        "questions": prepare_questions,
        "contexts": prepare_contexts,
        "asked": prepare_asked,
        "asked_contexts": prepare_asked_contexts,
        "corpus": prepare_corpus,
    }
    return units[job.unit](job)


def prepare_model(job: Job) -> dict[str, Any]:
    """Write the snapshot folder. Raises ModelSourceError and ModelMismatchError."""
    settings = job.config.model
    model, tokenizer, beyond = _load(job, settings.base_model, settings.revision)
    if beyond:
        job.log.info(
            f"the tokenizer's added tokens beyond the model's embeddings are left out: {first_of(beyond)}"
        )
    if template := default_template(tokenizer.chat_template):
        tokenizer.chat_template = dated(template)
    snapshot.check(model, tokenizer, settings.base_model, settings.d_model, settings.n_layers)
    tokenizer, beginning = bos.decide(model, tokenizer, settings.bos)
    if beginning["bos"] != beginning["tokenizer_adds_bos"]:
        job.log.warning(
            f"texts begin {'with' if beginning['bos'] else 'without'} a BOS token, against the tokenizer: the loss on prose is "
            f"{beginning['loss_with_bos']} nats a token with it and {beginning['loss_without_bos']} without (model.bos = {settings.bos})"
        )
    if beginning["closed"] != beginning["tokenizer_closes"]:
        job.log.warning(
            "prompts are left open, against the tokenizer, which closes every text: the loss on what follows is "
            f"{beginning['loss_closed']} nats a token behind its closing tokens and {beginning['loss_open']} without them"
        )
    if others := snapshot.not_applied(model):
        job.log.warning(
            f"answers are the model's likeliest tokens: {first_of(others)} of its generation_config.json is not applied"
        )
    snapshot.save(model, tokenizer, job.output(CONFIG).parent)
    config: Any = model.config
    if commit := getattr(config, "_commit_hash", None):
        job.internal["modelCommit"] = commit
    return {
        "model_type": config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        **beginning,
    }


def _load(job: Job, source: str, revision: str | None) -> tuple[Any, Any, list[str]]:
    """Model, tokenizer, and what of the tokenizer is left out: tokens beyond the model's embeddings."""
    small = source == miniature.NAME
    model, tokenizer = miniature.build(job.config.seed) if small else snapshot.load_source(source, revision)
    embedding: Any = model.get_input_embeddings()
    return model, *without_beyond(tokenizer, embedding.weight.shape[0])


def prepare_judge(job: Job) -> dict[str, Any]:
    """Write the snapshot folder of the model that judges. Raises ModelSourceError."""
    model, tokenizer, _ = _load(job, str(job.config.data.judge), None)
    snapshot.save(model, tokenizer, job.output(CONFIG).parent)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def prepare_questions(job: Job) -> dict[str, Any]:
    """Write `questions.jsonl`. Raises DataError."""
    questions, spare, rows = questions_of(job.config)
    rows = rows or sources.SourceRows(job.config.data.questions)
    reader = lengths.reader_of(job.input_dir("prepare/model"))
    chat = chat_of(reader.tokenizer, job.config.model)
    questions = put(chat, questions, job.config.model)
    if chat and any(question.chat for question in questions) and not chat.opens:
        job.log.warning(
            "the chat template writes nothing that an answer begins with, so that the model has to open its turn itself; a template "
            "with a generation prompt can be named with model.chat"
        )
    questions, cannot, _ = lengths.sorted_out(reader, questions, job.config.tracking.max_new_tokens)
    rows.left_out += cannot
    QUESTIONS.write(job.output(QUESTIONS), [question.record() for question in questions])
    LEFT_OUT.write(job.output(LEFT_OUT), rows.left_out)
    for warning in told(rows):
        job.log.warning(warning)
    counts = Counter(question.relation for question in questions)
    turns = sum(question.chat for question in questions)
    job.log.info(
        f"{counted(len(questions), 'question')} over {counted(len(counts), 'relation')}" + (f", {turns} as turns of a chat" if turns else "")
    )  # fmt: skip
    return {
        "questions": len(questions),
        "in_chat": turns,
        "facts": len(spare.facts) + len(spare.prompts),
        "relations": dict(sorted(counts.items())),
        "layout": rows.layout,
        "left_out": rows.reasons,
        "united": rows.united,
        "worked_examples": len(set_aside(rows, questions)),
    }


NAMED = 5
"""Rows of a reason that are named, at most; all of them stand in left_out.jsonl."""


def told(rows: sources.SourceRows) -> list[str]:
    """What a reader of the file's rows should know, a sentence each."""
    sentences = []
    if rows.guessed:
        named = ", ".join(f"{ours} is {column!r}" for ours, column in rows.guessed.items())
        sentences.append(
            f"{rows.where}: by names and what stands in the columns, {named}; data.columns can say otherwise"
        )
    for reason, count in rows.reasons.items():
        own = [row for row in rows.left_out if row["reason"] == reason]
        listed = ", ".join(str(row["row"]) for row in own[:NAMED]) + (", …" if count > NAMED else "")
        which = f" (rows {listed})" if count > 1 else ""
        sentences.append(
            f"{rows.where}: {counted(count, 'row')} left out, {reason}{which}; the first is row {own[0]['row']}: {own[0]['why']}"
        )
    if odd := [row for row in rows.prompts if row.given.disagrees]:
        sentences.append(
            f"{rows.where}: {counted(len(odd), 'row')} with a label of the answer that its marked parts do not bear out, row "
            f"{odd[0].given.row} the first; the label counts for the answer, the parts for its tokens"
        )
    given = [*(prompt.given for prompt in rows.prompts), *(fact.given for fact in rows.facts)]
    if 0 < (read := sum(one.response is not None for one in given)) < len(given):
        sentences.append(
            f"{rows.where}: {counted(len(given) - read, 'row')} without a response; the model answers there"
        )
    if unread := [one for one in given if one.label is not None and one.response is None]:
        sentences.append(
            f"{rows.where}: {counted(len(unread), 'row')} with a label and no response, row {unread[0].row} the first; the model gives its own answer there, "
            "which the label judges only with data.matching: label. Where the label is of what the file calls 'answer', name that column as 'response'"
        )
    marked = [wrong for one in given for _, _, wrong in one.spans or ()]
    if right := marked.count(0):
        sentences.append(
            f"{rows.where}: {counted(right, 'part')} of {len(marked)} marked as right, so that tokens in no part count as neither right "
            "nor wrong; without parts that are right they would count as right"
        )
    if repeated := rows.repeated_ids:
        sentences.append(
            f"{rows.where}: {len(repeated)} {'id stands' if len(repeated) == 1 else 'ids stand'} in several rows, {repeated[0]!r} the "
            "first; a digest of its text is put behind the id of each, so give them ids of their own to join results by id"
        )
    if rows.united:
        sentences.append(
            f"{rows.where}: in {counted(rows.united, 'row')} is asked what another row asks, with another answer; both are kept, and either "
            "answer counts as right"
        )
    return sentences


def counted(number: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def set_aside(rows: sources.SourceRows, questions: Sequence[QuestionLine]) -> list[Fact]:
    """The facts that are worked examples of these questions."""
    shown = {(q.relation, shot) for q in questions for shot in q.shots}
    return [fact for fact in rows.facts if (fact.relation, shot_of(fact)) in shown]


def prepare_contexts(job: Job) -> dict[str, Any]:
    """Write `contexts.jsonl`: other worked examples for the questions. Raises DataError."""
    questions = _read_questions(job.input(QUESTIONS))
    _, spare, _ = questions_of(job.config)
    settings, chat = job.config, _chat(job, questions)
    count, shots = settings.tracking.contexts, settings.data.shots
    found = contexts.contexts_of(questions, spare, count, shots, settings.seed, chat)
    return _write_contexts(job, found, questions)


def prepare_asked_contexts(job: Job) -> dict[str, Any]:
    """The same for new questions, by the same rule."""
    questions = _read_questions(job.input(ASKED))
    known = read_contexts(job.input(CONTEXTS))
    found = contexts.contexts_of_asked(questions, known, job.config.tracking.contexts, _chat(job, questions))
    return _write_contexts(job, found, questions)


def _chat(job: Job, questions: Sequence[QuestionLine]) -> Chat | None:
    """The chat that some of these questions are turns of."""
    if not any(question.chat for question in questions):
        return None
    return chat_of(_reader(job).tokenizer, job.config.model)


def _reader(job: Job) -> lengths.TokenReader:
    return job.kept("reader", lambda: lengths.reader_of(job.input_dir("prepare/model")))


def _write_contexts(job: Job, found: Sequence[Context], questions: Sequence[QuestionLine]) -> dict[str, Any]:
    write_contexts(job.output(CONTEXTS), found)
    own = contexts_by_question(found, [question.record() for question in questions])
    fewer = sum(len(each) < job.config.tracking.contexts for each in own)
    if fewer:
        job.log.warning(
            f"{fewer} questions have fewer than tracking.contexts = {job.config.tracking.contexts}"
        )
    return {"contexts": len(found), "kinds": contexts.kinds(found), "questions_with_fewer": fewer}


def prepare_asked(job: Job) -> dict[str, Any]:
    """Write `asked.jsonl`, new questions in the form of `questions.jsonl`. Raises DataError."""
    asked_before = _read_questions(job.input(QUESTIONS))
    examples = {question.relation: question.prefix for question in asked_before if not question.chat}
    shots = {question.relation: question.shots for question in asked_before if question.chat}
    path = as_path(str(job.config.data.asked))
    questions, left_out, guessed = sources.read_asked(path, examples, shots, job.config.data.columns)
    reader = _reader(job)
    if shots and (chat := chat_of(reader.tokenizer, job.config.model)):
        questions = [chat.put(question) if question.asks else question for question in questions]
    questions, cannot, _ = lengths.sorted_out(reader, questions, job.config.tracking.max_new_tokens)
    left_out = sorted([*left_out, *cannot], key=lambda row: row["row"])
    QUESTIONS.write(job.output(ASKED), [question.record() for question in questions])
    LEFT_OUT.write(job.output(ASKED_LEFT_OUT), left_out)
    for row in left_out:
        job.log.warning(f"{job.config.data.asked} line {row['row']} is not asked: {row['why']}")
    return {
        "questions": len(questions),
        "left_out": len(left_out),
        "with_examples": sum(bool(q.shots if q.chat else q.prefix) for q in questions),
        "columns": guessed,
    }


def _read_questions(path: Path) -> list[QuestionLine]:
    """Without what their rows gave."""
    return TypeAdapter(list[QuestionLine]).validate_python(QUESTIONS.read(path))


def questions_of(config: Config) -> tuple[list[QuestionLine], contexts.Spare, sources.SourceRows | None]:
    """The questions that a configuration asks, all facts and prompts that they were chosen from, and the rows of a file or data set.

    The miniature model is asked about the small world that it half knows, and writes no profiles.
    """
    data = config.data
    if data.questions in WORDS["data.questions"]:
        small = config.model.base_model == miniature.NAME
        of_factbook = profiles if data.questions == FACTBOOK_PROFILES else factbook.facts
        facts: Sequence[Fact] = miniature.world(config.seed) if small else of_factbook()
        if data.questions == FACTBOOK_QUESTIONS:
            facts = [asked_for(fact) for fact in facts]
        relations = None if small else data.relations
        questions = ask(
            facts, shots=data.shots, seed=config.seed, most=data.max_questions, relations=relations
        )
        return questions, contexts.Spare(facts, []), None
    rows = sources.read_questions(data.questions, data.columns, data.questions_config, data.questions_split)
    return _ask_rows(rows, config), contexts.Spare(rows.facts, rows.prompts), rows


def _ask_rows(rows: sources.SourceRows, config: Config) -> list[QuestionLine]:
    """Questions of a file or dataset; `max_questions` is shared between the two forms by their numbers."""
    data = config.data
    prompts, facts = rows.prompts, rows.facts
    if data.relations is not None:
        known = {prompt.relation for prompt in prompts} | {fact.relation for fact in facts}
        if unknown := sorted(set(data.relations) - known):
            raise ConfigError(
                f"data.relations names {unknown[0]!r}, which the questions do not have; they have "
                f"{', '.join(sorted(known))}"
                + (
                    f" (rows that name no relation are {DEFAULT_RELATION!r})"
                    if DEFAULT_RELATION in known
                    else ""
                )
            )
        prompts = [prompt for prompt in prompts if prompt.relation in data.relations]
        facts = [fact for fact in facts if fact.relation in data.relations]
    most = even_quota({"facts": len(facts), "prompts": len(prompts)}, data.max_questions)
    order = generator(config.seed, "prompts to ask").permutation(len(prompts))[: most["prompts"]]
    questions = [prompts[index] for index in sorted(order)]
    if facts:
        questions += ask(
            facts,
            shots=data.shots,
            seed=config.seed,
            most=None if data.max_questions is None else most["facts"],
            short_relations_without_shots=True,
        )
    return with_unique_ids(sorted(questions, key=lambda q: (q.relation, q.id, q.query)))


def prepare_corpus(job: Job) -> dict[str, Any]:
    """Write `corpus.pt`. Raises DataError, ModelMismatchError."""
    data, length = job.config.data, job.config.extract.max_length
    folder = job.input_dir("prepare/model")
    tokenize = _tokenizer(folder, length)
    tokenize_chat = _tokenizer(folder, length, special=False)
    asked = QUESTIONS.read(job.input(QUESTIONS))
    prompts = [prompt_of(record) for record in asked]
    chat = {prompt_of(record) for record in asked if in_chat(record)}
    begins, _ = around(lengths.reader_of(folder).tokenizer)
    texts = corpus_texts(job.config)
    with job.progress(data.max_tokens, "tok", "corpus") as progress:

        def tokenize_and_count(batch: list[str]) -> list[list[int]]:
            tokens = tokenize(batch)
            for number in [number for number, text in enumerate(batch) if text in chat]:
                [tokens[number]] = tokenize_chat([batch[number]])
            progress.update(sum(map(len, tokens)))
            return tokens

        corpus = packing.build(
            texts,
            prompts,
            tokenize_and_count,
            max_tokens=data.max_tokens,
            row_length=length,
            prompt_fraction=data.prompt_fraction,
            held_out_fraction=data.held_out_fraction,
            seed=job.config.seed,
            beginning=begins,
        )
    torch.save(corpus.tensors(), job.output(CORPUS))
    of_prompts = corpus.kind[corpus.doc.long()] == packing.PROMPT
    if corpus.skipped_empty:
        job.log.warning(f"{corpus.skipped_empty} empty documents were left out")
    if len(corpus.tokens) < data.max_tokens - length - packing.spent_on_beginnings(
        data.max_tokens, length, begins
    ):
        job.log.info(
            f"the text ends after {len(corpus.tokens)} of data.max_tokens = {data.max_tokens} tokens"
        )
    return {
        "tokens": len(corpus.tokens),
        "prompt_tokens": int(of_prompts.sum()),
        "held_out_tokens": int(corpus.held_out[corpus.doc.long()].sum()),
        "documents": int((corpus.kind == packing.PROSE).sum()),
        "prompts": int((corpus.kind == packing.PROMPT).sum()),
        "held_out_documents": int(corpus.held_out.sum()),
        "skipped_empty": corpus.skipped_empty,
        "duplicates": corpus.duplicates,
    }


def corpus_texts(config: Config) -> Sequence[str]:
    """The texts of `data.corpus`. Raises DataError, ConfigError."""
    data = config.data
    if data.corpus == FACTBOOK:
        return factbook.prose()
    if data.corpus.startswith(HUB_PREFIX):
        return sources.read_hub_corpus(data.corpus, data.corpus_config, data.corpus_split, data.corpus_column)
    return sources.read_local_corpus(as_path(data.corpus), data.corpus_column)


def _tokenizer(folder: Path, row_length: int, special: bool = True) -> packing.Tokenize:
    """The snapshot's tokenizer as a function. Raises when rows are longer than the model can see."""
    tokenizer, longest = lengths.reader_of(folder)
    if longest is not None and row_length > longest:
        raise ModelMismatchError(
            f"extract.max_length = {row_length}, but the model sees at most {longest} tokens; "
            f"set extract.max_length: {longest} or less"
        )

    def tokenize(texts: list[str]) -> list[list[int]]:
        return tokenizer(
            texts, add_special_tokens=special, verbose=False, return_attention_mask=False
        ).input_ids

    return tokenize
