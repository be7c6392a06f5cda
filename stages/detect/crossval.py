"""One fold: everything is fitted, chosen, calibrated and given its threshold on the training side, then scores the test.

The training side is a smaller world of its own: its inner folds give every training row a score by fits that had not seen
it, and on these scores the probability is calibrated (Platt) and the threshold set (best F1). Nothing is chosen by how well
it does there: models are averaged over fixed penalties. The held-out rows are scored once, by the fits on the whole training side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.common.maths.calibration import fit_platt
from ghosttrack.common.maths.metrics import auroc, best_f1_threshold
from ghosttrack.common.maths.seeds import generator
from ghosttrack.stages.detect.anchored import counted, fit_anchored, fit_novelty, known, known_inside
from ghosttrack.stages.detect.columns import Columns, Experts, fit_experts
from ghosttrack.stages.detect.evidence import BEFORE_ANSWER, Data
from ghosttrack.stages.detect.features.contexts import ANCHOR
from ghosttrack.stages.detect.fitted.linear import Additive, fit_additive, fit_linear
from ghosttrack.stages.detect.methods import (
    ANCHORED,
    AVERAGED,
    CONTROLS,
    LENGTH_SIGNALS,
    MAIN,
    RIDGE,
    SINGLE,
    STACKS,
    TRAINED,
    UNTRAINED,
    MethodDescription,
    Scored,
    present,
)
from ghosttrack.stages.detect.protocol.folds import by_other_folds
from ghosttrack.stages.detect.protocol.splits import Fold

TABLES = ("text", "logits", "samples", "lens", "error", "tracks", "competition")


class Side(NamedTuple):
    """A training side with its experts, the held-out columns of its rows, and the columns of the test rows."""

    labels: Floats
    inner: Ints
    experts: Experts
    train: Columns
    test: Columns
    cells: Singles  # [n_train, n_cells] held-out probe scores
    test_cells: Singles
    relations: dict[str, int]  # training answers of each
    known: Floats  # [n_train] how far their relations are, by the other inner folds; see `anchored.known`
    test_known: Floats
    stacks: dict[str, tuple[Additive, Floats]]  # detector → its model, and its rows' held-out scores

    @property
    def trained(self) -> tuple[Additive, Floats]:
        """The trained part of the detector that is kept."""
        return self.stacks.get(TRAINED, self.stacks[MAIN])

    def signals_of(self, name: str) -> list[str]:
        """The signals of a detector (`STACKS`) that these rows have."""
        return present(name, self.train.signals)


class Decided(NamedTuple):
    """What a method says of the test rows of a fold."""

    score: Floats
    probability: Floats
    predicted: Ints
    raw_probability: Floats
    chosen: str
    threshold: float  # on the calibrated probability


def fit_side(data: Data, labels: Floats, fold: Fold) -> Side:
    """Everything that a fold's training side teaches, applied to its test side. data, labels: of all questions."""
    own_tables = {name: table for name, table in data.tables.items() if not name.startswith("rung/")}
    scored = replace(data, tables=own_tables)
    train, test = scored.of(fold.train), scored.of(fold.test)
    own = labels[fold.train]
    experts, columns, cells = fit_experts(
        train, own, fold.inner, [name for name in TABLES if name in data.tables]
    )
    named = [item.relation for item in train.asked]
    relations = counted(named)
    stacks = {}
    for name, (_, signals, _) in STACKS.items():
        read = present(name, columns.signals)
        if name == MAIN or not {"tracks", "contexts"} & set(signals) - set(read):
            stacks[name] = fit_additive(columns.of(read), own, fold.inner)
    return Side(
        own, fold.inner, experts, columns, experts.columns(test), cells, experts.probes.score(test.states), relations,
        known_inside(named, fold.inner), known([item.relation for item in test.asked], relations), stacks,
    )  # fmt: skip


def decide(scored: Scored, labels: Floats) -> Decided:
    """Calibration and threshold from the training rows' held-out scores, applied to the test rows."""
    platt = fit_platt(scored.held_out, labels)
    threshold = best_f1_threshold(labels, platt(scored.held_out))
    probability = platt(scored.test)
    if scored.log_odds:
        raw = 1 / (1 + np.exp(-scored.test))
    else:  # a score without a scale: the share of training answers that it puts lower
        raw = np.searchsorted(np.sort(scored.held_out), scored.test) / len(scored.held_out)
    return Decided(
        scored.test, probability, (probability >= threshold).astype(np.int64), raw, scored.chosen, threshold
    )


