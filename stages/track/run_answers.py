"""Unit `answers`: the model's answers and what is read while it gives them, shard by shard of the questions.

Where several processes do it together, each takes every so-many-th shard.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import DataError, NumericError
from ghosttrack.common.files import fsync, take_room
from ghosttrack.common.formats.answer_states import ANSWER_STATES
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.questions import in_chat, prompt_of
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.maths.text import normalise
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.prompts import Prompt, encode_question
from ghosttrack.common.models.reading import Prefix
from ghosttrack.common.models.steps import Step, shard_name, shards_done
from ghosttrack.stages.track.claims import claims, label_of, relations_in
from ghosttrack.stages.track.generate import (
    SUBJECT,
    Ends,
    GreedyAnswer,
    Sampling,
    give_answers,
    read_prompts,
    shared_prefix,
)
from ghosttrack.stages.track.given import encode_response, read_response
from ghosttrack.stages.track.labels import JUDGE, Judgement, judge, with_label, with_verdict
from ghosttrack.stages.track.lens import Lens, read_lens
from ghosttrack.stages.track.loaded import language_model_of
from ghosttrack.stages.track.matching.verdicts import asked_of, verdicts
from ghosttrack.stages.track.outputs import gathered
from ghosttrack.stages.track.questions import Batch, even, plan_shards, questions_of, sizes_of
from ghosttrack.stages.track.spans import labels_given, labels_in, token_offsets, unmarked

Columns = dict[str, np.ndarray]
JUDGED = ("label", "strict_label", "excluded", "matched")
"""Where a `Judgement` stands in a line of generations.jsonl."""


def run(job: Job) -> dict[str, Any]:
    settings, questions = job.config.tracking, questions_of(job)
    if not questions:
        raise DataError("questions.jsonl is empty; check data.questions and data.relations")
    shards = plan_shards(
        [(q["prefix"], in_chat(q)) for q in questions], even(len(questions), settings.shard_questions), settings.batch_size,
        [len(q.get("response", "")) for q in questions],
    )  # fmt: skip

    def begin() -> tuple[torch.device, Step]:
        model = language_model_of(job)
        ends = {chat: ends_of(job, model, chat) for chat in {in_chat(question) for question in questions}}
        return model.device, lambda number: _do_shard(job, model, questions, number, shards[number], ends)

    if not shards_done(job, sizes_of(shards), "answers", begin):
        return {}
    records = _gather_records(job, len(shards))
    if job.config.data.matching == JUDGE:
        _let_judge(job, records)
    _gather_states(job, records, len(shards))
    for table in (LENS, CANDIDATES):
        paths = [job.scratch(f"{shard_name(number)}.{table.name}") for number in range(len(shards))]
        table.write(job.output(table), gathered(table, paths))
    GENERATIONS.write(job.output(GENERATIONS), records)
    return _metrics(records)


def _do_shard(
    job: Job,
    model: LanguageModel,
    questions: list[dict[str, Any]],
    number: int,
    batches: list[Batch],
    ends: dict[bool, Ends],
) -> None:
    """Answer a shard's questions and write its files to scratch, in the order of its questions."""
    answers: dict[int, GreedyAnswer] = {}
    lines: list[dict[str, Any]] = []
    prompts = {line: tokens_of(job, model, questions[line]) for batch in batches for line in batch.numbers}
    matching, elsewhere = job.config.data.matching, unmarked(questions)
    prefix: Prefix | None = None
    for (_, chat), alike in itertools.groupby(batches, key=lambda batch: batch.prefix):
        members = list(alike)
        of_all = [prompts[line] for batch in members for line in batch.numbers]
        prefix = shared_prefix(model, of_all, prefix)
        for batch in members:
            for line, answer, samples in _answer(job, model, batch, questions, prompts, prefix, ends[chat]):
                asked = model, questions[line], prompts[line]
                answers[line] = answer
                lines.append({"line": line, **_record(*asked, answer, samples, matching, elsewhere)})
    order = sorted(answers)
    states = torch.cat([answers[line].states for line in order])
    if not bool(states.isfinite().all()):
        raise NumericError(f"shard {number}: a block output is not finite; check model.dtype and the model")
    stored = states.half()
    if job.config.extract.dtype in ("float32", "bfloat16") or not bool(stored.isfinite().all()):
        stored = states.float()  # numpy has no bfloat16
    owners = [(line, place) for line in order for place in answers[line].positions]
    content = {
        "question": torch.tensor([line for line, _ in owners], dtype=torch.int32),
        "position": torch.tensor([place for _, place in owners], dtype=torch.int16),
        "states": stored,
    }
    lens = _lens_columns(model, job.config.layers, states, owners, answers)
    candidates = _candidate_columns(answers, order)
    endings = ("pt", LENS.name, CANDIDATES.name, "jsonl")
    files = [job.scratch(f"{shard_name(number)}.{ending}") for ending in endings]
    torch.save(content, files[0])
    LENS.write(files[1], lens)
    CANDIDATES.write(files[2], candidates)
    GENERATIONS.write(files[3], sorted(lines, key=lambda record: record["line"]))
    for file in files:
        fsync(file)


