"""What was measured of each question beside its tracks: where its answer came from, what the model says with tracks taken
out, how candidate answers stand in other contexts, and the risk of every token."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.contexts import CONTEXTS, contexts_by_owner, contexts_of, read_contexts
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.file import Table, only
from ghosttrack.common.formats.reasons import REASONS
from ghosttrack.common.formats.token_scores import TOKEN_SCORES
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.report.results import Results

AS_ASKED = "as asked"
MEASURED = ("kind", "size", "position", "track", "predicted", "drop", "control_drop", "token", "control_token", "changed", "control_changed", "right")  # fmt: skip


def measurements(
    results: Results, records: Sequence[Mapping[str, Any]], questions: range | None = None
) -> list[dict[str, Any]]:
    """Of each record what there is of `reason, interventions, contexts, risk`. records: all, or those of some `questions`."""
    first = questions.start if questions else 0
    found: list[dict[str, Any]] = [{} for _ in records]
    if not records:
        return found
    if results.has(REASONS):
        told = results.kept("reasons by question", lambda: _reasons(results))
        for number, of_it in enumerate(found, start=first):
            if number in told:
                of_it["reason"] = told[number]
    _add(results, found, "interventions", CAUSES, MEASURED, questions)
    _add(results, found, "risk", TOKEN_SCORES, ("position", "risk", "label"), questions)
    if results.has(EVIDENCE):
        for number, streams in enumerate(_streams(results, records, questions)):
            found[number]["contexts"] = streams
    return found


def _reasons(results: Results) -> dict[int, dict[str, Any]]:
    lines = REASONS.each(results.path(REASONS))
    kept = ("kind", "sentence", "position")
    return {line["question"]: {key: line.get(key, 0) for key in kept} for line in lines}


def tokens_said(record: Mapping[str, Any]) -> list[int]:
    """Numbers of the tokens that the model says with tracks taken out."""
    return [row[key] for row in record.get("interventions", ()) for key in ("token", "control_token")]


def _add(
    results: Results,
    found: list[dict[str, Any]],
    key: str,
    file: Table,
    columns: Sequence[str],
    questions: range | None,
) -> None:
    """The rows of a table to their questions."""
    if results.has(file):
        frame: Any = file.frame(results.path(file), ["question", *columns], where=only(questions))
        frame["question"] -= questions.start if questions else 0
        wide = {name: float for name in columns if frame[name].dtype.kind == "f"}
        frame = frame.astype(wide).round(4).astype(object).where(frame.notna(), None)
        for number, rows in frame.groupby("question"):
            found[number][key] = rows[list(columns)].to_dict("records")


def _streams(
    results: Results, records: Sequence[Mapping[str, Any]], questions: range | None
) -> list[dict[str, Any]]:
    """Of each question `kinds`, of its contexts, `answers`: text, side (1 the model's own, 2 a right one, 0 another) and
    probability in each context, what is left to one being that of all other answers, and what it comes to in a `sentence`."""
    kinds: list[list[str]] = [[] for _ in records]
    if results.has(CONTEXTS):
        path = results.path(CONTEXTS)
        own = results.kept("contexts by owner", lambda: contexts_by_owner(read_contexts(path)))
        kinds = [[each.kind for each in contexts_of(own, record)] for record in records]
    table = EVIDENCE.read(results.path(EVIDENCE), where=only(questions))
    first = questions.start if questions else 0
    bounds = np.searchsorted(table["question"], first + np.arange(len(records) + 1))
    found = []
    for number, record in enumerate(records):
        rows = slice(bounds[number], bounds[number + 1])
        shape = [int(table[name][rows].max(initial=-1)) + 1 for name in ("context", "hypothesis")]
        chance = np.zeros(shape)
        chance[table["context"][rows], table["hypothesis"][rows]] = np.exp(table["total"][rows].astype(float))
        golds = {normalise(alias) for alias in record.get("aliases") or ()}
        texts = dict(zip(table["hypothesis"][rows].tolist(), table["text"][rows].tolist(), strict=True))
        answers = [
            [texts.get(k, ""), 1 if k == 0 else 2 if normalise(texts.get(k, "")) in golds else 0,
             chance[:, k].round(4).tolist()]
            for k in range(shape[1])
        ]  # fmt: skip
        named = [AS_ASKED, *kinds[number]][: shape[0]]
        given = rows.start + np.flatnonzero(table["greedy"][rows])  # a row a context
        said = [str(text) for text in table["text"][given[table["context"][given] > 0]]]
        sentence = in_other_contexts(texts.get(0, ""), said, chance[:, 0]) if said else ""
        named += ["?"] * (shape[0] - len(named))
        found.append({"kinds": named, "answers": answers, "sentence": sentence})
    return found


def in_other_contexts(answer: str, said: Sequence[str], chance: NDArray[np.float64]) -> str:
    """What the model says in other contexts, and how likely it finds its answer there. said: its answer in each; chance:
    [1 + n] of the answer, as asked and in each."""
    others = Counter(text or "nothing" for text in said if text != answer)
    where = "the other context" if len(said) == 1 else f"{len(said)} other contexts"
    if not others:
        opening = f"The model gives the same answer in {where}"
    else:
        listed = [f"“{text}” {_times(count)}" for text, count in others.most_common(MOST_LISTED)]
        more = [f"{len(others) - MOST_LISTED} other answers"] if len(others) > MOST_LISTED else []
        same = len(said) - others.total()
        gives = f"gives this answer {_times(same)}" if same else "never gives this answer"
        opening = f"In {where} the model {gives}, and says {', '.join([*listed, *more])}"
    elsewhere = float(chance[1:].mean())
    return f"{opening}. The answer had a probability of {chance[0]:.0%} as asked and has {elsewhere:.0%} on average in the others."


MOST_LISTED = 3
"""Other answers that a sentence names."""


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
