"""Tell wrong answers from right ones by every method of the protocol, and keep the detector that does it best."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ghosttrack.common.engine.launch import threads_per_process
from ghosttrack.common.engine.side_by_side import side_by_side
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import DataError, LabelError
from ghosttrack.common.files import as_path
from ghosttrack.common.formats.answers import GENERATIONS, read_answers
from ghosttrack.common.formats.detection_metrics import METRICS, Permutations
from ghosttrack.common.formats.detector import ASKED_SCORES, DECISIONS, DETECTOR, DETECTOR_ARRAYS, FEATURES
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.reasons import KINDS, REASONS
from ghosttrack.common.formats.scores import SCORE_TABLE, transfer_name
from ghosttrack.common.formats.snapshot import TOKENIZER
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.common.maths.calibration import fit_platt
from ghosttrack.common.maths.metrics import auroc
from ghosttrack.common.models.vocabulary import token_texts
from ghosttrack.stages.detect import detector as saved
from ghosttrack.stages.detect import records, tokens
from ghosttrack.stages.detect.crossval import Decided, Side, decide, fit_side, methods_of
from ghosttrack.stages.detect.error_types import error_types
from ghosttrack.stages.detect.evidence import PLACES, Data
from ghosttrack.stages.detect.explain import Reason, competition_of, reasons, reference_of
from ghosttrack.stages.detect.familiarity import fit_familiarity
from ghosttrack.stages.detect.methods import TRAINED, MethodDescription, Scored, main_of
from ghosttrack.stages.detect.opening import OpenedRun, files_of, provenance, read_run, splits_of
from ghosttrack.stages.detect.permutation import permutation_control
from ghosttrack.stages.detect.protocol.exclusions import unscored
from ghosttrack.stages.detect.protocol.splits import Fold, LabelledRows, SplitFolds
from ghosttrack.stages.detect.reading import complete, pieces_of, read_data
from ghosttrack.stages.detect.transfer import transferred

PROMPT = PLACES.index("prompt")
QUESTIONS_AT_A_TIME = 8192
"""Whose features are written."""
PERMUTED_TABLES = ("logits", "lens", "error", "tracks", "competition")


class FoldResult(NamedTuple):
    split: SplitFolds
    number: int
    methods: list[tuple[MethodDescription, Decided]]
    side: Side | None  # of the frozen test's fold, whose detector is kept
    reasons: list[Reason] | None  # of the test rows, where they are published

    @property
    def fold(self) -> Fold:
        return self.split.folds[self.number]


def run(job: Job) -> dict[str, Any]:
    return {"all": run_all, "tokens": tokens.run, "asked": run_asked}[job.unit](job)


def run_all(job: Job) -> dict[str, Any]:
    settings = job.config.detection
    pieces = pieces_of(job.input(TRACKS))
    with job.progress(len(pieces), unit="piece", what="features") as progress:
        opened = read_run(job.entries, job.config, progress.update, job.scratch("by_place.npy"))
    data, labels, rows = opened.data, opened.labels, opened.rows
    try:
        splits = splits_of(opened, job.config)
    except (LabelError, DataError) as error:
        return _undefined(job, opened, str(error))
    groups = len(np.unique(rows.group))
    job.log.info(f"{len(rows.row)} labelled questions in {groups} groups, {len(splits)} splits")

    frozen = next(split for split in splits if split.name == "test").folds[0]
    digest = hashlib.sha256("\n".join(opened.ids[row] for row in frozen.test).encode()).hexdigest()
    results = list(_score_all(job, data, labels, splits))
    openings = job.count_opening(digest, _seen(results))
    side = next(result.side for result in results if result.side is not None)
    origin, ids = {**opened.provenance, "name": job.config.name}, [opened.ids[row] for row in frozen.train]
    kept = saved.keep(side, data.of(frozen.train), origin, ids, opened.groups[frozen.train], job.config.seed)
    saved.save(kept, job.output(DETECTOR), job.output(DETECTOR_ARRAYS))
    main_folds = next(split.folds for split in splits if split.name == "grouped")
    control = _permutations(job, data, labels, rows, main_folds)
    others = [
        transferred(as_path(folder), data, labels, kept.provenance, transfer_name(number))
        for number, folder in enumerate(settings.transfers)
    ]
    tables: list[pd.DataFrame] = []
    for of in results:
        place = (of.split.name, of.split.repeat, of.number, of.fold.test)
        tables += [records.score_rows(*place, method.name, decided) for method, decided in of.methods]
    tables += [part for _, scores in others for part in scores]
    questions = _question_records(job, opened)
    _add_scores(questions, results, main_of(list(data.tables)))
    sample = _publish(
        job, opened, questions, tables,
        {
            "methods": _method_records(results),
            "splits": [
                {"name": s.name, "repeat": s.repeat, "folds": [[len(f.train), len(f.test)] for f in s.folds]}
                for s in splits
            ],
            "frozen_test": digest,
            "frozen_test_openings": openings,
            "permutation": control and control.model_dump(),
            "familiarity": _familiarity(splits, data, opened.groups, job.config.seed),
            "error_types": KINDS,
            "transfers": [
                {"split": transfer_name(number), "from": origin} for number, (origin, _) in enumerate(others)
            ],
            "absent": _absent(splits, data, bool(others)),
        },
    )  # fmt: skip
    return {**sample, "auroc": _aurocs(results, labels)}


def _undefined(job: Job, opened: OpenedRun, error: str) -> dict[str, Any]:
    """Everything but what needs right and wrong answers. error: why the rows cannot be divided."""
    sample = records.sample_summary(opened.answers, opened.excluded, opened.groups)
    why = records.undefined_because(sample, error)
    job.log.warning(why)
    saved.save_none(why, job.output(DETECTOR), job.output(DETECTOR_ARRAYS))
    absent = [f"Every figure of detection is undefined: {why}"]
    metrics = {"undefined": why, "methods": [], "permutation": None, "error_types": KINDS, "absent": absent}
    return {**_publish(job, opened, _question_records(job, opened), [], metrics), "undefined": why}


def _publish(
    job: Job,
    opened: OpenedRun,
    questions: list[dict[str, Any]],
    tables: Sequence[pd.DataFrame],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Write what is written whether or not anything could be told apart; the sample's summary. metrics: the rest of METRICS."""
    detector = main_of(list(opened.data.tables))
    sample = records.sample_summary(opened.answers, opened.excluded, opened.groups)
    records.write_scores(job.output(SCORE_TABLE), tables)
    others = questions if metrics.get("transfers") else []
    told = {"detector": detector, "questions": questions, "other_questions": others}
    SCORES.write(job.output(SCORES), told)
    head = {**sample, "detector": detector, "associator": job.config.tracking.associator}
    METRICS.write(job.output(METRICS), {**head, **metrics})
    with job.output(DECISIONS).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(records.csv_rows(questions))
    _write_features(job.output(FEATURES), opened.ids, opened.data)
    return sample


