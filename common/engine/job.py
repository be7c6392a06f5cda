"""What a stage's `run` gets: the unit, its configuration, its verified inputs, and where its outputs go."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine import atomic, ranks, stop
from ghosttrack.common.engine.contained import store_of
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.progress import Progress
from ghosttrack.common.engine.provenance import now
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.files import fsync, stamp_of
from ghosttrack.common.formats.file import File


@dataclass
class Job:
    """One unit at work: its configuration, its verified inputs, where its outputs go."""

    config: Config
    work: Unit
    log: logging.Logger
    staging: Path
    entries: dict[str, Entry]
    internal: dict[str, Any] = field(default_factory=dict)
    """Facts about how the work was done that do not change its meaning, for the manifest."""
    rank: int = 0
    """This process's number among those that do the unit together."""
    ranks: int = 1
    """How many processes do the unit together."""
    at_hand: dict[str, Any] | None = None
    """What earlier work of this process has loaded; None where nothing is kept from unit to unit."""

    def kept(self, name: str, load: Callable[[], Any]) -> Any:
        """Something that takes long to load from the inputs; loaded once where many small jobs have the same inputs."""
        if self.at_hand is None:
            return load()
        if name not in self.at_hand:
            self.at_hand[name] = load()
        return self.at_hand[name]

    @property
    def unit(self) -> str:
        return self.work.name

    @property
    def layer(self) -> int | None:
        return self.work.layer

    def input(self, file: File | str) -> Path:
        """Path of a verified input, such as `input(CORPUS)`: from the one unit that the contract has it read from."""
        name = str(file)
        [unit] = [read.name for read in self.work.reads if name in read.files]
        return self.entries[unit].file(name)

    def input_dir(self, unit: str) -> Path:
        """Folder of an input unit of which every file is read."""
        return self.entries[unit].path

    def output(self, file: File | str) -> Path:
        """Path to write an output file at; it is published when the unit is done."""
        return self.staging / "out" / str(file)

    def scratch(self, name: str) -> Path:
        """Path for work in progress that is not published; it is there again after a crash."""
        path = self.staging / "scratch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, step: str) -> bool:
        return (self.staging / "steps" / f"{step}.json").exists()

    def step(self, name: str, function: Callable[[], object]) -> bool:
        """Do a piece of work once; a run that was killed and starts again skips what is finished.

        What `function` writes must be complete when it returns; it is brought to the disk before the step counts as
        finished. Returns whether the work was done now. Where several processes do the unit together, each
        calls this for steps of its own. Raises StopRequested before the work if a stop was asked for.
        """
        if self.done(name):
            return False
        stop.check()
        before = self._stamps()
        function()
        for path, stamp in self._stamps().items():
            if before.get(path) != stamp:
                fsync(path)
        fsync(self.staging)  # that these folders are in it
        receipt = self.staging / "steps" / f"{name}.json"
        receipt.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(receipt, json.dumps({"finishedOn": now()}).encode(), self.staging)
        return True

    def _stamps(self) -> dict[Path, tuple[int, ...]]:
        """Files and folders of the work so far, and what tells whether they were changed."""
        found: dict[Path, tuple[int, ...]] = {}
        for folder, _, names in (*os.walk(self.staging / "out"), *os.walk(self.staging / "scratch")):
            for path in (Path(folder), *(Path(folder, name) for name in names)):
                with contextlib.suppress(FileNotFoundError):  # of another process that does the unit too
                    found[path] = stamp_of(path)
        return found

    def once(self, name: str, function: Callable[[], object]) -> None:
        """A step that one process does for all; all go on when it is done."""
        if self.rank == 0:
            self.step(name, function)
        self.barrier()

    def barrier(self) -> None:
        """Wait for the other processes that do the unit. Raises RankLostError when one of them has failed."""
        if self.ranks > 1:
            ranks.barrier()

    def count_opening(self, what: str, seen: str) -> int:
        """Count that this work opened `what`, such as a test that is held back; how often it was opened by now.

        what, seen: digests, of what was opened and of what was seen there; the same seen again is the same opening.
        """
        return store_of(self.config.paths.root).count_opening(self.work, what, seen)

    def progress(self, total: float, unit: str = "it", what: str = "", initial: float = 0) -> Progress:
        """Rate and time left; of the processes that do a unit together, the first shows its own share."""
        return Progress(total, unit, f"{self.work.stage} {what or self.unit}", initial, shown=self.rank == 0)


Run = Callable[[Job], dict[str, Any]]
"""Does one unit; returns its metrics."""
RunTogether = Callable[[Sequence[Job]], list[dict[str, Any]]]
"""Does several units side by side; returns the metrics of each."""