def ends_of(job: Job, model: LanguageModel, chat: bool) -> Ends:
    """What ends an answer: what ends a text of the model, and `tracking.stop`."""

    def find() -> Ends:
        tokens, absent = model.end_tokens()
        if absent:
            job.log.warning(
                f"end tokens {absent} of the model's configuration are beyond its vocabulary of {model.n_vocabulary}; "
                "they are ignored; correct eos_token_id in its generation_config.json or config.json"
            )
        return Ends(model, job.config.tracking.stops(chat), tokens)

    ends: Ends = job.kept(f"ends {'of a chat' if chat else ''}", find)
    return ends


def tokens_of(job: Job, model: LanguageModel, question: dict[str, Any]) -> Prompt:
    """A question's prompt as tokens. Raises DataError for one that is too short or that the model cannot hold."""
    most = 0 if "response" in question else job.config.tracking.max_new_tokens  # its length is known to fit
    try:
        prompt = encode_question(model, question)
    except DataError as error:
        raise DataError(f"question {question['id']!r}: {error}") from error
    longest, length = model.longest, len(prompt.tokens)
    if longest and length + most > longest:
        raise DataError(
            f"question {question['id']!r}: its prompt of {length} tokens does not fit the model's "
            f"context of {longest}; lower data.shots or remove the question"
        )
    return prompt


def _answer(
    job: Job,
    model: LanguageModel,
    batch: Batch,
    questions: list[dict[str, Any]],
    prompts: dict[int, Prompt],
    prefix: Prefix,
    ends: Ends,
) -> Iterator[tuple[int, GreedyAnswer, list[str] | None]]:
    """Line number, answer and sampled answers, for the questions of a batch."""
    settings, sampling, layers = job.config.tracking, job.config.detection, job.config.layers
    for number in batch.numbers:
        if (text := questions[number].get("response")) is not None:
            response = encode_response(model, questions[number], text)
            yield number, read_response(model, prompts[number], response, layers, settings.candidates), None
    batch = Batch(batch.prefix, [number for number in batch.numbers if "response" not in questions[number]])
    if not batch.numbers:
        return
    asked = [prompts[number] for number in batch.numbers]
    drawn = None
    if sampling.samples:
        shape = (sampling.samples, settings.max_new_tokens)
        ids = [questions[number]["id"] for number in batch.numbers]
        draws = np.stack([generator(job.config.seed, "samples", name).random(shape) for name in ids])
        drawn = Sampling(sampling.temperature, draws)
    read = read_prompts(model, asked, layers, prefix)
    most, candidates = settings.max_new_tokens, settings.candidates
    answers, samples = give_answers(model, asked, read, layers, ends, most, candidates, drawn)
    yield from zip(batch.numbers, answers, samples if drawn else [None] * len(asked), strict=True)


