"""Tests on real components (SLURM, Apptainer, Chromium, sae-lens): which of them run, and what becomes of one without its
component. They run only where they are asked for, as `pytest -m slurm` does; where the component is missing they skip, and with
GHOSTTRACK_REQUIRE_SLURM=1 (_APPTAINER, _BROWSER, _SAELENS, _LATEX) they fail instead."""

import os
from typing import NoReturn

import pytest

MARKS = ("slurm", "apptainer", "browser", "saelens")


def asleep(item: pytest.Item, wanted: str) -> bool:
    """Whether a test is of a component that the expression of marks does not ask for."""
    return any(item.get_closest_marker(mark) and mark not in wanted for mark in MARKS)


def missing(component: str, text: str) -> NoReturn:
    """End the test of a component that is not here. text: what is missing, and what brings it."""
    name = f"GHOSTTRACK_REQUIRE_{component.upper()}"
    if os.environ.get(name) == "1":
        pytest.fail(f"{text}, and {name}=1")
    pytest.skip(text)
