"""Unit `tokens`: a risk for every token of long answers whose spans are labelled, and how good it is by token, span and answer.

Documents (question groups) are held out whole. What is compared: the token's log-probability and entropy, the lens, a probe at
each layer, the tracks, and the detector, which sees them all; each a ridge regression whose penalty inner folds choose; and
where claims have relations, the share of wrong tokens of each. Answers
are judged by their riskiest token (Obeso et al. 2025).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.answer_states import ANSWER_STATES
from ghosttrack.common.formats.answers import GENERATIONS, Answer, read_answers
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.token_scores import TOKEN_METRICS, TOKEN_SCORES
from ghosttrack.common.maths.arrays import Bools, Floats, Ints
from ghosttrack.common.maths.bootstrap import group_weights, interval
from ghosttrack.common.maths.metrics import (
    Weights,
    auroc,
    auroc_by_block,
    best_f1_threshold,
    mean_of_defined,
    rank_metrics,
)
from ghosttrack.stages.detect.fitted.ridge import Standardiser, fit_ridges
from ghosttrack.stages.detect.protocol.folds import deal
from ghosttrack.stages.detect.protocol.groups import question_groups
from ghosttrack.stages.detect.token_features import LAYER_COLUMNS, Tokens, read_tokens

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
DETECTOR, RELATION, PLAIN = "detector", "relation", ("logprob", "entropy")
WITHIN = "token_auroc_within_relation"
FALSE_ALARMS = 0.1


def run(job: Job) -> dict[str, Any]:
    config = job.config
    answers = read_answers(job.input(GENERATIONS))
    if not any(answer.token_labels for answer in answers):
        return _nothing(job, "no answer has labelled spans")
    owner = POSITIONS.read(job.input(POSITIONS))
    tokens = read_tokens(
        answers,
        (owner["question"].astype(np.int64), owner["position"].astype(np.int64)),
        job.input(ANSWER_STATES),
        LENS.frame(job.input(LENS)),
        LAYERS.frame(job.input(LAYERS), ["question", "position", *LAYER_COLUMNS]),
        len(config.layers),
    )
    groups = question_groups(answers)[tokens.question]
    enough = min(len(np.unique(groups[tokens.label == label])) for label in (0, 1))
    if enough < config.detection.folds:
        why = f"{enough} documents with wrong (or right) spans, fewer than detection.folds ({config.detection.folds})"
        return _nothing(job, why, len(groups))
    folds = config.detection.folds, config.detection.inner_folds
    with threadpool_limits(1):
        scores, thresholds = out_of_fold(tokens, groups, config.layers, *folds, config.seed)
    weights = group_weights(groups, config.evaluation.bootstrap, config.seed)
    wrong, confidence = wrong_answers(answers, tokens), config.evaluation.confidence
    report = figures(tokens, scores, thresholds, weights, confidence, wrong)
    TOKEN_METRICS.write(job.output(TOKEN_METRICS), report)
    text = [answers[q].tokens[t - 1] for q, t in zip(tokens.question, tokens.token, strict=True)]
    TOKEN_SCORES.write(job.output(TOKEN_SCORES), {
        "question": tokens.question.astype(np.int32), "position": tokens.token.astype(np.int16), "token": text,
        "label": tokens.label.astype(np.int8), "risk": scores[DETECTOR].astype(np.float32),
        "logprob": tokens.logprob.astype(np.float32), "entropy": tokens.entropy.astype(np.float32),
    })  # fmt: skip
    return {
        "tokens": len(groups),
        "wrong": int(tokens.label.sum()),
        "documents": len(np.unique(groups)),
        **{f"auroc_{name}": report["methods"][name]["token_auroc"][0] for name in (DETECTOR, *PLAIN)},
    }


def _nothing(job: Job, why: str, labelled: int = 0) -> dict[str, Any]:
    """labelled: how many tokens have a label."""
    TOKEN_METRICS.write(job.output(TOKEN_METRICS), {"why_not": why, "tokens": labelled, "methods": {}})
    TOKEN_SCORES.write(job.output(TOKEN_SCORES), pa.table({name: [] for name in TOKEN_SCORES.names}))
    return {"tokens": labelled, "why_not": why}


def out_of_fold(
    tokens: Tokens, groups: Ints, layers: Sequence[int], folds: int, inner: int, seed: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Method to risks [n], each from a fit that saw nothing of the token's document, and to the threshold that its training
    side chose [n]."""
    n = len(groups)
    fold = deal(tokens.label, groups, folds, seed)
    scores: dict[str, Floats] = {}
    thresholds: dict[str, Floats] = {}
    for number in range(folds):
        test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        label = tokens.label[train]
        inside = deal(label, groups[train], inner, seed + 1)
        found = {
            "logprob": (-tokens.logprob[train], -tokens.logprob[test]),
            "entropy": (tokens.entropy[train], tokens.entropy[test]),
        }
        for name in ("lens", "tracks"):
            found[name] = _ridge(tokens.tables[name], train, test, label, inside)
        for place, layer in enumerate(layers):
            found[f"probe_{layer}"] = _ridge(tokens.states[:, place], train, test, label, inside)
        learnt = [name for name in found if name not in PLAIN]
        if tokens.relation.any():
            rates = _rates(tokens.relation[train], label, int(tokens.relation.max()) + 1)
            found[RELATION] = (rates[tokens.relation[train]], rates[tokens.relation[test]])
        both = np.empty((n, len(learnt)), dtype=np.float32)  # inner held-out scores where the detector learns
        for column, name in enumerate(learnt):
            both[train, column], both[test, column] = found[name]
        everything = np.column_stack([*(tokens.tables[name] for name in ("token", "lens", "tracks")), both])
        found[DETECTOR] = _ridge(everything, train, test, label, inside)
        for name, (of_train, of_test) in found.items():
            scores.setdefault(name, np.empty(n))[test] = of_test
            thresholds.setdefault(name, np.empty(n))[test] = best_f1_threshold(label, of_train)
    return scores, thresholds


