"""The Markdown report: the finding first, then the pictures and the tables behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.report import tables

PICTURES = ("metrics.png", "roc_curve.png", "confusion_matrix.png")


def page(
    report: Mapping[str, Any], detection: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]
) -> str:
    """report: final_report.json; detection: detection_metrics.json; examples: records of hallucination_scores.json."""
    data, tracking = report["data"], report["tracking"]
    detector = first_detector(detection)
    sections = [
        f"# {report['name']}: do hypothesis tracks show wrong answers?",
        report["headline"],
        data_sentence(data),
        f"The best method without tracks was chosen after the fact, in its favour. Intervals: {report['confidence']:.0%},"
        f" bootstrap over {data['n_groups']:,} groups of questions, {report['resamples']:,} resamples; differences are"
        " paired. Positive class: a wrong answer.",
        "![AUROC of every method](metrics.png)",
        "## Methods",
        tables.markdown(
            tables.methods(report, ("auroc", "auroc_within_relation", "auprc_wrong", "auprc_right"))
        ),
        "\n".join(f"- `{m['name']}`: {m['description']}" for m in report["methods"]),
        "At the threshold that each fold chose on its training side (best F1), and the calibration:",
        tables.markdown(tables.methods(report, ("precision", "recall", "f1", "accuracy", "brier", "ece"))),
        f"Calling every answer wrong would have F1 {tables.number(data['f1_all_called_wrong'])}.",
        "## Do tracks help?",
        tables.markdown(tables.comparisons(report)),
        "![ROC curves](roc_curve.png)",
        "![Confusion matrix](confusion_matrix.png)",
        "## Expected quality",
        tables.markdown(tables.expectations(report)),
        "## What the detector rests on",
        f"Classifiers chosen by the inner folds: {tables.choices(detection, detector)}. The table says how much "
        "held-out AUROC falls when a family of features is shuffled among the questions; families overlap, so the "
        "losses do not add up.",
        tables.markdown(tables.families(detection, detector)),
        "## Relations",
        tables.markdown(tables.relations(report, detector)),
        "## Tracks",
        f"At the last answer token a layer holds {tracking['tracks_per_layer']:.1f} tracks on average; "
        f"{tracking['births_share']:.0%} of them were born there. A track lives {tracking['mean_life_layers']:.1f} of "
        f"{len(report['layers'])} layers on average; {tracking['single_layer_share']:.0%} live in one layer only.",
        "## Sparse autoencoders",
        sae_sentence(report["sae_all_layers"]),
        tables.markdown(tables.sae(report)),
        "## Answers that the detector is surest about",
        tables.markdown(example_rows(examples)),
        "## How it was run",
        f"Model `{report['model']}`, {len(report['layers'])} layers, seed {report['seed']}. Every answer is the "
        "model's own greedy one; scores are out of fold, with all questions on a subject in one fold; classifier, "
        "calibration and threshold were chosen on inner folds. Methods without tracks were scored on the same folds. "
        f"To repeat it: `ghosttrack run {report['name']}`; every input, parameter and digest is in the "
        "`manifest.json` beside each result.",
    ]
    return "\n\n".join(sections) + "\n"


def data_sentence(data: Mapping[str, Any]) -> str:
    excluded = ", ".join(f"{count} {reason}" for reason, count in data["excluded"].items()) or "none"
    return (
        f"{data['n_labelled']:,} of {data['n_questions']:,} questions have a label (left out: {excluded}); the model "
        f"answered {data['n_right']:,} of them correctly ({1 - data['prevalence']:.0%})."
    )


def sae_sentence(stack: Mapping[str, Any]) -> str:
    """How the table below is to be read, and all layers at once."""
    return (
        "Measured on held-out documents. Recovered is the share of the loss that the model does not lose when a SAE's "
        "reconstruction takes the place of a block's output, where 0% is what the mean state in its place would do; with "
        f"all layers' SAEs in place at once it is {tables.share(stack['ce_recovered'])} of the cross-entropy and "
        f"{tables.share(stack['kl_recovered'])} of KL, and the last layer's state has lost "
        f"{tables.share(stack['fvu_at_the_end'])} of its variance. A feature is the same one in the next layer where its "
        "nearest decoder direction there has its number. The pages `sae_layer_<i>.png` and `sae_identity.png` beside the "
        "SAEs show it all."
    )


def first_detector(detection: Mapping[str, Any]) -> str:
    """The detector whose scores are published: the first that was fitted."""
    return str(next(iter(detection["detectors"])))


def surest(records: Sequence[Mapping[str, Any]], each: int = 4) -> list[Mapping[str, Any]]:
    """The labelled answers with the highest scores and those with the lowest."""
    scored = [record for record in records if record["label"] is not None and record["score"] is not None]
    scored.sort(key=lambda record: (-record["score"], record["id"]))
    return scored if len(scored) <= 2 * each else [*scored[:each], *scored[-each:]]


def example_rows(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [
        [_inline(record["question"]), _inline(record["answer"]), _inline(record["gold"]),
         "wrong" if record["label"] else "right", f"{record['score']:.0%}"]
        for record in records
    ]  # fmt: skip
    return [["question", "the model's answer", "right answer", "it was", "probability of being wrong"], *rows]


def _inline(text: str) -> str:
    return " ".join(text.split())
