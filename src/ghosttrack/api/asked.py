"""A new question that was answered, tracked and scored a moment ago. It has all that a question of a run has."""

from __future__ import annotations

from ghosttrack.api.question import Question


class Asked(Question):
    """Made by `run.ask`. Its files go with it."""

    @property
    def in_fit(self) -> bool:
        """Whether the stored detector was fitted on the very same prompt, so that its score says nothing new."""
        return self._run._fitted_prompts.get(self.prompt) is not None

    @property
    def notices(self) -> list[str]:
        """What a reader of the score should know, in words."""
        found = []
        if self.in_fit:
            own = self._run._fitted_prompts[self.prompt]
            found.append(
                f"the detector was fitted on this question ({own}): run.question({own!r}) has a score by one that was not"
            )
        return found
