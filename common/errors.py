"""One exception class and one exit code for each kind of trouble.

A message says what was wrong, where (file, key, value) and what to do. `ghosttrack.common.engine.stage.main` and the
`ghosttrack` command print it as one line and exit with the code; anything else is a defect of ours
and keeps its traceback (exit code 1). Codes 2 and 130 belong to click (usage) and Ctrl-C.
"""

import unicodedata
from collections.abc import Sequence

LONGEST_MESSAGE = 4000
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class GhostTrackError(Exception):
    """Base class: a trouble the reader can mend. Names out of files that it quotes cannot break its one line."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        shown = printable(message)
        super().__init__(shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:LONGEST_MESSAGE]} …")


def printable(text: str, kept: str = "") -> str:
    """Text for a terminal: line breaks, its controls, halves of characters and what turns the direction of reading as escapes, but
    for the characters `kept`."""
    return text if text.isprintable() else "".join(c if c in kept else _printable(c) for c in text)


def _printable(character: str) -> str:
    control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in TURNS
    return ascii(character)[1:-1] if control else character


def first_of(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 3 more`, as a message names many things."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class ConfigError(GhostTrackError):
    """Unknown key, wrong type, value out of range."""

    exit_code = 10


class ModelSourceError(GhostTrackError):
    """The language model cannot be found or its architecture is not supported."""

    exit_code = 11


class ModelMismatchError(GhostTrackError):
    """The configuration or an input contradicts the model."""

    exit_code = 12


class MissingInputError(GhostTrackError):
    """An upstream unit has no published result, or a file of it is gone."""

    exit_code = 13


class CorruptInputError(GhostTrackError):
    """A file or manifest does not match its digest, or cannot be read."""

    exit_code = 14


class DataError(GhostTrackError):
    """The data is malformed or too small for what is asked of it."""

    exit_code = 15


class LabelError(GhostTrackError):
    """The labels cannot be learned from: one class only, or too few of one."""

    exit_code = 16


class StorageError(GhostTrackError):
    """The disk is full or read-only, or a path cannot be written."""

    exit_code = 17


class BusyError(GhostTrackError):
    """Another run is writing the same outputs."""

    exit_code = 18

    def __init__(self, message: str, group: str | None = None) -> None:
        """group: of the processes that work together, the one that is writing (`ghosttrack.common.engine.claims.work_group`)."""
        super().__init__(message)
        self.group = group


class NumericError(GhostTrackError):
    """NaN, Inf or a constant where a number was expected."""

    exit_code = 19


class StopRequested(GhostTrackError):
    """The work was asked to stop (stop-file, deadline) and can be gone on with; `EX_TEMPFAIL` of sysexits.h."""

    exit_code = 75


class RankLostError(GhostTrackError):
    """Another process of the same stage has failed; that one tells why."""

    exit_code = 20


class SchedulerError(GhostTrackError):
    """The cluster's scheduler refused something, or does not answer."""

    exit_code = 21


class ImageError(GhostTrackError):
    """A container image is missing, or is not what it was."""

    exit_code = 22


class DeviceError(GhostTrackError):
    """A GPU is gone, at fault or full."""

    exit_code = 23


class StageFailedError(GhostTrackError):
    """A stage of a run failed; the stage's own exit code is kept."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