def signed(train: Floats, test: Floats, labels: Floats, chosen: str) -> Scored:
    """A single number as a score: turned round if higher means right in training; a missing one counts as the mean."""
    middle = float(np.nanmean(train)) if np.isfinite(train).any() else 0.0
    train, test = np.nan_to_num(train, nan=middle), np.nan_to_num(test, nan=middle)
    sign = -1.0 if auroc(labels, train) < 0.5 else 1.0
    return Scored(sign * train, sign * test, chosen, False)


LEAST_WORDS = 3
"""A question, on average, with fewer of which its script is taken to have no spaces between words."""


def score_tfidf(train: Sequence[str], test: Sequence[str], labels: Floats, inner: Ints) -> Scored:
    """Logistic regression on the TF-IDF of words and pairs of words of the question; of up to three characters in a row where
    the script puts no space between words. 0 for all where no two questions have anything in common."""
    spaced = sum(len(text.split()) for text in train) >= LEAST_WORDS * len(train)

    def fit(texts: Sequence[str], y: Floats, asked: Sequence[str]) -> Floats:
        words = (
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")
            if spaced
            else TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
        )
        try:
            values = words.fit_transform(texts)
        except ValueError:  # nothing is in two texts, which scikit-learn has no other word for
            return np.zeros(len(asked))
        model = LogisticRegression(C=1.0, max_iter=500).fit(values, y)
        return np.asarray(model.decision_function(words.transform(asked)))

    unseen = by_other_folds(
        inner, lambda rest, own: fit([train[row] for row in rest], labels[rest], [train[row] for row in own])
    )
    return Scored(unseen, fit(train, labels, test), "logistic regression", True)


def methods_of(
    data: Data, side: Side, fold: Fold, seed: int, early_layers: Sequence[int]
) -> Iterator[tuple[MethodDescription, Scored]]:
    """Every method with its scores on one fold."""
    yield from _baselines(data, side, fold)
    trained: dict[str, Scored] = {}
    for name, (model, held_out) in side.stacks.items():
        (title, _, description), read = STACKS[name], side.signals_of(name)
        trained[name] = Scored(held_out, model.score(side.test.of(read)), AVERAGED, True)
        yield MethodDescription(name, title, "detector", description, read), trained[name]
    if TRAINED in trained:
        yield from _anchored(data, side, fold, trained, seed)
    yield from _rungs(data, side, fold)
    yield from _early(data, side, fold, early_layers)


def _anchored(
    data: Data, side: Side, fold: Fold, trained: Mapping[str, Scored], seed: int
) -> Iterator[tuple[MethodDescription, Scored]]:
    """The anchor joined to the trained score, and what must not do as well in the contexts' place (`CONTROLS`)."""
    signals = side.signals_of(TRAINED)
    weight = fit_novelty(side.train.of(signals), side.inner).weight(side.test.of(signals))
    relation = np.array([item.relation for item in data.asked])

    def joined(train: Floats, test: Floats, trained: Scored, weight: Floats | float = 1.0) -> Scored:
        train, test = np.nan_to_num(train), np.nan_to_num(test)
        fitted = fit_anchored(train, trained.held_out)
        held_out = fitted.score(train, trained.held_out, side.known)
        return Scored(
            held_out, fitted.score(test, trained.test, side.test_known, weight), "not fitted", False
        )

    def control(name: str) -> Scored:
        train, test = side.train, side.test
        if name == "control/unweighted":
            return joined(train.column(ANCHOR), test.column(ANCHOR), trained[TRAINED])
        key = relation if name == "control/dealt" else np.zeros(len(relation))
        sides = zip((train, test), (fold.train, fold.test), strict=True)
        train, test = (
            columns.dealt("contexts", dealt(key[rows], generator(seed, name, str(place))))
            for place, (columns, rows) in enumerate(sides)
        )
        model, held_out = fit_additive(train.of(signals), side.labels, side.inner)
        scored = Scored(held_out, model.score(test.of(signals)), AVERAGED, True)
        return joined(train.column(ANCHOR), test.column(ANCHOR), scored)

    name, title, description = ANCHORED
    anchor = side.train.column(ANCHOR), side.test.column(ANCHOR)
    card = MethodDescription(name, title, "detector", description, signals)
    yield card, joined(*anchor, trained[TRAINED], weight)
    for name, (title, description, place) in CONTROLS.items():
        card = MethodDescription(name, title, "control", description, signals)
        if place is None:
            yield card, control(name)
        elif place[0] in side.train.names:
            train, test = (place[1] * columns.column(place[0]) for columns in (side.train, side.test))
            yield card, joined(train, test, trained[MAIN])


