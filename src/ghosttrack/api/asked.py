"""A new question that was answered, tracked and scored. It has all that a question of a run has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ghosttrack.api.question import Question
from ghosttrack.common.engine.progress import format_probability

if TYPE_CHECKING:
    import pandas as pd

    from ghosttrack.stages.track.intervening import Interventions


class Asked(Question):
    """Made by `run.ask`, whose files go with it, or by `run.asked`."""

    @property
    def row(self) -> int | None:
        """Its number among the questions that were asked with it, from 1."""
        return self._answer.row

    @property
    def in_fit(self) -> bool:
        """Whether the stored detector was fitted on the very same prompt, so that its score says nothing new."""
        return self._run._fitted_prompts.get(self.prompt) is not None

    @property
    def unfamiliar(self) -> bool:
        """Whether the question is unlike all that the detector was fitted on; it calls 5 % of its own kind so."""
        return bool(self.record and self.record.get("unfamiliar"))

    @property
    def verdict(self) -> str | None:
        """`wrong`, `right` or `unfamiliar`; None where there is no score."""
        return None if self.record is None else self.record["verdict"]

    @property
    def baseline(self) -> float | None:
        """How likely the answer is wrong by its own probability alone, calibrated; of a long answer four tokens count."""
        return None if self.record is None else self.record.get("baseline")

    @property
    def _reason(self) -> Mapping[str, Any]:
        """Of a run's own questions only."""
        return {}

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """A row an answer token: text, logprob, entropy (nats), and risk: how likely the answer is wrong, seen up to it."""
        table = super().tokens
        risks = None if self.record is None else self.record.get("token_risks")
        return table if risks is None else table.assign(risk=risks)

    @property
    def _interventions(self) -> Interventions:
        return self._run._interventions.of_asked(self._find)

    @property
    def notices(self) -> list[str]:
        """What a reader of the score should know, in words."""
        found = []
        if self.in_fit:
            own = self._run._fitted_prompts[self.prompt]
            found.append(
                f"the detector was fitted on this question ({own}): run.question({own!r}) has a score by one that was not"
            )
        if self.record and self.record.get("other_form"):
            found.append(f"the prompt is {self.record['form']}, a form that the detector was not fitted on")
        return found

    def _verdict(self) -> str:
        if self.unfamiliar and self.record:
            return f", unfamiliar; {format_probability(self.record['baseline'])} likely wrong by the answer's probability alone"
        return super()._verdict()

    def _judgement(self) -> str:
        if self.unfamiliar:
            return (
                "The question is unlike all that the detector was fitted on, so its score does not count; by the "
                f"answer's probability alone it is wrong with probability {self.baseline:.2f}."
            )
        return super()._judgement()