def _rates(relation: Ints, label: Ints, count: int) -> Floats:
    """Share of wrong tokens of each relation, [count]; one that is not there has that of all."""
    there = np.bincount(relation, minlength=count)
    wrong = np.bincount(relation, label, minlength=count)
    return np.where(there > 0, wrong / np.maximum(there, 1), label.mean())


def _ridge(values: NDArray[Any], train: Ints, test: Ints, label: Ints, inner: Ints) -> tuple[Floats, Floats]:
    """Scores of the training rows by fits without their inner fold, and of the test rows; penalty by inner AUROC."""
    standard = Standardiser.fit(values[train])
    z = standard(values[train])
    fitted = fit_ridges(z, label[:, None].astype(np.float64), inner, PENALTIES)
    best = int(np.argmax([auroc(label, held[:, 0]) for held in fitted.held_out]))
    scored = standard(values[test]) @ fitted.weights[best, :, 0] + fitted.centre[0]
    return fitted.held_out[best, :, 0].astype(np.float64), scored.astype(np.float64)


def wrong_answers(answers: Sequence[Answer], tokens: Tokens) -> Ints:
    """Of each answer with labelled tokens, in order, whether it is wrong: by its own label, else by its worst token."""
    rows = np.unique(tokens.question)
    worst = [int(tokens.label[tokens.question == row].max()) for row in rows]
    own = [answers[row].label for row in rows]
    return np.array([token if label is None else label for label, token in zip(own, worst, strict=True)])


