"""The detector's results as plain records and tables: what each file of the unit holds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.neutral import csv_cell
from ghosttrack.common.maths.arrays import Ints
from ghosttrack.stages.detect.crossval import Decided

ROWS_AT_ONCE = 1 << 20
"""Of a table that is written."""

CSV_COLUMNS = ("id", "relation", "question", "answer", "gold", "label", "excluded", "score", "threshold", "predicted",
               "fold")  # fmt: skip


def score_rows(split: str, repeat: int, fold: int, test: Ints, method: str, decided: Decided) -> pd.DataFrame:
    """Rows of scores.parquet: what a method says of the test rows of a fold."""
    return pd.DataFrame(
        {
            "question": test.astype(np.int32),
            "split": split,
            "repeat": np.int8(repeat),
            "method": method,
            "fold": np.int16(fold),
            "score": decided.score.astype(np.float64),
            "probability": decided.probability.astype(np.float64),
            "predicted": decided.predicted.astype(np.int8),
            "raw_probability": decided.raw_probability.astype(np.float64),
        }
    )


def write_scores(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """scores.parquet: a row a (split, repeat, method, question), in this order. parts: of `score_rows`."""
    keyed: defaultdict[tuple[str, int, str], list[pd.DataFrame]] = defaultdict(list)
    for part in filter(len, parts):
        of_all: Any = part.iloc[0]
        keyed[of_all["split"], int(of_all["repeat"]), of_all["method"]].append(part)

    def of(keys: Sequence[tuple[str, int, str]]) -> pd.DataFrame:
        found = [
            pd.concat(keyed[key]).sort_values("question", kind="stable", ignore_index=True) for key in keys
        ]
        return pd.concat(found, ignore_index=True) if found else _no_scores()

    rows = max((sum(map(len, own)) for own in keyed.values()), default=1)
    keys, size = sorted(keyed), max(1, ROWS_AT_ONCE // rows)
    write_frames(path, (of(keys[start : start + size]) for start in range(0, max(len(keys), 1), size)))


def write_frames(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """A table that comes in pieces, each a row group, as pandas writes it."""
    tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _no_scores() -> pd.DataFrame:
    nothing, none = np.empty(0), np.empty(0, dtype=np.int64)
    rows = score_rows("", 0, 0, none, "", Decided(nothing, nothing, none, nothing, "", 0.0))
    return rows.astype({"split": "str", "method": "str"})


def undefined_because(sample: Mapping[str, Any], error: str) -> str:
    """Why wrong answers cannot be told from right ones, for people. sample: of `sample_summary`; error: of the protocol."""
    n, right = sample["n_labelled"], sample["n_right"]
    if not n:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in sample["excluded"].items())
        return f"None of {sample['n_questions']:,} answers has a label ({left_out}), so there is nothing to detect."
    if right in (0, n):
        word, mend = ("right", "harder") if right else ("wrong", "easier")
        every = "The only labelled answer is" if n == 1 else f"Every one of {n:,} labelled answers is"
        return f"{every} {word}, so there is nothing to detect; ask {mend} questions or other relations (data.relations)."
    return (
        f"{right:,} of {n:,} labelled answers are right and {n - right:,} wrong, which is too little to fit and to test a detector on: "
        f"{error}."
    )


def question_record(
    answer: Answer,
    group: int,
    reason: str | None,
    error_type: str | None,
    by_tracks: str | None,
    competition: Mapping[str, Any],
) -> dict[str, Any]:
    """A question without its scores. error_type, by_tracks: the kind of a wrong answer by its account, and by its tracks alone."""
    return {
        "id": answer.id,
        "relation": answer.relation,
        "group": f"g{group}",
        "question": answer.question,
        "answer": answer.answer,
        "gold": answer.gold,
        "label": answer.label if reason is None else None,
        "strict_label": answer.strict_label if reason is None else None,
        "excluded": reason,
        "matched": answer.matched,
        "error_type": error_type,
        "error_type_by_tracks": by_tracks,
        "competition": dict(competition),
        "split": None,
        "fold": None,
        "score": None,
        "threshold": None,
        "predicted": None,
    }


def asked_record(
    answer: Answer,
    threshold: float,
    reason: Mapping[str, Any] | None,
    excluded: str | None,
    competition: Mapping[str, Any],
) -> dict[str, Any]:
    """A line of scores.jsonl: a new question, the model's answer, how likely it is wrong, and why.

    reason: of `Detector.explain`; None where there is no score, for what `excluded` says.
    """
    known = dict(reason or {})
    score, unknown = known.pop("probability", None), bool(known.get("unfamiliar"))
    wrong = score is not None and score >= threshold
    return {
        "id": answer.id,
        "relation": answer.relation,
        "question": answer.question,
        "answer": answer.answer,
        "scored": reason is not None,
        "excluded": excluded,
        "score": score,
        "threshold": threshold,
        "verdict": None if score is None else "unfamiliar" if unknown else "wrong" if wrong else "right",
        "predicted": None if score is None or unknown else int(wrong),
        **known,
        "competition": dict(competition),
        "gold": answer.gold or None,
        "label": answer.label,
    }


def csv_rows(records: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Header and rows of classifications.csv; null is an empty cell, and no text is a formula."""
    rows = [
        ["" if record[name] is None else csv_cell(record[name]) for name in CSV_COLUMNS] for record in records
    ]
    return [list(CSV_COLUMNS), *rows]


def sample_summary(answers: Sequence[Answer], reasons: Sequence[str | None], groups: Ints) -> dict[str, Any]:
    """Counts of what was learned from, and of what was left out by reason."""
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    labels = [answers[row].label or 0 for row in kept]
    return {
        "n_questions": len(answers),
        "n_labelled": len(kept),
        "n_wrong": sum(labels),
        "n_right": len(labels) - sum(labels),
        "prevalence": sum(labels) / len(labels) if labels else None,
        "n_groups": len(np.unique(groups[kept])),
        "largest_group": int(np.bincount(groups[kept]).max()) if kept else 0,
        "n_relations": len({answers[row].relation for row in kept}),
        "n_without_subject": sum(not answers[row].subject_found for row in kept),
        "excluded": dict(sorted(Counter(reason for reason in reasons if reason).items())),
    }
