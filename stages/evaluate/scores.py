"""What `detect` publishes, read and checked: questions, methods, and every method's scores on every split.

Nothing is fitted or repaired here. What contradicts itself is an error; what could be there and is not (a split, a
method in a split) is left out and said in `Detection.absent`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from ghosttrack.common.errors import CorruptInputError, LabelError, NumericError
from ghosttrack.common.formats.detection_metrics import METRICS, Permutations
from ghosttrack.common.formats.final_report import MethodCard
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.ladder import RUNGS
from ghosttrack.common.formats.scores import (
    MAIN_SPLIT,
    SCORE_TABLE,
    SPLITS,
    TRANSFER,
    SplitText,
    is_split,
    split_text,
)
from ghosttrack.common.maths.arrays import Bools, Floats, Ints

VALUES = ("probability", "raw_probability", "predicted")
COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "relation", "group", "label", "strict_label", "error_type", "error_type_by_tracks")), "matched": {},
}  # fmt: skip
"""Of hallucination_scores.json, what is looked at of a question, and what it is where nothing is said. Labels: 1 wrong, 0 right,
NaN left out; matched: matcher → 1 wrong, 0 right."""


class Scores(NamedTuple):
    """One method's results on the n questions of a split, in R repeats.

    Questions are ranked by the calibrated probability: unlike a raw score it means the same in every fold, whatever the
    fold's training side chose.
    """

    probability: Floats  # [R, n] calibrated probability of being wrong
    raw_probability: Floats  # [R, n] before calibration
    predicted: Ints  # [R, n] 1: called wrong

    def only(self, rows: Bools) -> "Scores":
        return Scores(self.probability[:, rows], self.raw_probability[:, rows], self.predicted[:, rows])


class ScoredSplit(NamedTuple):
    """The n labelled questions of a split and the methods that scored all of them."""

    name: str
    questions: pd.DataFrame
    """A row each, of `COLUMNS`, by line of generations.jsonl (of the other data set's questions in `transfer`)."""
    methods: dict[str, Scores]
    origin: str | None = None
    """Of a transfer: the configuration whose detector scored these questions."""

    @property
    def label(self) -> Floats:
        """[n]"""
        return self.questions["label"].to_numpy()

    @property
    def text(self) -> SplitText:
        return split_text(self.name, self.origin)


class Detection(NamedTuple):
    """All that evaluation needs of `detect`."""

    detector: str  # the main one
    rung: str | None  # the rung whose association the detector's tracks were made by
    cards: dict[str, MethodCard]
    questions: pd.DataFrame  # of `COLUMNS`, in the order of generations.jsonl
    counts: Mapping[str, Any]  # of the questions, as detection_metrics.json has them
    splits: dict[str, ScoredSplit]  # in the order of SPLITS
    permutation: Permutations | None
    openings: int | None  # of the frozen test
    error_types: dict[str, str]  # name → description
    absent: list[str]
    undefined: str | None = None  # why nothing could be told apart; then there are no methods and splits


def read_detection(questions_path: Path, metrics_path: Path, scores_path: Path) -> Detection:
    """Raises CorruptInputError for files that contradict themselves or each other, NumericError for NaN scores,
    LabelError if the questions of the main split are all right or all wrong."""
    metrics = METRICS.read(metrics_path)
    content = SCORES.read(questions_path)
    questions, others = (_questions(content.get(key, ())) for key in ("questions", "other_questions"))
    if why := metrics.get("undefined"):
        return Detection(
            metrics["detector"], None, {}, questions, metrics, {}, None, None, {}, metrics["absent"], why
        )
    cards, detector = _cards(metrics), metrics["detector"]
    if detector not in cards or cards[detector].kind != "detector":
        raise CorruptInputError(f"{metrics_path}: {detector!r} is not one of its detectors; run detect again")
    origins = {each["split"]: each["from"] for each in metrics.get("transfers", [])}
    absent = list(metrics["absent"])
    splits = {}
    for name, table in _tables(scores_path):
        asked = others if name.startswith(TRANSFER) else questions
        if split := _split(name, table, asked, cards, scores_path, absent, origins.get(name)):
            splits[name] = split
    if MAIN_SPLIT not in splits or detector not in splits[MAIN_SPLIT].methods:
        raise CorruptInputError(
            f"{scores_path} has no scores of detector {detector!r} on split {MAIN_SPLIT!r}; run detect again"
        )
    told, missing = " ".join(absent), [text.title for name, text in SPLITS.items() if name not in splits]
    absent += [f"{title}: not scored." for title in missing if title not in told]
    return Detection(
        detector=detector,
        rung=next((card.name for card in cards.values() if card.rung == metrics["associator"]), None),
        cards=cards,
        questions=questions,
        counts=metrics,
        splits=dict(sorted(splits.items(), key=lambda item: _place(item[0]))),
        permutation=metrics["permutation"] and Permutations.model_validate(metrics["permutation"]),
        openings=metrics.get("frozen_test_openings"),
        error_types=metrics["error_types"],
        absent=absent,
    )


def _place(name: str) -> tuple[int, int]:
    """Order of the report: as SPLITS has them, transfers by number."""
    base, _, number = name.partition("_")
    return list(SPLITS).index(base), int(number or 1)


def _questions(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [[record.get(name, default) for name, default in COLUMNS.items()] for record in records]
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return table.astype({"label": np.float64, "strict_label": np.float64})


def _cards(metrics: Mapping[str, Any]) -> dict[str, MethodCard]:
    """Methods by name, in their order, rungs behind the others in the ladder's. A classifier on several signals is a baseline
    when tracks are not among them."""
    cards = []
    for entry in metrics["methods"]:
        own = {name: entry[name] for name in MethodCard.model_fields}
        own["title"] = RUNGS.get(own["rung"], own["title"])
        if own["kind"] == "detector" and "tracks" not in own["signals"]:
            own["kind"] = "baseline"
        cards.append(MethodCard(**own))
    order = list(RUNGS)
    cards.sort(key=lambda card: order.index(card.rung) if card.rung in order else -1)
    return {card.name: card for card in cards}


def _tables(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each split, one after another."""
    columns = ["question", "split", "repeat", "method", *VALUES]
    table = SCORE_TABLE.table(path, columns, dictionaries=["split", "method"])
    names = table["split"].unique().to_pylist()
    if unknown := sorted(name for name in names if not is_split(name)):
        raise CorruptInputError(
            f"{path} has unknown splits {unknown}, known are {list(SPLITS)}; run detect again"
        )
    for name in names:
        yield name, table.filter(pc.equal(table["split"], name)).to_pandas()


def _split(
    name: str,
    table: pd.DataFrame,
    questions: pd.DataFrame,
    cards: Mapping[str, MethodCard],
    path: Path,
    absent: list[str],
    origin: str | None,
) -> ScoredSplit | None:
    """None, with a sentence in `absent`, for a side split that has one class only."""
    if table["question"].max() >= len(questions):
        raise CorruptInputError(
            f"{path}: split {name!r} has question {table['question'].max()}, but there are {len(questions)}; run detect again"
        )
    label = questions["label"].to_numpy()
    labelled = table[np.isfinite(label[table["question"]])]
    rows, repeats = np.unique(labelled["question"]), np.unique(labelled["repeat"])
    labels = label[rows]
    if len(np.unique(labels)) < 2:
        some = "no labelled answers"
        if len(rows):
            some = f"{len(rows)} answers, all {'wrong' if labels[0] else 'right'}"
        message = f"split {name!r} has {some}: there is nothing to tell apart"
        if name == MAIN_SPLIT:
            raise LabelError(f"{path}: {message}; ask more questions or other relations (data.relations)")
        absent.append(f"{split_text(name, origin).title}: {message}.")
        return None
    methods = {}
    for method in cards:
        mine = labelled[labelled["method"] == method].sort_values(["repeat", "question"], kind="stable")
        if mine.empty:
            if name == MAIN_SPLIT:
                absent.append(f"{SPLITS[name].title}: {cards[method].title} was not scored.")
            continue
        values = np.array([mine[column] for column in VALUES], dtype=np.float64)
        if not (finite := np.isfinite(values).all(axis=0)).all():
            bad = questions["id"][mine["question"].iloc[int(np.argmin(finite))]]
            raise NumericError(
                f"{path}: a score of question {bad!r} by {method!r} in split {name!r} is not finite; run detect again"
            )
        probability, raw_probability, predicted = values.reshape(len(VALUES), len(repeats), len(rows))
        methods[method] = Scores(probability, raw_probability, predicted.astype(np.int64))
    return ScoredSplit(name, questions.iloc[rows], methods, origin)
