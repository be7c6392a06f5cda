"""What a question's answer is without some of its tracks or latents, measured in the model. Made by `question.without`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Without:
    """One intervention, beside a control: as much taken out of other latents of like activation."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._result = result

    @property
    def intervention(self) -> str:
        """What was taken out or set, in words."""
        return str(self._result["intervention"])

    @property
    def answer(self) -> str:
        """What the model says now."""
        return str(self._result["new_answer"])

    @property
    def wrong(self) -> bool | None:
        """Whether that is wrong; None where nobody knows."""
        return {"wrong": True, "right": False}.get(self._result["new_judged"])

    @property
    def changed(self) -> bool:
        """Whether it is another answer than with everything in place."""
        return self.answer != str(self._result["answer"])

    @property
    def control_answer(self) -> str:
        """What the model says under the control."""
        return str(self._result["control_answer"])

    @property
    def drop(self) -> float:
        """How much the emitted token's logit fell against its best rival's."""
        return float(self._result["drop"])

    @property
    def control_drop(self) -> float:
        """The same under the control."""
        return float(self._result["control_drop"])

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """A row a candidate, the emitted token first: token, logit, change, control_change (logits)."""
        import pandas as pd

        return pd.DataFrame(self._result["candidates"])

    def __repr__(self) -> str:
        return (
            f"<{self.intervention}: {self._result['answer']!r} → {self.answer!r} ({self._result['new_judged']}), control "
            f"{self.control_answer!r}>"
        )
