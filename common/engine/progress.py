"""One progress style: rate and time left; a bar on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_INTERVAL = 5.0
"""Seconds between two plain lines."""


class Progress:
    """Counts work done. Use as a context manager.

    total and every update are in `unit`s; `initial` counts what an earlier run had done, which is
    left out of the rate. `shown=False`: counts, but shows nothing.
    """

    def __init__(
        self, total: float, unit: str = "it", what: str = "", initial: float = 0, *, shown: bool = True
    ) -> None:
        wanted = os.environ.get("GHOSTTRACK_PROGRESS")
        shown = shown and wanted != "none"
        on_terminal = sys.stderr.isatty() and wanted != "lines"
        self._bar = tqdm(
            total=total, initial=initial, unit=unit, desc=what, unit_scale=True, dynamic_ncols=True,
            disable=not (on_terminal and shown), smoothing=0.1,
        )  # fmt: skip
        self._lines = shown and not on_terminal
        self._what, self._unit, self._total = what, unit, total
        self._initial, self._done, self._note = initial, initial, ""
        self._start = self._printed = time.monotonic()

    def update(self, count: float = 1) -> None:
        self._done += count
        self._bar.update(count)
        if self._lines and time.monotonic() - self._printed >= LINE_INTERVAL:
            self._print()

    def note(self, text: str) -> None:
        """A few words beside the numbers, such as a loss."""
        self._note = text
        self._bar.set_postfix_str(text, refresh=False)

    def _print(self) -> None:
        self._printed = now = time.monotonic()
        rate = (self._done - self._initial) / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        share = self._done / self._total if self._total else 1.0
        print(
            f"{self._what}: {share:4.0%}, {_short(self._done)} of {_short(self._total)} {self._unit}, "
            f"{_short(rate)} {self._unit}/s, {format_seconds(left)} left"
            + (f", {self._note}" if self._note else ""),
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._lines and kind is None and time.monotonic() - self._start >= LINE_INTERVAL:
            self._print()


def format_probability(probability: float) -> str:
    """In whole per cent; what is neither certain nor impossible is not rounded to it."""
    rounded = f"{probability:.0%}"
    if rounded == "100%" and probability < 1:
        return "> 99%"
    return "< 1%" if rounded == "0%" and probability > 0 else rounded


def format_seconds(seconds: float) -> str:
    """`<1 s`, `42 s`, `3:07` (minutes) or `2:03:09` (hours)."""
    if seconds == float("inf"):
        return "?"
    if 0 < seconds < 1:
        return "<1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def format_bytes(count: float) -> str:
    """`1.4 GB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _short(value: float) -> str:
    return tqdm.format_sizeof(value) if value >= 1000 else f"{value:.3g}"