def _record(
    model: LanguageModel,
    question: dict[str, Any],
    prompt: Prompt,
    answer: GreedyAnswer,
    samples: list[str] | None,
    matching: str,
    elsewhere: int | None,
) -> dict[str, Any]:
    """A line of generations.jsonl."""
    given = _of_response(model, question, answer, elsewhere)
    text = str(given.get("answer", answer.text))
    judgement = judge(text, question["aliases"], question["query"], matching, question.get("choices") or ())
    label, spans = question.get("label"), question.get("spans")
    if label is None and spans is not None:
        label = int(any(wrong for _, _, wrong in spans))
    judgement = with_label(judgement, label, matching, bool(given))
    profile = _of_profile(model, question, answer)
    if profile:
        label = label_of(profile["claims"])
        judgement = Judgement(label, label, None if label is not None else "nothing_claimed")
    record = {
        "id": question["id"],
        "relation": question["relation"],
        "subject": question["subject"],
        "group": normalise(question["subject"]) or question["id"],
        "prompt": prompt_of(question),
        "question": question["question"],
        "query": question["query"],
        "answer": answer.text,
        "gold": question["answer"],
        "aliases": question["aliases"],
        **dict(zip(JUDGED, judgement, strict=True)),
        "n_shots": len(question.get("shots", ())),
        "subject_found": prompt.subject is not None,
        "token_ids": answer.token_ids,
        "tokens": answer.tokens,
        "logprobs": answer.logprobs,
        "entropies": answer.entropies,
    }
    record |= {name: question[name] for name in ("row", "extra") if name in question} | given | profile
    return record if samples is None else {**record, "samples": samples}


def _of_response(
    model: LanguageModel, question: dict[str, Any], answer: GreedyAnswer, elsewhere: int | None
) -> dict[str, Any]:
    """Of a given answer: its text, its labelled tokens, and why it is left out where it cannot be read. elsewhere: the label of
    tokens in no span."""
    if (text := question.get("response")) is None:
        return {}
    response = encode_response(model, question, text)
    found: dict[str, Any] = {"answer": text, "given": True, "subject_found": SUBJECT in answer.positions}
    if not answer.token_ids:
        return found | {"label": None, "strict_label": None, "excluded": "empty"}
    if not response.exact:
        return found | {"label": None, "strict_label": None, "excluded": "response_not_given_back"}
    if (spans := question.get("spans")) is not None:
        found["token_labels"] = labels_given(response.offsets, spans, elsewhere)
    return found


def _of_profile(model: LanguageModel, question: dict[str, Any], answer: GreedyAnswer) -> dict[str, Any]:
    """Of a profile: its claims that are decided, and its tokens labelled by them."""
    if (facts := question.get("facts")) is None:
        return {}
    found = claims(answer.text, question["subject"], facts)
    offsets = token_offsets(model.tokenizer.decode, answer.token_ids)
    labels = labels_in(offsets, [claim[:3] for claim in found], None)
    return {"claims": found, "token_labels": labels, "token_relations": relations_in(offsets, found)}


def _let_judge(job: Job, records: list[dict[str, Any]]) -> None:
    """Ask the judge about every answer that has a right one beside it and is not left out; its verdict is the label."""
    asked = [record for record in records if record["label"] is not None and record["aliases"]]
    if not asked:
        return
    if job.config.data.judge is None:
        model = language_model_of(job)
    else:
        folder = job.input_dir("prepare/judge")
        model = job.kept("judge", lambda: load_language_model(folder, **job.config.model.loading))
    texts = [asked_of(record["question"], record["aliases"], record["answer"]) for record in asked]
    said = verdicts(model, texts, job.config.tracking.batch_size)
    for record, verdict in zip(asked, said, strict=True):
        judged = with_verdict(Judgement(*(record[name] for name in JUDGED)), verdict)
        record |= dict(zip(JUDGED, judged, strict=True))


