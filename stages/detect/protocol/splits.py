"""Who is learned from and who is scored: every split is a list of folds, and nothing of a fold's test rows is trained on.

A fifth of the groups, the same whatever the seed, is the frozen test: split `test` trains on all other rows (the
development rows) and scores it, once. All other splits live on the development rows alone:

- `grouped`, repeated: whole groups are held out;
- `relations`, repeated: whole relations are held out; a subject may have been seen in another relation, a text may not. The first
  division is as even in classes as can be, the others are drawn: which relations are held out together moves the figure by
  more than its interval over questions;
- `answers`: neither the group nor the answer that the model gave is seen in training (the answer given, since features see
  that one and never the right one). Since groups and answers together hang in one piece, rows are divided by both at once
  and a fold is one part of the one crossed with one of the other.

The inner folds of a training side, on which everything is chosen, hold out groups, relations or answers as the outer ones do.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ghosttrack.common.config.schema import DetectionConfig
from ghosttrack.common.errors import LabelError
from ghosttrack.common.maths.arrays import Bools, Ints
from ghosttrack.stages.detect.protocol.folds import MEND, assert_groups_whole, deal, drawn, grouped_folds

TEST_FRACTION = 0.2
FROZEN_SEED = 20
"""Of the frozen test alone, so that no other seed deals it anew."""


class LabelledRows(NamedTuple):
    """The labelled questions; all arrays are [n]."""

    row: Ints  # numbers by which folds name them
    label: Ints  # 1 wrong, 0 right
    group: Ints
    relation: Ints
    answer: Ints  # number of the normalised answer that the model gave
    text: Ints  # number of the normalised question

    def where(self, chosen: Bools) -> "LabelledRows":
        return LabelledRows(*(column[chosen] for column in self))


class Fold(NamedTuple):
    """A training side and the rows that are scored by what it fits."""

    train: Ints  # row numbers, ascending
    test: Ints  # row numbers, ascending
    inner: Ints  # [len(train)] inner fold of each training row


class SplitFolds(NamedTuple):
    name: str
    repeat: int
    folds: list[Fold]


def all_splits(rows: LabelledRows, plan: DetectionConfig, seed: int) -> list[SplitFolds]:
    """Every split of the protocol. `relations` and `answers` need more relations and answers than folds.

    Raises LabelError or DataError where the rows cannot be divided.
    """
    frozen = grouped_folds(rows.label, rows.group, round(1 / TEST_FRACTION), FROZEN_SEED) == 0
    development = rows.where(~frozen)

    def divided(
        name: str, repeat: int, held_out: str, seed: int, sides: Iterable[tuple[Bools, Bools]]
    ) -> SplitFolds:
        scored = [(train, test) for train, test in sides if test.any()]
        folds = [_fold(development, train, test, held_out, plan.inner_folds, seed) for train, test in scored]
        return SplitFolds(name, repeat, folds)

    splits = []
    for repeat in range(plan.repeats):
        outer = grouped_folds(development.label, development.group, plan.folds, seed + 1 + repeat)
        splits.append(divided("grouped", repeat, "group", seed + 1 + repeat, _each_apart(outer)))
    splits.append(SplitFolds("test", 0, [_fold(rows, ~frozen, frozen, "group", plan.inner_folds, seed + 1)]))
    if plan.relation_folds > 1 and len(np.unique(development.relation)) > plan.relation_folds:
        for repeat in range(plan.repeats):
            outer = (
                drawn(development.relation, plan.relation_folds, seed + repeat)
                if repeat
                else deal(development.label, development.relation, plan.relation_folds, seed)
            )
            splits.append(divided("relations", repeat, "relation", seed + repeat, _each_apart(outer)))
    if plan.answer_folds > 1 and len(np.unique(development.answer)) > plan.answer_folds:
        by_answer, by_group = (
            list(_each_apart(deal(development.label, keys, plan.answer_folds, seed)))
            for keys in (development.answer, development.group)
        )
        crossed = [(a & b, c & d) for a, c in by_answer for b, d in by_group]
        splits.append(divided("answers", 0, "answer", seed, crossed))
    learnable = [split for split in splits if _can_be_learned(rows, split)]
    if not {"grouped", "test"} <= {split.name for split in learnable}:
        raise LabelError(
            f"{len(rows.label)} labelled questions ({int(rows.label.sum())} wrong) in {len(np.unique(rows.group))} groups leave some "
            f"training side with one class only; {MEND}"
        )
    return learnable


def _each_apart(folds: Ints) -> Iterator[tuple[Bools, Bools]]:
    """Training rows and test rows where each fold in turn is held out."""
    return ((folds != fold, folds == fold) for fold in np.unique(folds))


def _can_be_learned(rows: LabelledRows, split: SplitFolds) -> bool:
    """Whether every inner training side has both classes; few relations or answers may leave one without."""
    label = dict(zip(rows.row.tolist(), rows.label.tolist(), strict=True))
    return all(
        len({label[row] for row in fold.train[fold.inner != inner].tolist()}) == 2
        for fold in split.folds
        for inner in np.unique(fold.inner)
    )


def _fold(rows: LabelledRows, train: Bools, test: Bools, held_out: str, inner_folds: int, seed: int) -> Fold:
    """held_out: the field of `LabelledRows` that no row of the test shares with a training row; a text is never shared."""
    train = train & ~np.isin(rows.text, rows.text[test])
    side = rows.where(train)
    used = train | test
    assert_groups_whole(test[used], getattr(rows, held_out)[used])
    keys = getattr(side, held_out)
    inner_folds = min(inner_folds, len(np.unique(keys)))
    divide = grouped_folds if held_out == "group" else deal
    # One relation alone cannot be divided; a split with such a side is left out by its caller.
    inner = divide(side.label, keys, inner_folds, seed) if inner_folds > 1 else np.zeros_like(keys)
    order = np.argsort(side.row)
    return Fold(side.row[order], np.sort(rows.row[test]), inner[order])
