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

    def score(self, questions: Sequence[str | Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
        """A row a question: text, answer, verdict (wrong, right, unfamiliar), probability (of being wrong), low, high,
        baseline (by the probability of the answer alone), in_fit.

        questions: texts as `run.ask` takes them, or records (a DataFrame's rows too) with `question` or `prompt` and if wanted `relation`, `subject`,
        `answer`, or in the columns of the run's own file or a known data set. A row that cannot be asked has nothing but its text, and a notice says why. in_fit: the detector was fitted on that very question.
        """
        import pandas as pd

        given: Any = [questions] if isinstance(questions, (str, Mapping)) else questions
        if isinstance(given, pd.DataFrame):
            given = given.to_dict("records")
        rows = [each if isinstance(each, Mapping) else _as_row(each) for each in given]
        columns = {} if any(isinstance(each, str) for each in given) else self._run.config.data.columns
        asked: dict[int | None, list[Any]] = {}
        for each in self._run._session.ask(rows, columns) if rows else []:
            asked.setdefault(each.row, []).append(each)  # two, where a data set has two responses a row
        pairs = [
            (row, each) for number, row in enumerate(rows, start=1) for each in asked.get(number, [None])
        ]
        found = [each for _, each in pairs]
        table = {
            "question": [
                each.text if each else row.get("question", row.get("prompt")) for row, each in pairs
            ],
            "answer": [each and each.answer for each in found],
            "verdict": [each and each.verdict for each in found],
            "probability": [each and each.probability for each in found],
            "low": [each.interval[0] if each and each.interval else None for each in found],
            "high": [each.interval[1] if each and each.interval else None for each in found],
            "baseline": [each and each.baseline for each in found],
            "in_fit": [each and each.in_fit for each in found],
        }
        return pd.DataFrame(table)
