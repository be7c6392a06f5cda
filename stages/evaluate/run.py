"""Evaluate honestly: every figure with an interval, every baseline and rung beside it on the same questions."""

from typing import Any

from ghosttrack.common.engine.fingerprint import name_of
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.detection_metrics import METRICS
from ghosttrack.common.formats.final_report import REPORT, FinalReport, Headline
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.questions import QUESTIONS, worked_examples
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.formats.scores import MAIN_SPLIT, SCORE_TABLE
from ghosttrack.stages.evaluate import parts, plots, scorecard
from ghosttrack.stages.evaluate.findings import expectations, headline
from ghosttrack.stages.evaluate.scorecard import Sample
from ghosttrack.stages.evaluate.scores import Detection, read_detection

NOT_TOLD = "Whether tracking helps cannot be told."


def run(job: Job) -> dict[str, Any]:
    settings = job.config.evaluation
    detection = read_detection(job.input(SCORES), job.input(METRICS), job.input(SCORE_TABLE))
    if detection.undefined:
        return _undefined(job, detection, detection.undefined)
    samples = {
        name: Sample.of(
            split.label, split.questions["relation"].tolist(), split.questions["group"].tolist(), settings.bootstrap,
            settings.confidence, job.config.seed,
        )
        for name, split in detection.splits.items()
    }  # fmt: skip
    values = {}
    total = sum(len(split.methods) for split in detection.splits.values())
    with job.progress(total, unit="method", what="resampling") as progress:
        for name, split in detection.splits.items():
            progress.note(name)
            values[name] = scorecard.measure_all(samples[name], split, detection.cards, progress.update)

    grouped, sample, found = detection.splits[MAIN_SPLIT], samples[MAIN_SPLIT], values[MAIN_SPLIT]
    main_methods = parts.chosen_for_plots(detection, found)
    splits = {
        name: parts.split_report(detection, split, samples[name], values[name], main_methods)
        for name, split in detection.splits.items()
    }
    best = splits[MAIN_SPLIT].best_baseline.get("auroc")
    permutation = parts.permutation_report(detection.permutation)
    strict = parts.strict_report(detection, sample, grouped, main_methods)
    given = _given(job, detection)
    report = FinalReport(
        **given,
        headline=headline(detection.detector, detection.cards, splits, detection.rung),
        main_methods=main_methods,
        methods=list(detection.cards.values()),
        splits=list(splits.values()),
        absent=[*detection.absent, *([] if strict else ["Strict labels: none, or all alike."])],
        relations=parts.relation_reports(
            grouped.questions, parts.auroc_by_relation(sample, found, main_methods)
        ),
        early_warning=parts.early_warning(detection, sample, found, job.config.layers),
        permutation=permutation,
        frozen_test_openings=detection.openings,
        error_types=parts.error_types(detection, sample, grouped, best),
        strict=strict,
        expectations=expectations(detection.detector, splits, given["sae"], permutation),
    )
    report.write(job.output(REPORT))
    for picture, draw in plots.DRAWN.items():
        draw(report).savefig(job.output(picture), dpi=plots.DPI)
    for sentence in filter(None, (report.headline.contexts, report.headline.detector)):
        job.log.info(sentence)
    job.log.info(report.headline.tracking)
    return {
        "headline": report.headline.detector,
        "tracking": report.headline.tracking,
        "auroc": {each.name: each.figures.auroc.value for each in splits[MAIN_SPLIT].methods},
        "f1": float(found[detection.detector].by_name["f1"][0]),
        "best_baseline": best,
    }


def _given(job: Job, detection: Detection) -> dict[str, Any]:
    """What a report says whether or not anything could be told apart."""
    sae, stack = parts.read_sae(job.input(QUALITY))
    return {
        "name": job.config.name,
        "model": name_of(job.config.model.base_model),
        "layers": job.config.layers,
        "seed": job.config.seed,
        "confidence": job.config.evaluation.confidence,
        "resamples": job.config.evaluation.bootstrap,
        "data": parts.data_card(detection.counts, worked_examples(QUESTIONS.each(job.input(QUESTIONS)))),
        "detector": detection.detector,
        "error_type_agreement": parts.error_type_agreement(detection.questions),
        "matching": job.config.data.matching,
        "matchers": parts.matcher_reports(detection.questions),
        "sae": sae,
        "sae_all_layers": stack,
    }


def _undefined(job: Job, detection: Detection, why: str) -> dict[str, Any]:
    """A report of what there is where wrong answers cannot be told from right ones; no figure is made up."""
    given = _given(job, detection)
    report = FinalReport(
        **given,
        headline=Headline(contexts="", detector=why, tracking=NOT_TOLD, helps=None),
        undefined=why,
        main_methods=[],
        methods=[],
        splits=[],
        absent=detection.absent,
        relations=parts.relation_reports(detection.questions.dropna(subset="label"), {}),
        early_warning=[],
        permutation=None,
        error_types=[],
        strict=None,
        expectations=expectations(detection.detector, {}, given["sae"], None),
    )
    report.write(job.output(REPORT))
    canvas = plots.say(why)
    for picture in plots.DRAWN:
        canvas.savefig(job.output(picture), dpi=plots.DPI)
    job.log.warning(why)
    return {"headline": why, "undefined": why}
