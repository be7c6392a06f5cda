"""The looking commands on a local run: what they print, and when they end."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ghosttrack.common.config.cluster import Resources, bytes_of
from ghosttrack.common.errors import ConfigError
from ghosttrack.orchestrate import options
from ghosttrack.orchestrate.cli import ghosttrack
from ghosttrack.orchestrate.logbook import read_events, text_of
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.runs import RunSummary
from ghosttrack.orchestrate.status import Diagnosis, JobsStatus, Overview, StageStatus
from ghosttrack.orchestrate.usage import Advice, advice
from tests.fake_project import FakeProject


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, finished: FakeProject):  # type: ignore[no-untyped-def]
    """Calls a command on the finished fake project."""
    request = finished.request()
    monkeypatch.setattr(options.Request, "of", classmethod(lambda cls, *_, **__: request))

    def run(*arguments: str) -> Result:
        command, *others = arguments
        return CliRunner().invoke(ghosttrack, [command, "small", *others], catch_exceptions=False)

    return run


def test_status_as_a_table_and_as_json(call) -> None:  # type: ignore[no-untyped-def]
    assert "layers" in call("status").output
    data = json.loads(call("status", "--json").output)
    assert {stage["stage"]: stage["done"] for stage in data["stages"]} == {
        "source": 1,
        "layers": 4,
        "sink": 1,
    }
    assert data["jobs"] == []


def test_watch_ends_at_once_when_all_is_done(call) -> None:  # type: ignore[no-untyped-def]
    assert call("watch").exit_code == 0


def test_du_counts_what_is_there_and_what_will_come(call, finished: FakeProject) -> None:  # type: ignore[no-untyped-def]
    text = call("du").output
    assert "on disk" in text
    finished.trouble("source/all", "x")
    assert call("du").exit_code == 0


def test_gpu_says_that_there_was_none(call) -> None:  # type: ignore[no-untyped-def]
    assert "no result was made with a GPU" in call("gpu").output


def test_advice_is_a_piece_of_a_profile(call) -> None:  # type: ignore[no-untyped-def]
    import yaml

    text = call("advice").output
    profile = yaml.safe_load(text[text.index("resources:") :])
    for resources in profile["resources"].values():
        Resources.model_validate(resources)


def test_gc_lists_first(call, finished: FakeProject) -> None:  # type: ignore[no-untyped-def]
    assert "nothing to remove" in call("gc").output
    with pytest.raises(ConfigError, match=r"there is no unit 'sink/al' .*did you mean 'sink/all'"):
        call("gc", "--unit", "sink/al", "--yes")
    aside = finished.root / ".store/layers/abc.corrupt-1"
    aside.mkdir()
    assert "nothing is removed yet" in call("gc").output
    assert aside.exists()
    assert "freed" in call("gc", "--yes").output
    assert not aside.exists()


def test_raw_logs_hold_what_was_printed(call) -> None:  # type: ignore[no-untyped-def]
    assert "=====" in call("logs", "--raw").output
    assert "layers/layer_1 (3 of 4): done" in call("logs", "layers", "--raw", "-n", "200").output


def test_advice_compares_with_what_was_asked_for(finished: FakeProject) -> None:
    request: Request = finished.request()
    asked = {"layers": Resources(cpus=8, memory="32G", time="4:00:00", gpus=2)}
    found: dict[str, Advice] = {each.stage: each for each in advice(request.plan(), asked)}
    layers, source = found["layers"], found["source"]
    assert source.time_share is None
    assert layers.memory_share == pytest.approx(layers.memory / (32 * 2**30))
    assert layers.time_share == pytest.approx(layers.seconds / 14400)
    assert layers.proposal.gpus == 2
    assert layers.proposal.time == "0:10:00"
    assert layers.memory < bytes_of(layers.proposal.memory) <= 2 * layers.memory + 2**30


def test_a_configuration_is_named_once_as_an_argument_or_as_an_option(
    finished: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, request = [], finished.request()
    monkeypatch.setattr(
        options.Request, "of", classmethod(lambda cls, name, *_, **__: asked.append(name) or request)
    )
    assert CliRunner().invoke(ghosttrack, ["status", "--config", "small"]).exit_code == 0
    assert CliRunner().invoke(ghosttrack, ["status", "small"]).exit_code == 0
    assert asked == ["small", "small"]
    for wrong in (["status"], ["status", "small", "--config", "small"]):
        result = CliRunner().invoke(ghosttrack, wrong)
        assert result.exit_code != 0
        assert "name one configuration: CONFIG or --config CONFIG" in result.output


def test_a_message_keeps_its_line_separators_and_bytes_that_are_none(tmp_path: Path) -> None:
    log = tmp_path / "track.jsonl"
    line = {"time": "2026-01-02T03:04:05Z", "level": "INFO", "message": "a\u2028b"}
    log.write_bytes(json.dumps(line, ensure_ascii=False).encode() + b"\n" + json.dumps({**line, "message": "?"}).encode().replace(b"?", b"\xff"))  # fmt: skip
    assert [event.message for event in read_events([log])] == ["a\u2028b", "\ufffd"]


def test_a_log_of_any_shape_is_read_and_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container writes its own log."""
    whole = {"time": "2026-01-02T03:04:05Z", "level": "INFO", "message": "seen"}
    odd = [{**whole, key: value} for key in whole for value in (5, None, [], {"a": 1}, "x")]
    odd += [
        {**whole, "traceback": 7},
        {**whole, "time": "0001-01-01T00:00:00+14:00"},
        {**whole, "time": "9999-12-31T23:59:59-14:00"},
    ]
    steering = {**whole, "message": "[/x] [red]\x1b]52;c;aGk=\x07\x9b2J"}
    lines = [*map(json.dumps, odd), "[" * 100_000, "null", "5", json.dumps(steering)]
    (tmp_path / "track.jsonl").write_text("\n".join(lines))
    for event in read_events([tmp_path / "track.jsonl"]):
        Terminal().event(event)
    Terminal().runs(
        [RunSummary("\x9b2J", 1, 0, datetime.now(), 1.0, 1, None, {"data.questions": "[/x]\x1b[2J.jsonl"})]
    )
    Terminal().diagnosis(Diagnosis("ok", "apptainer", "\x1b]0;1.4\x07"))
    stage = StageStatus("track", 1, 0, 1, 0, "all by process 1 on \x1b[2J", None, 0.0, 0, [])
    plan: Any = None
    Terminal().overview(Overview("demo", plan, [stage], JobsStatus()))
    Terminal().line("[/x]\x1b[2J")
    printed = capsys.readouterr().out
    assert r"[/x] [red]\x1b]52;c;aGk=\x9b2J" in printed
    assert printed.replace("\n", "").isprintable()


def test_of_a_log_without_end_the_end_is_read_and_of_a_pipe_nothing(tmp_path: Path) -> None:
    log, pipe = tmp_path / "track.log", tmp_path / "pipe.log"
    log.touch()
    os.truncate(log, 20 << 30)
    with log.open("ab") as file:
        file.write(b"\nthe last line\n")
    assert text_of(log).splitlines()[-1] == "the last line"
    os.mkfifo(pipe)
    assert text_of(pipe) == ""
