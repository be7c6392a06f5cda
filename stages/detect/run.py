"""Detect wrong answers from how their tracks behave: features, nested cross-validation, scores of every question."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.answers import Answer, read_answers
from common.errors import CorruptInputError, NumericError
from common.stage import Job
from stages.detect import records
from stages.detect.crossval import OutOfFold, out_of_fold
from stages.detect.features.table import FeatureTable, Tracks, features_of_batches
from stages.detect.protocol.folds import check_classes, grouped_folds, spread_to
from stages.detect.logits import logit_features

NODES_AT_ONCE = 2_000_000


def run(job: Job) -> dict[str, Any]:
    settings = job.config.detection
    answers = read_answers(job.input("track/answers", "generations.jsonl"))
    labels = np.array([np.nan if answer.label is None else answer.label for answer in answers])
    labelled = ~np.isnan(labels)
    check_classes(labels[labelled], settings.folds)

    tables = _signals(job, answers)
    _check_complete(tables, answers)
    job.log.info(f"{tables['tracks'].values.shape[1]} track features of {len(answers)} questions")

    group_names = np.array([answer.group for answer in answers])
    groups = np.unique(group_names, return_inverse=True)[1]
    labelled_folds = grouped_folds(labels[labelled], groups[labelled], settings.folds, job.config.seed)
    folds = spread_to(labelled_folds, groups[labelled], groups, settings.folds)

    scored: dict[str, OutOfFold] = {}
    summaries: dict[str, dict[str, Any]] = {}
    with job.progress(settings.folds * len(settings.detectors), unit="fold", what="fitting") as progress:
        for detector in settings.detectors:
            progress.note(detector)
            table = _joined([tables[signal] for signal in detector.split("+")])
            scored[detector] = out_of_fold(
                table.values, labels, groups, folds, inner_folds=settings.inner_folds, seed=job.config.seed,
                on_fold=progress.update,
            )  # fmt: skip
            summaries[detector] = records.detector_summary(
                table, labels, folds, scored[detector], job.config.seed
            )

    questions = records.question_records(answers, folds, scored)
    sample = records.sample_summary(answers)
    _write_json(
        job.output("hallucination_scores.json"),
        {"schema_version": records.SCHEMA_VERSION, "detector": settings.detectors[0], "questions": questions},
    )
    _write_json(
        job.output("detection_metrics.json"),
        {"schema_version": records.SCHEMA_VERSION, **sample, "detectors": summaries},
    )
    with job.output("classifications.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(records.csv_rows(questions))
    features = pd.DataFrame(tables["tracks"].values, columns=tables["tracks"].names)
    features.insert(0, "id", [answer.id for answer in answers])
    features.to_parquet(job.output("features.parquet"), index=False)
    return {**sample, "auroc": {name: summary["auroc"] for name, summary in summaries.items()}}


def _signals(job: Job, answers: list[Answer]) -> dict[str, FeatureTable]:
    """The feature tables that detectors may be made of. No table sees gold answers, aliases or labels."""
    batches = track_batches(job.input("track/all", "tracks.parquet"))
    return {
        "tracks": features_of_batches(batches, len(answers), job.config.layers),
        "logits": logit_features([a.logprobs for a in answers], [a.entropies for a in answers]),
    }


def track_batches(path: Path, nodes_at_once: int = NODES_AT_ONCE) -> Iterator[Tracks]:
    """The table of track nodes, piece by piece. Raises CorruptInputError if it cannot be read."""
    try:
        for batch in pq.ParquetFile(path).iter_batches(
            batch_size=nodes_at_once, columns=list(Tracks._fields)
        ):
            yield Tracks(*(batch.column(name).to_numpy(zero_copy_only=False) for name in Tracks._fields))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise CorruptInputError(
            f"{path} cannot be read as a table of tracks: {error}; run track again"
        ) from error


def _check_complete(tables: dict[str, FeatureTable], answers: list[Answer]) -> None:
    """Every labelled answer must have every feature."""
    for signal, table in tables.items():
        incomplete = ~np.isfinite(table.values)
        for row in np.flatnonzero(incomplete.any(axis=1)):
            if answers[row].label is not None:
                name = table.names[int(np.argmax(incomplete[row]))]
                raise NumericError(
                    f"question {answers[row].id!r} has a label but no finite {signal} feature {name!r}: "
                    f"a token position without tracks or with NaN; run track again"
                )


def _joined(tables: list[FeatureTable]) -> FeatureTable:
    return FeatureTable(
        np.concatenate([table.values for table in tables], axis=1),
        [name for table in tables for name in table.names],
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
