"""Evaluate the detector honestly: every figure with an interval, every baseline beside it on the same folds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.answers import Answer, read_answers
from common.errors import CorruptInputError
from common.stage import Job
from stages.evaluate import plots, scorecard
from stages.evaluate.baselines import Method, baselines
from stages.evaluate.findings import AUROC_WANTED, expectations, headline
from stages.evaluate.schema import Confusion, DataCard, FinalReport, SaeLayer, SaeStack, TrackingSummary

SCORES_SCHEMA_VERSION = 1
QUALITY_SCHEMA_VERSION = 1


def run(job: Job) -> dict[str, Any]:
    settings = job.config.evaluation
    answers = read_answers(job.input("track/all", "generations.jsonl"))
    scores_path = job.input("detect/all", "hallucination_scores.json")
    scores = read_scores(scores_path, answers)
    kept = [row for row, answer in enumerate(answers) if answer.label is not None]
    chosen, records = [answers[row] for row in kept], [scores["questions"][row] for row in kept]
    labels = np.array([answer.label for answer in chosen], dtype=np.float64)
    folds = np.array([record["fold"] for record in records])

    methods = detectors(records) + baselines(chosen, labels, folds)
    sample = scorecard.Sample.of(
        labels, [a.relation for a in chosen], [a.group for a in chosen], settings.bootstrap, settings.confidence,
        job.config.seed,
    )  # fmt: skip
    values = {}
    with job.progress(len(methods), unit="method", what="resampling") as progress:
        for method in methods:
            progress.note(method.name)
            values[method.name] = scorecard.measure(sample, method)
            progress.update()

    reports = sorted(
        (scorecard.method_report(sample, method, values[method.name]) for method in methods),
        key=lambda report: (report.kind != "detector", -(report.figures.auroc.value or 0), report.name),
    )
    by_name = {report.name: report for report in reports}
    main = scores["detector"]
    found = [method.name for method in methods if method.kind == "detector"]
    known = [method.name for method in methods if method.kind == "baseline"]
    best = scorecard.best(known, values, "auroc")
    comparisons = [
        scorecard.compare(sample, values, detector, baseline, metric)
        for detector in found
        for metric in ("auroc", "auroc_within_relation")
        for baseline in dict.fromkeys(
            [scorecard.best(known, values, metric), *(["logits"] if "logits" in known else [])]
        )
    ]
    data = data_card(answers)
    sae, stack = read_sae(job.input("sae_train/quality", "sae_quality.json"), job.config.layers)
    report = FinalReport(
        name=job.config.name,
        model=job.config.model.base_model,
        layers=job.config.layers,
        seed=job.config.seed,
        confidence=settings.confidence,
        resamples=settings.bootstrap,
        headline=headline(by_name[main], by_name[best], comparisons[0]),
        data=data,
        methods=reports,
        best_baseline=best,
        comparisons=comparisons,
        confusion=confusion(labels, records),
        relations=scorecard.relation_reports(sample, values),
        sae=sae,
        sae_all_layers=stack,
        tracking=tracking_summary(
            pd.read_parquet(job.input("detect/all", "features.parquet")), len(job.config.layers)
        ),
        expectations=expectations(by_name[main], data.f1_all_called_wrong, sae),
    )
    job.output("final_report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    plots.plot_roc(
        job.output("roc_curve.png"), labels, methods, reports, best, sample.weights, settings.confidence
    )
    plots.plot_confusion(job.output("confusion_matrix.png"), report.confusion, main)
    plots.plot_metrics(job.output("metrics.png"), reports, AUROC_WANTED, settings.confidence)
    job.log.info(report.headline)
    return {
        "headline": report.headline,
        "auroc": {each.name: each.figures.auroc.value for each in reports},
        "f1": by_name[main].figures.f1.value,
        "best_baseline": best,
    }


def read_scores(path: Path, answers: list[Answer]) -> dict[str, Any]:
    """hallucination_scores.json, checked against the answers: same questions, same labels, nothing unscored."""
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        version, records = scores["schema_version"], scores["questions"]
        scored = [(record["id"], record["label"]) for record in records]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptInputError(f"{path} is not a file of scores ({error}); run detect again") from error
    if version != SCORES_SCHEMA_VERSION:
        raise CorruptInputError(
            f"{path} has schema version {version}, not {SCORES_SCHEMA_VERSION}; run detect again"
        )
    if scored != [(answer.id, answer.label) for answer in answers]:
        raise CorruptInputError(
            f"{path} and generations.jsonl hold different questions or labels; run detect again"
        )
    for record in records:
        if record["label"] is not None and record["score"] is None:
            raise CorruptInputError(
                f"{path}: question {record['id']!r} has a label but no score; run detect again"
            )
    return dict(scores)


def detectors(records: list[dict[str, Any]]) -> list[Method]:
    """The methods that detect has fitted; one that sees no tracks is a baseline."""
    methods = []
    for name in records[0]["detectors"]:
        column = [record["detectors"][name] for record in records]
        score = np.array([entry["score"] for entry in column], dtype=np.float64)
        sees_tracks = "tracks" in name.split("+")
        methods.append(
            Method(
                name=name,
                kind="detector" if sees_tracks else "baseline",
                description=f"classifier on {name.replace('+', ' and ')}, chosen by nested cross-validation",
                score=score,
                probability=score,
                predicted=np.array([entry["predicted"] for entry in column], dtype=np.int64),
            )
        )
    return methods


def data_card(answers: list[Answer]) -> DataCard:
    labelled = [answer for answer in answers if answer.label is not None]
    wrong = sum(answer.label or 0 for answer in labelled)
    reasons = sorted(answer.reason for answer in answers if answer.reason is not None)
    return DataCard(
        n_questions=len(answers),
        n_labelled=len(labelled),
        n_wrong=wrong,
        n_right=len(labelled) - wrong,
        prevalence=wrong / len(labelled),
        excluded={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        n_groups=len({answer.group for answer in labelled}),
        n_relations=len({answer.relation for answer in labelled}),
        f1_all_called_wrong=2 * wrong / (wrong + len(labelled)),
    )


def confusion(labels: NDArray[np.float64], records: list[dict[str, Any]]) -> Confusion:
    predicted = np.array([record["predicted"] for record in records])
    thresholds = {record["fold"]: record["threshold"] for record in records}
    return Confusion(
        wrong_called_wrong=int(((labels == 1) & (predicted == 1)).sum()),
        wrong_called_right=int(((labels == 1) & (predicted == 0)).sum()),
        right_called_wrong=int(((labels == 0) & (predicted == 1)).sum()),
        right_called_right=int(((labels == 0) & (predicted == 0)).sum()),
        thresholds=[thresholds[fold] for fold in sorted(thresholds)],
    )


def read_sae(path: Path, layers: Sequence[int]) -> tuple[list[SaeLayer], SaeStack]:
    """Quality of these layers' SAEs, and of all of them at once. Raises CorruptInputError."""
    try:
        quality = json.loads(path.read_text(encoding="utf-8"))
        version = quality["schema_version"]
        matches = {pair["layer"]: pair["self_match"] for pair in quality["identity"]["adjacent"]}
        found = [
            SaeLayer(
                **{name: record[name] for name in ("layer", "l0", "fvu", "mse", "dead_fraction")},
                ce_recovered=record["splice"]["ce_recovered"]["mean"],
                kl_recovered=record["splice"]["kl_recovered"]["mean"],
                next_self_match=matches.get(record["layer"]),
            )
            for record in quality["layers"]
        ]
        whole = quality["all_layers"]
        stack = SaeStack(
            ce_recovered=whole["ce_recovered"]["mean"],
            kl_recovered=whole["kl_recovered"]["mean"],
            fvu_at_the_end=whole["error_by_depth"][-1]["fvu"],
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CorruptInputError(
            f"{path} is not a file of SAE quality ({' '.join(str(error).split())}); run sae_train again"
        ) from error
    if version != QUALITY_SCHEMA_VERSION:
        raise CorruptInputError(
            f"{path} has schema version {version}, not {QUALITY_SCHEMA_VERSION}; run sae_train again"
        )
    if [layer.layer for layer in found] != list(layers):
        raise CorruptInputError(f"{path} is of other layers than are studied; run sae_train again")
    return found, stack


def tracking_summary(features: pd.DataFrame, n_layers: int) -> TrackingSummary:
    def mean(*names: str) -> float:
        columns = [name for name in names if name in features]
        return float(features[columns].mean(axis=1).mean())

    def thirds(name: str) -> list[str]:
        return [f"{name}_{part}" for part in ("early", "middle", "late")]

    return TrackingSummary(
        mean_life_layers=mean("last.lifetime.mean") * n_layers,
        single_layer_share=mean("last.lifetime.single_layer"),
        tracks_per_layer=mean(*thirds("last.density.alive")),
        births_share=mean(*thirds("last.churn.births")),
    )
