"""Where training is, on disk: a run that is stopped or killed at any step goes on to the same weights, bit for bit."""

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common import stop

EVERY = 60.0
"""Seconds of training that a kill may cost."""


class Checkpoint:
    """A file that is replaced as a whole. What it holds opens with `torch.load(weights_only=True)`."""

    def __init__(self, path: Path, every: float = EVERY) -> None:
        self._path, self._every = path, every
        self._saved_at = time.monotonic()
        self.found = self._load()
        """What was saved last; None where nothing was, or where it cannot be read and training starts anew."""

    def after_step(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save what `state()` gives, from time to time. Raises StopRequested, after saving, if a stop was asked for."""
        stopping = stop.requested()
        if stopping or time.monotonic() - self._saved_at >= self._every:
            self._save(state())
        if stopping:
            stop.check()

    def _load(self) -> dict[str, Any] | None:
        try:
            return dict(torch.load(self._path, map_location="cpu", weights_only=True))
        except (OSError, pickle.UnpicklingError, RuntimeError, EOFError):
            return None

    def _save(self, state: dict[str, Any]) -> None:
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._saved_at = time.monotonic()