def _question_records(job: Job, opened: OpenedRun) -> list[dict[str, Any]]:
    """Every question, as yet without its score."""
    candidates = _candidates(job, opened.data.tokens)
    by_tracks = error_types(opened.answers, candidates, opened.leader[:, PROMPT])
    told = REASONS.read(job.input(REASONS))
    types = {line["question"]: line["kind"] for line in told}
    return [
        records.question_record(
            answer, int(opened.groups[row]), opened.excluded[row],
            *((types.get(row), by_tracks[row]) if opened.excluded[row] is None else (None, None)),
            competition_of(opened.leader[row, PROMPT], job.config.layers, candidates[row]),
        )
        for row, answer in enumerate(opened.answers)
    ]  # fmt: skip


def _seen(results: Sequence[FoldResult]) -> str:
    """Digest of every score of the frozen test."""
    scores = hashlib.sha256()
    for result in results:
        if result.split.name == "test":
            for method, decided in result.methods:
                scores.update(method.name.encode() + decided.score.tobytes())
    return scores.hexdigest()


def run_asked(job: Job) -> dict[str, Any]:
    """The stored detector on new questions; nothing is fitted. Raises ModelMismatchError for answers that are not its own."""
    job.input(DETECTOR_ARRAYS)  # is there and whole; it lies beside the other
    detector = job.kept("detector", lambda: saved.load(job.input(DETECTOR).parent))
    detector.require(provenance(job.entries, "track/asked_answers", "track/asked"))
    answers = read_answers(job.input(GENERATIONS))
    files = files_of(job.entries, "track/asked_answers", "track/asked_contexts", "track/asked")
    data, leader = read_data(files, answers, job.config.layers, job.config.sae.d_hidden)
    excluded, candidates = unscored(answers, complete(data)), _candidates(job, data.tokens)
    rows = np.flatnonzero([reason is None for reason in excluded])
    with threadpool_limits(1):
        found = dict(zip(rows.tolist(), detector.explain(data.of(rows)), strict=True))
    lines = []
    for row, answer in enumerate(answers):
        competition = competition_of(leader[row, PROMPT], data.layers, candidates[row])
        why = (found.get(row), excluded[row], competition)
        lines.append(records.asked_record(answer, detector.threshold, *why))
    ASKED_SCORES.write(job.output(ASKED_SCORES), lines)
    known = [(line["label"], line["score"]) for line in lines if line["label"] is not None and line["scored"]]
    labels, scores = np.array(known, dtype=np.float64).reshape(-1, 2).T
    both = 0 < labels.sum() < len(labels)
    return {
        "questions": len(lines),
        "scored": len(rows),
        "unfamiliar": sum(line["verdict"] == "unfamiliar" for line in lines),
        "labelled": len(labels),
        "auroc": round(auroc(labels, scores), 4) if both else None,
    }


