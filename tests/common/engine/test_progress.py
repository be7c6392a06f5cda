import contextlib
import io

import pytest

from ghosttrack.common.engine import progress
from ghosttrack.common.engine.progress import Progress, format_bytes, format_probability, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "<1 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (187, "3:07"),
        (7389, "2:03:09"),
        (float("inf"), "?"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_900, "1 MB"), (1.44e9, "1.44 GB"), (9.17e11, "917 GB"),
     (2.5e12, "2.5 TB")],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_without_a_terminal_there_are_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with (
        contextlib.redirect_stderr(io.StringIO()) as printed,
        Progress(4, "tok", "extract", initial=1) as bar,
    ):
        for _ in range(3):
            bar.note("loss 0.5")
            bar.update()
    lines = printed.getvalue().splitlines()
    assert 1 <= len(lines) <= 3
    assert "\r" not in printed.getvalue()
    assert all(line.startswith("extract: ") and "tok/s" in line and "left" in line for line in lines)
    assert "100%, 4 of 4 tok" in lines[-1]
    assert "loss 0.5" in lines[-1]


def test_short_work_prints_nothing() -> None:
    with contextlib.redirect_stderr(io.StringIO()) as printed, Progress(2) as bar:
        bar.update(2)
    assert printed.getvalue() == ""


def test_a_failure_prints_no_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), pytest.raises(ValueError, match="stop"), Progress(2):
        raise ValueError("stop")
    assert printed.getvalue() == ""


def test_nothing_to_do_is_done() -> None:
    with contextlib.redirect_stderr(io.StringIO()), Progress(0) as bar:
        bar._print()


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.0, "0%"), (0.0001, "< 1%"), (0.02, "2%"), (0.5, "50%"), (0.994, "99%"), (0.9998, "> 99%"), (1.0, "100%")],
)  # fmt: skip
def test_only_what_is_certain_is_a_hundred_per_cent(probability: float, words: str) -> None:
    assert format_probability(probability) == words
