"""How long a unit will take and how many bytes it will write.

From the manifest of the same unit's last run where there is one (or of the same unit of
another layer), scaled by the ratio of its stage's formulas (`stages/<name>/costs.py`) under the new and the old
parameters. Otherwise from the formulas alone, over the rate of a matrix product measured now. A unit whose stage has no
formula for it, and that has never run, is unknown.
"""

import functools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ghosttrack.common.config.schema import Config, flattened
from ghosttrack.common.engine.contract import STAGES_FOLDER, Unit
from ghosttrack.common.engine.costs import READ_RATE, Quantities, costs_of, expected_questions
from ghosttrack.common.engine.fingerprint import SOURCE_KEYS, content_of
from ghosttrack.common.engine.storage import Entry

START_SECONDS = 0.5
"""A unit: reading inputs, publishing."""


class Estimate(NamedTuple):
    """seconds, and bytes that are written; both 0 where nothing is known."""

    seconds: float
    size: float
    known: bool = True


class Estimator:
    """Predictions for the units of one configuration.

    entries: `stage/unit` to its published result, of the units that have one.
    """

    def __init__(
        self, config: Config, entries: Mapping[str, Entry], stages_folder: Path = STAGES_FOLDER
    ) -> None:
        settings = dict(flattened(config.model_dump(mode="json")), layers=config.layers)
        earlier = dict(settings)
        for entry in entries.values():  # a file is on record by its content, of which no size can be told
            known = settings.keys() - SOURCE_KEYS
            earlier |= {key: value for key, value in entry.parameters.items() if key in known}
        asked = entries.get("prepare/questions")
        made = _made(asked)
        settings["questions"] = _questions(settings, asked)
        earlier["questions"] = settings["questions"] if made is None else made
        self.now, self._earlier = Quantities(settings), Quantities(earlier)
        self._entries, self._stages = entries, stages_folder
        self._by_kind: dict[str, list[Entry]] = {}
        for label, entry in entries.items():
            self._by_kind.setdefault(_kind(label), []).append(entry)

    def size(self, unit: Unit) -> float:
        """Bytes that a unit will write, by the formulas alone; 0 where nobody knows."""
        return costs_of(self._stages / unit.stage).size(self.now, unit) or 0.0

    def predict(self, unit: Unit, gpu_rate: float | None = None) -> Estimate:
        """How long a unit will take, and what it will write. gpu_rate: FLOP a second, where the stage uses GPUs; else this
        machine's, measured."""
        costs = costs_of(self._stages / unit.stage)
        now = costs.cost(self.now, unit)
        measured = [self._entries[unit.label]] if unit.label in self._entries else []
        if not measured and unit.layer is not None:
            measured = self._by_kind.get(_kind(unit.label), [])
        if measured:
            seconds = sum(map(undisturbed, measured)) / len(measured)
            size = sum(entry.size for entry in measured) / len(measured)
            if now is None:
                return Estimate(seconds, size)
            fixed = min(_start_seconds(unit), seconds)
            # only a ratio is taken, so any plausible rate does for the formula
            before, after = (costs.seconds(each, unit, 1e11) or 0.0 for each in (self._earlier, self.now))
            growth = after / before if before else 1.0
            was = costs.size(self._earlier, unit)
            return Estimate(fixed + (seconds - fixed) * growth, size * now.size / was if was else size)
        if now is None:
            return Estimate(0.0, 0.0, known=False)
        work = costs.seconds(self.now, unit, gpu_rate or measure_rate(), gpu=bool(gpu_rate)) or 0.0
        return Estimate(_start_seconds(unit) + work, now.size)


def _made(asked: Entry | None) -> int | None:
    """How many questions were made. asked: their result."""
    made = asked.manifest.predicate.metrics.get("questions") if asked else None
    return int(made) if made else None


def _questions(settings: Mapping[str, Any], asked: Entry | None) -> int:
    """As many as were made by these settings, or are expected. asked: the questions that were made."""
    made, parameters = _made(asked), asked.parameters if asked else {}
    now = {key: content_of(settings.get(key), key) for key in parameters}
    if made is not None and all(now[key] == value for key, value in parameters.items()):
        return made
    return expected_questions(settings["data.questions"], settings["data.max_questions"])


def _kind(label: str) -> str:
    """What a unit has in common with those of other layers."""
    return re.sub(r"_\d+$", "", label)


def undisturbed(entry: Entry) -> float:
    """Seconds that a result took, or would have where they were lost to other programs: without a GPU a unit takes no longer
    than all that its processes computed, and its files."""
    computed = entry.usage.get("cpuSec")
    if computed is None or entry.usage.get("gpuPeakBytes"):
        return entry.elapsed
    return min(entry.elapsed, computed + entry.size / READ_RATE)


def _start_seconds(unit: Unit) -> float:
    return START_SECONDS if unit.layer is None else START_SECONDS / 5  # layers share a process


@functools.cache
def measure_rate(size: int = 512, seconds: float = 0.2) -> float:
    """FLOP a second of a float32 matrix product on this machine's cores; measured once.

    In one core's own seconds, times the cores that the library takes: what else runs on the machine changes little of it.
    """
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

    matrix = np.ones((size, size), dtype=np.float32)
    cores = max((library["num_threads"] for library in threadpool_info()), default=1)
    with threadpool_limits(1):
        fastest, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end or fastest == float("inf"):
            start = time.thread_time()
            matrix @ matrix
            fastest = min(fastest, time.thread_time() - start)
    return cores * 2.0 * size**3 / fastest
