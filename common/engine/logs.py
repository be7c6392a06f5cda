"""Structured logs: a line of JSON an event in the run's log file, the same in plain words on the terminal."""

import json
import logging
import sys
import time
from pathlib import Path

from ghosttrack.common.errors import printable
from ghosttrack.common.files import append_to

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},  # of `extra=`
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False, default=str)


class PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        said = printable(record.getMessage(), "\n")
        return f"{record.name.removeprefix('ghosttrack.')}: {mark}{said}"


def set_up(stage: str, file: Path | None) -> logging.Logger:
    """The logger of a stage's process: plain words on stderr and, given a file, JSON lines appended to it."""
    logger = logging.getLogger(f"ghosttrack.{stage}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(PlainFormatter())
    logger.addHandler(terminal)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.StreamHandler(append_to(file))
        handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is told by the work
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
    return logger