def dealt(key: NDArray[Any], random: np.random.Generator) -> Ints:
    """Row numbers dealt anew among the rows of each key, [n]; no row keeps its own where it can."""
    result = np.arange(len(key))
    for value in np.unique(key):
        order = random.permutation(np.flatnonzero(key == value))
        result[order] = np.roll(order, 1)
    return result


def _baselines(data: Data, side: Side, fold: Fold) -> Iterator[tuple[MethodDescription, Scored]]:
    train, test, probes = side.train, side.test, side.experts.probes
    for name, (column, title) in {**UNTRAINED, **SINGLE}.items():
        if column not in train.names:
            continue
        opening = f"{title[0].upper()}{title[1:]}; "
        if name in UNTRAINED:
            card = MethodDescription(name, title, "baseline", f"{opening}nothing is learned.", ["contexts"])
            yield card, Scored(train.column(column), test.column(column), "", False)
            continue
        signals = LENGTH_SIGNALS.get(name, [train.signals[train.names.index(column)]])
        chosen = probes.cell_name(probes.best, data.layers) if name == "linear_probe" else ""
        card = MethodDescription(name, title, "baseline", f"{opening}sign learned in training.", signals)
        yield card, signed(train.column(column), test.column(column), side.labels, chosen)
    questions = [item.question for item in data.asked]
    yield (
        MethodDescription("question_tfidf", "words of the question", "baseline", "TF-IDF of the question, logistic regression.", ["question"]),
        score_tfidf([questions[row] for row in fold.train], [questions[row] for row in fold.test], side.labels, side.inner),
    )  # fmt: skip


def _ridge(train: NDArray[np.floating], test: NDArray[np.floating], side: Side) -> Scored:
    model, held_out = fit_linear(train, side.labels, side.inner)
    return Scored(held_out, model.score(test), RIDGE, False)


def _rungs(data: Data, side: Side, fold: Fold) -> Iterator[tuple[MethodDescription, Scored]]:
    """The same features and model on the tracks of every association."""
    for name in sorted(data.tables):
        if name.startswith("rung/"):
            rung, values = name.removeprefix("rung/"), data.tables[name].values
            title, description = f"tracks, {rung.replace('_', ' ')}", "Track features of this association."
            card = MethodDescription(name, title, "rung", description, ["tracks"], rung)
            yield card, _ridge(values[fold.train], values[fold.test], side)


def _early(
    data: Data, side: Side, fold: Fold, early_layers: Sequence[int]
) -> Iterator[tuple[MethodDescription, Scored]]:
    """Ridge regressions on the probes and the logit lens of the layers up to l, with the answer and from the prompt alone.

    Of the lens only its entropy: the curves of the emitted token and its rival are of tokens that the last layer chose.
    """
    depth = len(data.layers)
    lens = data.tables["lens"]
    entropies = [re.fullmatch(r"lens\.(\w+)\.entropy\.(\d+)", name) for name in lens.names]
    curve_layer = np.array([int(found[2]) if found else -1 for found in entropies])
    in_prompt = np.array([found is not None and found[1] in BEFORE_ANSWER for found in entropies])
    cell_layer = np.tile(data.layers, side.cells.shape[1] // depth)
    cell_in_prompt = np.arange(side.cells.shape[1]) // depth < len(BEFORE_ANSWER)
    description = "Probes and the logit lens' entropy, of the layers up to this one."
    for layer in early_layers:
        for before in (True, False):
            cells = (cell_layer <= layer) & (cell_in_prompt | (not before))
            curves = (curve_layer >= 0) & (curve_layer <= layer) & (in_prompt | (not before))
            train, test = (
                np.concatenate([of_cells[:, cells], lens.values[rows][:, curves]], axis=1)
                for of_cells, rows in ((side.cells, fold.train), (side.test_cells, fold.test))
            )
            last = layer == early_layers[-1]
            name = f"early/{layer}{'/prompt' if before else ''}" if not (before and last) else "prompt"
            title = f"layers up to {layer}{', prompt alone' if before else ''}"
            seen = ["probe", "lens"]
            card = MethodDescription(name, title, "early", description, seen, None, layer, before)
            yield card, _ridge(train, test, side)
