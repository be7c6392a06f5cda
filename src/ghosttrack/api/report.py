"""A run's report for a notebook: its text, and every figure as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Report:
    """text: Markdown, empty where it is not written yet. figures: the content of final_report.json."""

    name: str
    text: str = field(repr=False)
    figures: dict[str, Any] = field(repr=False)

    def _repr_markdown_(self) -> str:
        return self.text or f"*{self.name}: figures only; the report is not written yet*"