def _familiarity(splits: Sequence[SplitFolds], data: Data, groups: Ints, seed: int) -> dict[str, float]:
    """Share of the questions that are called unfamiliar: of the frozen test (false alarms), and of relations held out."""
    called: dict[str, list[bool]] = {}
    for split in splits:
        if split.name not in ("test", "relations") or split.repeat:
            continue
        for fold in split.folds:
            fitted = fit_familiarity(data.states.of(fold.train), groups[fold.train], seed)
            called.setdefault(split.name, []).extend(fitted.unfamiliar(data.states.of(fold.test)).tolist())
    return {name: round(float(np.mean(found)), 4) for name, found in sorted(called.items())}


def _candidates(job: Job, tokens: Ints) -> list[list[str]]:
    """Texts of the candidates for the first answer token, by question and rank. tokens: [n, m]."""
    path = job.input(TOKENIZER)
    tokenizer = job.kept("tokenizer", lambda: TOKENIZER.read(path))
    # A model may have rows of unembedding beyond its tokenizer's tokens.
    texts = dict.fromkeys(np.unique(tokens).tolist(), "") | token_texts(tokenizer, np.unique(tokens).tolist())
    return [[texts[token] for token in row] for row in tokens.tolist()]


def _score_all(job: Job, data: Data, labels: Floats, splits: Sequence[SplitFolds]) -> Iterator[FoldResult]:
    """Every fold of every split, a process each (most of a fit is Python); each on one thread, so that equal input gives
    equal bits whatever the number of processes."""
    layers = job.config.layers
    points = np.unique(np.linspace(0, len(layers) - 1, job.config.detection.early_points).round().astype(int))
    early = [layers[point] for point in points]
    tasks = [(split, number) for split in splits for number in range(len(split.folds))]

    def score(task: int) -> tuple[Any, Any, Any]:
        split, number = tasks[task]
        return _score_fold(data, labels, split, split.folds[number], early, job.config.seed)

    with job.progress(len(tasks), unit="fold", what="fitting and scoring") as progress:
        for task, found in side_by_side(range(len(tasks)), score, threads_per_process(1), lambda _: None):
            progress.update()
            yield FoldResult(*tasks[task], *found)


def _score_fold(
    data: Data, labels: Floats, split: SplitFolds, fold: Fold, early: list[int], seed: int
) -> tuple[list[tuple[MethodDescription, Decided]], Side | None, list[Reason] | None]:
    """What `FoldResult` holds besides the fold."""
    # hallucination_scores.json has these splits' scores: every question is in one test of them.
    published = split.name == "test" or (split.name == "grouped" and split.repeat == 0)
    with threadpool_limits(1):
        side = fit_side(data, labels, fold)
        scored = list(methods_of(data, side, fold, seed, early))
        methods = [(method, decide(scores, side.labels)) for method, scores in scored]
        why = _explain(side, fold, scored) if published else None
    return methods, side if split.name == "test" else None, why


