"""What the campaign of faults has in common: how much of it is done, and the table of what was tried and survived.

The quick part runs with all tests; `make faults` does the whole (GHOSTTRACK_FAULTS=whole). Every random choice comes of
GHOSTTRACK_FAULTS_SEED, which the table names.
"""

import collections
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

WHOLE = os.environ.get("GHOSTTRACK_FAULTS") == "whole"
SEED = int(os.environ.get("GHOSTTRACK_FAULTS_SEED", "0"))

settings.register_profile(
    "quick", max_examples=60, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
settings.register_profile("whole", settings.get_profile("quick"), max_examples=1500)
settings.load_profile("whole" if WHOLE else "quick")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not here is not looked for elsewhere, five times with growing patience."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


Tally = Callable[[str, bool], None]


def budget(quick: int, whole: int) -> int:
    """How many trials of a kind."""
    return whole if WHOLE else quick


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts a trial: its kind, and whether what is promised was kept."""
    tried: collections.Counter[str] = collections.Counter()
    survived: collections.Counter[str] = collections.Counter()

    def count(kind: str, kept: bool) -> None:
        tried[kind] += 1
        survived[kind] += kept

    yield count
    for kind, number in tried.items():
        request.node.user_properties.append(("fault", [kind, number, survived[kind]]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals: dict[str, list[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                for name, value in report.user_properties:
                    if name == "fault":
                        kind, tried, survived = value
                        total = totals.setdefault(kind, [0, 0])
                        total[0] += tried
                        total[1] += survived
    if totals:
        terminalreporter.section(f"faults, seed {SEED}")
        for kind, (tried, survived) in sorted(totals.items()):
            terminalreporter.write_line(f"{kind:<58} tried {tried:>6}   survived {survived:>6}")
