"""The structured logs of a run's stages, read back in order."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ghosttrack.common.files import found
from ghosttrack.common.foreign import parse_json

POLL_SECONDS = 0.5
LONGEST = 1 << 26
"""Bytes of a log that are read."""


@dataclass(frozen=True)
class Event:
    """One logged line."""

    time: datetime
    """Local time."""
    stage: str
    level: str
    message: str
    traceback: str = ""


def logs_in(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Log files, the one that was written last at the end."""
    changed = {}
    for file in (file for pattern in patterns for file in found(folder, pattern)):
        with contextlib.suppress(FileNotFoundError):  # `clean` was quicker
            if file.is_file():  # a pipe of that name has no end
                changed[file] = file.stat().st_mtime
    return sorted(changed, key=changed.__getitem__)


def text_of(file: Path) -> str:
    """The end of a log, all of it but for one that nobody reads through; of one that has gone, and of a pipe, nothing."""
    with contextlib.suppress(FileNotFoundError):
        if file.is_file():
            with file.open("rb") as opened:
                opened.seek(max(0, file.stat().st_size - LONGEST))
                return opened.read(LONGEST).decode("utf-8", "replace")
    return ""


def read_events(files: list[Path]) -> list[Event]:
    """All events of some log files, oldest first."""
    events = [event for file in files for event in events_in(file, text_of(file))]
    return sorted(events, key=lambda event: event.time)


def follow(folder: Path, patterns: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """File and line as lines are written, from now on, in files that may not exist yet; never ends."""
    positions = {}
    for file in logs_in(folder, patterns):
        with contextlib.suppress(FileNotFoundError):
            positions[file] = file.stat().st_size
    while True:
        for file in logs_in(folder, patterns):
            try:
                with file.open("rb") as opened:
                    opened.seek(positions.get(file, 0))
                    text = opened.read()
            except FileNotFoundError:
                continue
            whole = text[: text.rfind(b"\n") + 1]
            positions[file] = positions.get(file, 0) + len(whole)
            for line in re.split(r"\r\n?|\n", whole.decode(errors="replace"))[:-1]:
                yield file, line
        time.sleep(POLL_SECONDS)


def events_in(file: Path, text: str) -> Iterator[Event]:
    """Those of some lines of a log file."""
    for line in text.split("\n"):
        try:
            data = parse_json(line)
            moment = datetime.fromisoformat(data["time"].replace("Z", "+00:00")).astimezone()
            yield Event(
                moment, file.stem, str(data["level"]), str(data["message"]), str(data.get("traceback", ""))
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue  # the end of a line that a killed process did not finish