def _lens_columns(
    model: LanguageModel,
    layers: list[int],
    states: torch.Tensor,
    owners: list[tuple[int, int]],
    answers: dict[int, GreedyAnswer],
) -> Columns:
    """A row a (question, position, layer). states: [n_positions, n_layers, d_model], whose owners are (line, position)."""
    two = torch.stack([answers[line].candidates[max(place, 0), :2] for line, place in owners])
    emitted, rival = (column.repeat_interleave(len(layers)) for column in two.T)
    lens: Lens = read_lens(model, states.flatten(0, 1), emitted, rival)
    owner = np.repeat(np.array(owners), len(layers), axis=0)
    return {
        "question": owner[:, 0].astype(np.int32),
        "position": owner[:, 1].astype(np.int16),
        "layer": np.tile(np.array(layers, dtype=np.int16), len(owners)),
        **lens._asdict(),
    }


def _candidate_columns(answers: dict[int, GreedyAnswer], order: list[int]) -> Columns:
    """A row a (question, position, rank)."""
    counts = [answers[line].candidates.shape for line in order]
    return {
        "question": np.concatenate([np.full(n * m, line, np.int32) for line, (n, m) in zip(order, counts, strict=True)]),
        "position": np.concatenate([np.repeat(np.arange(n, dtype=np.int16), m) for n, m in counts]),
        "rank": np.concatenate([np.tile(np.arange(m, dtype=np.int16), n) for n, m in counts]),
        "token": torch.cat([answers[line].candidates.flatten() for line in order]).numpy().astype(np.int32),
        "logprob": torch.cat([answers[line].candidate_logprobs.flatten() for line in order]).numpy(),
    }  # fmt: skip


def _gather_records(job: Job, n_shards: int) -> list[dict[str, Any]]:
    """All shards' records in the order of questions.jsonl."""
    files = (job.scratch(f"{shard_name(number)}.jsonl") for number in range(n_shards))
    records = itertools.chain.from_iterable(map(GENERATIONS.each, files))
    return sorted(records, key=lambda record: record.pop("line"))


def _gather_states(job: Job, records: list[dict[str, Any]], n_shards: int) -> None:
    """Write states.npy, which needs no torch to be read, and whose rows they are; holds no more than a question's."""
    counts = [len(record["token_ids"]) + 1 + record["subject_found"] for record in records]
    starts = np.concatenate([[0], np.cumsum(counts)])
    files = [job.scratch(f"{shard_name(number)}.pt") for number in range(n_shards)]
    shards = [torch.load(file, mmap=True, weights_only=True) for file in files]
    fits = all(shard["states"].dtype == torch.float16 for shard in shards)
    shape, dtype = (int(starts[-1]), *shards[0]["states"].shape[1:]), np.float16 if fits else np.float32
    states = np.lib.format.open_memmap(job.output(ANSWER_STATES), mode="w+", dtype=dtype, shape=shape)
    take_room(job.output(ANSWER_STATES))
    question, position = np.empty(len(states), np.int32), np.empty(len(states), np.int16)
    for shard in shards:
        lines, sizes = shard["question"].unique_consecutive(return_counts=True)
        places = torch.cumsum(sizes, 0) - sizes
        for line, place, size in zip(lines.tolist(), places.tolist(), sizes.tolist(), strict=True):
            own = slice(int(starts[line]), int(starts[line]) + size)
            states[own] = shard["states"][place : place + size].numpy()
            question[own], position[own] = line, shard["position"][place : place + size].numpy()
    states.flush()
    POSITIONS.write(job.output(POSITIONS), {"question": question, "position": position})


def _metrics(records: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [record["label"] for record in records if record["label"] is not None]
    return {
        "questions": len(records),
        "labelled": len(labels),
        "accuracy": round(1 - sum(labels) / len(labels), 4) if labels else None,
        "judge_agrees_with_exact": _agreement(records),
        "excluded": dict(Counter(record["excluded"] for record in records if record["label"] is None)),
        "subject_not_found": sum(not record["subject_found"] for record in records),
    }


def _agreement(records: list[dict[str, Any]]) -> float | None:
    """Share of the judge's verdicts that are those of exact matching; None where there is no judge."""
    judged = [record["matched"] for record in records if JUDGE in record["matched"]]
    return round(sum(said[JUDGE] == said["exact"] for said in judged) / len(judged), 4) if judged else None
