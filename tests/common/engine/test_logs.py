import json
from pathlib import Path

import pytest

from ghosttrack.common.engine import logs


def test_an_event_is_a_line_of_json_and_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logs.set_up("alpha", tmp_path / "deep" / "alpha.jsonl")
    log.info("layer 3: done", extra={"unit": "layer_3", "path": Path("x")})
    log.warning("two\nlines, \x1b[2J cleared")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("failed")
    assert capsys.readouterr().err.startswith(
        "alpha: layer 3: done\nalpha: warning: two\nlines, \\x1b[2J cleared\nalpha: error: failed\n"
    )
    events = [json.loads(line) for line in (tmp_path / "deep" / "alpha.jsonl").read_text().splitlines()]
    assert [event["level"] for event in events] == ["info", "warning", "error"]
    assert events[0]["unit"] == "layer_3"
    assert events[0]["path"] == "x"
    assert events[0]["logger"] == "ghosttrack.alpha"
    assert events[0]["time"].endswith("Z")
    assert "ValueError: bad" in events[2]["traceback"]


def test_a_second_run_appends(tmp_path: Path) -> None:
    for text in ("one", "two"):
        logs.set_up("alpha", tmp_path / "alpha.jsonl").info(text)
    assert len((tmp_path / "alpha.jsonl").read_text().splitlines()) == 2


def test_a_log_that_is_full_says_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.set_up("alpha", Path("/dev/full"))
    log.warning("work goes on")
    assert capsys.readouterr().err == "alpha: warning: work goes on\n"
