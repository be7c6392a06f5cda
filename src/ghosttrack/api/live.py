"""What the served dashboard can do besides showing files: ask a new question, and take tracks out of an answer.

One thing at a time, since there is one model; it is loaded when it is first wanted. Nothing is published.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghosttrack.api.asked import Asked
from ghosttrack.api.question import Question
from ghosttrack.api.run import SCORES_OF_ASKED, Run, _as_row
from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.questions import NEW, OF_NEW
from ghosttrack.common.formats.snapshot import TOKENIZER
from ghosttrack.stages.report.dashboard.slices import Slices
from ghosttrack.stages.report.results import Results

if TYPE_CHECKING:
    from ghosttrack.stages.track.intervening import Find

LONGEST = 20_000
"""Characters of a question."""


class Fresh(Results):
    """The files of a question that was asked a moment ago, in the places of a run's own."""

    def __init__(self, results: Results, find: Find) -> None:
        super().__init__(results.store, results.name, results.entries, results.deep)
        self._find = find

    def has(self, file: File) -> bool:
        if file.unit in OF_NEW:
            return self.path(file).exists()
        return file.unit == TOKENIZER.unit and super().has(file)

    def path(self, file: File) -> Path:
        return self._find(file) if file.unit in OF_NEW else super().path(file)


class Live:
    """run: the one that `slices` shows."""

    def __init__(self, run: Run, results: Results, slices: Slices) -> None:
        self._run, self._results, self._slices = run, results, slices
        self._asked: dict[str, Asked] = {}
        self._model = threading.Lock()

    def ask(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a question, and score the answer. wanted: `question`, and if wanted `relation` and `subject`. The
        short record of the answered question."""
        question, relation, subject = (wanted.get(key) for key in ("question", "relation", "subject"))
        if not isinstance(question, str) or not 0 < len(question.strip()) <= LONGEST:
            raise DataError(f"a question is a text of 1 to {LONGEST} characters")
        if any(each is not None and not isinstance(each, str) for each in (relation, subject)):
            raise DataError("relation and subject are texts, or left out")
        with self._model, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the page says it
            row = _as_row(question, relation=relation, subject=subject)
            [found] = self._run._session.ask([row], last=(SCORES_OF_ASKED, OF_NEW["track/account"]))
            fresh = Fresh(self._results, found._find)
            [answer] = fresh.lines(GENERATIONS)
            record = self._slices.add(fresh, answer, found.record or {})
            self._asked[record["id"]] = found
        return record

    def without(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Take tracks out of the model. wanted: `question` (its id), `tracks` at a `position`. What the model says
        without them."""
        name, tracks, position = wanted.get("question"), wanted.get("tracks"), wanted.get("position", 0)
        if not isinstance(tracks, Sequence) or not tracks or not all(type(track) is int for track in tracks):
            raise DataError("tracks are the numbers of one or more tracks")
        if position not in (0, -1):
            raise DataError("tracks are taken out at the last prompt token (0) or at the subject (-1)")
        with self._model:
            result: dict[str, Any] = dict(self._question(name).without(*tracks, position=position)._result)
        return json.loads(json.dumps(result, default=float)) if result else {}

    def _question(self, name: Any) -> Question:
        if not isinstance(name, str):
            raise DataError("question is the id of one")
        scored = {NEW + each.id: each for each in self._run.asked} if name.startswith(NEW) else {}
        return self._asked.get(name) or scored.get(name) or self._run.question(name)
