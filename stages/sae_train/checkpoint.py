"""Where training is, on disk: a run that is stopped or killed at any step goes on to the same weights, bit for bit."""

import os
import time
from pathlib import Path
from typing import Any

import torch

EVERY = 60.0
"""Seconds of training that a kill may cost."""
SHARE = 20
"""Saving may take one part in so many of the time; where the disk is slow, it is done less often."""


class Checkpoint:
    """A file that is replaced as a whole. What it holds opens with `torch.load(weights_only=True)`."""

    def __init__(self, path: Path, every: float = EVERY) -> None:
        self.path = path
        self._wait = self._every = every
        self._saved_at = time.monotonic()
        self.found = self._load()
        """What was saved last, whatever that is; None where nothing was, or where it cannot be read and training
        starts anew."""

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._wait

    def save(self, state: dict[str, Any]) -> None:
        start = time.monotonic()
        temporary = self.path.with_suffix(".new")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._saved_at = time.monotonic()
        if self._every:
            self._wait = max(self._every, SHARE * (self._saved_at - start))

    def _load(self) -> Any:
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # what torch's reader raises for damaged bytes depends on the bytes
            return None
