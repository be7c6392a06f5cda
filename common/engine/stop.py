"""Whether this process was asked to stop: by a stop-file, or because its deadline is near.

A job's script makes the stop-file when the scheduler signals that time is nearly up or that the job is
preempted: signals seldom reach a payload through a batch shell, launchers and containers, a file does.
GHOSTTRACK_STOP_FILE names it; GHOSTTRACK_DEADLINE is the end of the job in epoch seconds, and
GHOSTTRACK_GRACE how many seconds before it a stage should stop by itself.
"""

import contextlib
import math
import os
import time
from pathlib import Path

from ghosttrack.common.errors import ConfigError, StopRequested

DEFAULT_GRACE = 60.0


def requested() -> bool:
    """Cheap enough to be asked at every step of a loop. Raises ConfigError for times that are none."""
    file = os.environ.get("GHOSTTRACK_STOP_FILE")
    if file and Path(file).exists():
        return True
    return time.time() > _seconds("GHOSTTRACK_DEADLINE", math.inf) - _seconds(
        "GHOSTTRACK_GRACE", DEFAULT_GRACE
    )


def _seconds(variable: str, otherwise: float) -> float:
    text = os.environ.get(variable) or str(otherwise)
    with contextlib.suppress(ValueError):
        if not math.isnan(seconds := float(text)):
            return seconds
    raise ConfigError(f"the environment variable {variable} is {text!r}; give it seconds, or none")


def check() -> None:
    """Raise StopRequested if a stop was asked for; what is finished by then is kept."""
    if requested():
        raise StopRequested("stopped as it was asked to; the next run goes on from here")
