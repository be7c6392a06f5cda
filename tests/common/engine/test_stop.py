"""A stop that was asked for, by a file or by a deadline, and what a stage does then."""

import time
from pathlib import Path

import pytest

from ghosttrack.common.engine import stop
from ghosttrack.common.errors import ConfigError, StopRequested

VARIABLES = ("GHOSTTRACK_STOP_FILE", "GHOSTTRACK_DEADLINE", "GHOSTTRACK_GRACE")


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_nobody_asks_for_a_stop_by_default() -> None:
    assert not stop.requested()
    stop.check()


def test_a_stop_file_counts_when_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "stop"
    monkeypatch.setenv("GHOSTTRACK_STOP_FILE", str(file))
    assert not stop.requested()
    file.touch()
    assert stop.requested()
    with pytest.raises(StopRequested, match="goes on from here"):
        stop.check()


@pytest.mark.parametrize(
    ("left", "grace", "stops"),
    [(1000, None, False), (30, None, True), (30, 10, False), (1000, 2000, True), (-5, 10, True)],
)
def test_a_deadline_counts_from_its_grace_on(
    monkeypatch: pytest.MonkeyPatch, left: int, grace: int | None, stops: bool
) -> None:
    monkeypatch.setenv("GHOSTTRACK_DEADLINE", str(time.time() + left))
    if grace is not None:
        monkeypatch.setenv("GHOSTTRACK_GRACE", str(grace))
    assert stop.requested() is stops


@pytest.mark.parametrize("variable", ["GHOSTTRACK_DEADLINE", "GHOSTTRACK_GRACE"])
@pytest.mark.parametrize("text", ["soon", "nan", "1:00", "\udcff"])
def test_a_time_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv("GHOSTTRACK_DEADLINE", str(time.time() + 1000))
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=variable):
        stop.requested()