def _explain(side: Side, fold: Fold, scored: Sequence[tuple[MethodDescription, Scored]]) -> list[Reason]:
    main = next(scores for method, scores in scored if method.name == main_of(side.train.signals))
    reference = reference_of(side, main.held_out, [str(row) for row in fold.train])
    probability = fit_platt(main.held_out, side.labels)(main.test)
    return reasons(reference, side.test.of(side.signals_of(TRAINED)), probability)


def _permutations(
    job: Job, data: Data, labels: Floats, rows: LabelledRows, folds: Sequence[Fold]
) -> Permutations | None:
    refits = job.config.detection.permutations
    if not refits:
        return None
    cell = data.states.at(PLACES.index("last"), 2 * len(data.layers) // 3)
    tables = [data.tables[name].values.astype(np.float32) for name in PERMUTED_TABLES if name in data.tables]
    relation = np.full(len(data), -1, dtype=np.int64)
    relation[rows.row] = rows.relation
    values = np.concatenate([*tables, cell], axis=1)
    with threadpool_limits(1):
        return permutation_control(values, labels, relation, folds, refits, job.config.seed)


def _add_scores(questions: list[dict[str, Any]], results: Sequence[FoldResult], detector: str) -> None:
    """Scores, decisions and reasons of the published splits, in place."""
    for result in results:
        if result.reasons is None:
            continue
        main = next(decided for method, decided in result.methods if method.name == detector)
        for place, row in enumerate(result.fold.test.tolist()):
            why = dict(result.reasons[place])
            nearest = why.pop("nearest_right")
            questions[row] |= {
                "split": result.split.name,
                "fold": result.number,
                "score": float(main.probability[place]),
                "threshold": float(main.threshold),
                "predicted": int(main.predicted[place]),
                **why,
                "nearest_right": None if nearest is None else questions[int(nearest)]["id"],
            }


def _method_records(results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    """Methods as detection_metrics.json has them, each with what every training side chose."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        split, repeat, fold = result.split.name, result.split.repeat, result.number
        for method, decided in result.methods:
            chosen = {"chosen": decided.chosen, "threshold": float(decided.threshold)}
            record = found.setdefault(method.name, {**method._asdict(), "folds": []})
            record["folds"].append({"split": split, "repeat": repeat, "fold": fold, **chosen})
    return list(found.values())


def _absent(splits: Sequence[SplitFolds], data: Data, transfer: bool) -> list[str]:
    """What the protocol has and this run has not, in words."""
    names = {split.name for split in splits} | {name.removeprefix("rung/") for name in data.tables}
    sentences = {
        "relations": "Relations held out: detection.relation_folds is 0, too few relations, or a fold without both classes.",
        "answers": "Answers held out: detection.answer_folds is 0, too few different answers, or a fold without both classes.",
        "contexts": "Answers read in other contexts: tracking.contexts is 0.",
        "samples": "Semantic entropy and self-consistency: detection.samples is 0, so nothing was sampled.",
        "independent": "SAEs trained apart in the ladder: sae.independent_twin is false, or SAEs were imported without sae.pretrained_independent.",
    }
    absent = [sentence for name, sentence in sentences.items() if name not in names]
    return absent if transfer else [*absent, "Other data set: detection.transfer names no detector."]


def _aurocs(results: Sequence[FoldResult], labels: Floats) -> dict[str, float]:
    """Method → AUROC of the first grouped repeat, for the manifest and the log."""
    found: dict[str, list[Floats]] = {}
    for result in results:
        if result.split.name == "grouped" and result.split.repeat == 0:
            for method, decided in result.methods:
                if method.kind != "early":
                    pair = np.stack([labels[result.fold.test], decided.probability])
                    found.setdefault(method.name, []).append(pair)
    return {name: round(auroc(*np.concatenate(parts, axis=1)), 4) for name, parts in found.items()}


def _write_features(path: Path, ids: Sequence[str], data: Data) -> None:
    tables = [table for name, table in data.tables.items() if not name.startswith("rung/")]
    names = [name for table in tables for name in table.names]

    def piece(start: int) -> pd.DataFrame:
        rows = slice(start, start + QUESTIONS_AT_A_TIME)
        values = np.concatenate([table.values[rows] for table in tables], axis=1).astype(np.float32)
        frame = pd.DataFrame(values, columns=names)
        frame.insert(0, "id", list(ids[rows]))
        return frame

    records.write_frames(path, map(piece, range(0, len(ids), QUESTIONS_AT_A_TIME)))
