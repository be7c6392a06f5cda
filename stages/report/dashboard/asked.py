"""New questions in the dashboard: those of the last `ghosttrack score`, and those that are asked while it is served.

They come after the run's own, with ids that begin with `new:`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.cells import cells_of
from ghosttrack.common.formats.detector import ASKED_SCORES
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.questions import NEW
from ghosttrack.stages.report.dashboard.measured import measurements
from ghosttrack.stages.report.dashboard.questions import DrawnTracks
from ghosttrack.stages.report.dashboard.reasons import explanation
from ghosttrack.stages.report.results import Results

Record = dict[str, Any]


def read_new(results: Results) -> tuple[list[Record], list[Record]]:
    """results: of new questions (`Results.of_new_questions`). The records of their answers, with what was measured of each,
    and of their scores."""
    answers, scores = results.lines(GENERATIONS), results.lines(ASKED_SCORES)
    measured = measurements(results, answers)
    records = [
        {**told(answer, score, NEW + answer["id"]), **its}
        for answer, score, its in zip(answers, scores, measured, strict=True)
    ]
    return records, [{**score, "id": NEW + score["id"]} for score in scores]


def read_questions(results: Results) -> tuple[list[Record], list[Record], list[Record]]:
    """The records of a run's own answers and of new ones, and the scores of all of them; what is not there is empty."""
    own = results.lines(GENERATIONS) if results.has(GENERATIONS) else []
    scores = (results.json_if_there(SCORES) or {"questions": []})["questions"]
    new = results.of_new_questions()
    others, their_scores = read_new(new) if new else ([], [])
    return own, others, [*scores, *their_scores]


def told(answer: Mapping[str, Any], score: Mapping[str, Any], identity: str) -> Record:
    """The record of an answer with what its score says of its tokens and of why."""
    risks = enumerate(score.get("token_risks") or (), start=1)
    return {
        **answer,
        "id": identity,
        "explanation": explanation(score),
        "risk": [{"position": position, "risk": risk, "label": None} for position, risk in risks],
    }


def with_new(found: DrawnTracks, new: DrawnTracks, questions: int) -> DrawnTracks:
    """Both, the new ones after so many questions. The census stays that of the run."""
    start, _ = cells_of(questions)

    def joined(own: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if not own or not other:  # without an account there is nothing to go on with
            return own
        moved = {**other, "cell": other["cell"] + start}
        return {name: np.concatenate([own[name], moved[name]]) for name in own}

    tables = ("nodes", "account", "layers", "lens", "candidates")
    both: dict[str, Any] = {name: joined(getattr(found, name), getattr(new, name)) for name in tables}
    return replace(found, **both, n_tracks=found.n_tracks + new.n_tracks)