def figures(
    tokens: Tokens,
    scores: Mapping[str, Floats],
    thresholds: Mapping[str, Floats],
    weights: Weights,
    confidence: float,
    wrong: Ints,
) -> dict[str, Any]:
    """Every figure [value, low, high] of each method, and the detector's lead over the plain scores, paired.

    weights: [1 + B, n], the sample's own in front; tokens of a document have one weight. wrong: from `wrong_answers`.
    """
    answer_of, first = np.unique(tokens.question, return_index=True)
    undefined = np.full(len(weights), np.nan)
    drawn: dict[str, dict[str, Floats]] = {}  # method → figure → [1 + B]
    for name, score in scores.items():
        ranks = rank_metrics(tokens.label, score, weights)
        worst = np.maximum.reduceat(score, first)  # tokens of an answer stand together
        both = 0 < wrong.sum() < len(wrong)
        drawn[name] = {
            "token_auroc": ranks.auroc,
            "token_auprc": ranks.auprc_wrong,
            "recall_at_0.1_false_alarms": recall_at_false_alarms(tokens.label, score, weights),
            "span_f1": span_f1(tokens, score >= thresholds[name], weights),
            "answer_auroc": rank_metrics(wrong, worst, weights[:, first]).auroc if both else undefined,
        }
        if tokens.relation.any():
            # The rates of a relation are lowest in the folds that have most of its wrong tokens: an order that tells nothing.
            alike = name == RELATION
            drawn[name][WITHIN] = undefined if alike else within_relation(tokens, score, weights)

    def told(figures: Mapping[str, Floats]) -> dict[str, list[float | None]]:
        return {figure: list(interval(values, confidence)) for figure, values in figures.items()}

    led, ours = ("token_auroc", "answer_auroc", WITHIN), drawn[DETECTOR]
    others = {name: own for name, own in drawn.items() if name != DETECTOR}
    lead = {name: told({f: ours[f] - own[f] for f in led if f in own}) for name, own in others.items()}
    return {
        "tokens": len(tokens.label),
        "wrong_tokens": int(tokens.label.sum()),
        "answers": len(answer_of),
        "wrong_answers": int(wrong.sum()),
        "methods": {name: told(figures) for name, figures in drawn.items()},
        "detector_less": lead,
    }


def within_relation(tokens: Tokens, score: Floats, weights: Weights) -> Floats:
    """Mean of the token AUROCs inside each relation that has tokens of both labels, [B]."""
    blocks = np.unique(tokens.relation, return_inverse=True)[1]
    return mean_of_defined(auroc_by_block(tokens.label, score, blocks, weights))


def recall_at_false_alarms(label: Ints, score: Floats, weights: Weights) -> Floats:
    """Share of wrong tokens that are flagged where at most `FALSE_ALARMS` of the right ones are, [B]."""
    order = np.argsort(-score, kind="stable")
    # Tokens of one score are flagged together.
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found = np.full(len(weights), np.nan)
    for number, weight in enumerate(weights):
        right = np.cumsum(weight[order] * (label[order] == 0))[ends]
        wrong = np.cumsum(weight[order] * (label[order] == 1))[ends]
        if right[-1] and wrong[-1]:
            allowed = np.flatnonzero(right <= FALSE_ALARMS * right[-1])
            found[number] = wrong[allowed[-1]] / wrong[-1] if len(allowed) else 0.0
    return found


def span_f1(tokens: Tokens, flagged: Bools, weights: Weights) -> Floats:
    """F1 of spans, [B]: a wrong span is found where a token of it is flagged, a flagged run is right where it touches one."""
    spans, runs = runs_of(tokens, tokens.label == 1), runs_of(tokens, flagged)
    hit = np.array([flagged[start:stop].any() for start, stop in spans], dtype=float)
    good = np.array([(tokens.label[start:stop] == 1).any() for start, stop in runs], dtype=float)
    of_spans, of_runs = (weights[:, [start for start, _ in parts]] for parts in (spans, runs))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (of_spans @ hit) / of_spans.sum(axis=1)
        precision = (of_runs @ good) / of_runs.sum(axis=1) if runs else np.zeros(len(weights))
        return np.nan_to_num(2 * precision * recall / (precision + recall))


def runs_of(tokens: Tokens, chosen: Bools) -> list[tuple[int, int]]:
    """Runs [start, stop) of chosen rows that stand side by side in one answer."""
    table = pd.DataFrame({"question": tokens.question, "token": tokens.token})[chosen]
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return []
    new = (table.question.diff() != 0) | (table.token.diff() != 1)
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(rows))
    return [(int(rows[start]), int(rows[stop - 1]) + 1) for start, stop in zip(starts, stops, strict=True)]
