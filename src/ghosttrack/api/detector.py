"""The stored detector of a run as an object: scores for texts or records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ghosttrack.api.run import _as_row

if TYPE_CHECKING:
    import pandas as pd

    from ghosttrack.api.run import Run


class RunDetector:
    """Made by `run.detector`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"<Detector of {self._run.name}>"

    def score(self, questions: Sequence[str | Mapping[str, Any]]) -> pd.DataFrame:
        """A row a question: text, answer, verdict (wrong, right, unfamiliar), probability (of being wrong), low, high,
        baseline (by the log-probability alone), in_fit.

        questions: texts as `run.ask` takes them, or records with `question` or `prompt` and if wanted `relation`, `subject`,
        `answer`. in_fit: the detector was fitted on that very question.
        """
        import pandas as pd

        if isinstance(questions, (str, Mapping)):
            questions = [questions]
        rows = [each if isinstance(each, Mapping) else _as_row(each) for each in questions]
        found = self._run._session.ask(rows) if rows else []
        table = {
            "question": [each.text for each in found],
            "answer": [each.answer for each in found],
            "verdict": [each.verdict for each in found],
            "probability": [each.probability for each in found],
            "low": [None if each.interval is None else each.interval[0] for each in found],
            "high": [None if each.interval is None else each.interval[1] for each in found],
            "baseline": [each.baseline for each in found],
            "in_fit": [each.in_fit for each in found],
        }
        return pd.DataFrame(table)
