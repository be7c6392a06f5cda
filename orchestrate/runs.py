"""The runs under one root, beside each other: what is there of each, what they were asked differently, what came out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ghosttrack.common.engine.storage import Entry, Store
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.common.formats.final_report import REPORT

NO_SETTING = "not set"


@dataclass(frozen=True)
class RunSummary:
    """A run in one line. differs: key to value where the runs of one root are not asked the same."""

    name: str
    units: int
    shared: int
    """Of them, how many results are those of another run, too."""
    last_finished: datetime
    elapsed: float
    size: int
    auroc: float | None
    """Of the run's detector, all questions."""
    differs: dict[str, Any]


def summaries(store: Store) -> list[RunSummary]:
    """The runs under a root, the one that was finished last first. Raises StorageError where they cannot be seen."""
    known = {  # what cannot be read, `ghosttrack verify` tells
        name: [entry for _, entry in store.entries(name) if isinstance(entry, Entry)]
        for name in store.names()
    }
    runs = {name: entries for name, entries in known.items() if entries}
    asked = {
        name: {key: value for entry in entries for key, value in entry.parameters.items()}
        for name, entries in runs.items()
    }
    keys = sorted({key for settings in asked.values() for key in settings})
    differing = [key for key in keys if len({_text(settings.get(key)) for settings in asked.values()}) > 1]
    results = {name: {entry.path for entry in entries} for name, entries in runs.items()}
    found = [
        RunSummary(
            name=name,
            units=len(entries),
            shared=len(results[name] & set().union(*(of for other, of in results.items() if other != name))),
            last_finished=max(entry.finished for entry in entries),
            elapsed=sum(entry.elapsed for entry in entries),
            size=sum(entry.size for entry in entries if not entry.released),
            auroc=_auroc(store, entries),
            differs={key: asked[name].get(key, NO_SETTING) for key in differing},
        )
        for name, entries in runs.items()
    ]
    return sorted(found, key=lambda run: run.last_finished, reverse=True)


def _auroc(store: Store, entries: Sequence[Entry]) -> float | None:
    for entry in entries:
        if REPORT.name in entry.manifest.files and not entry.released:
            aurocs = entry.manifest.predicate.metrics.get("auroc")
            try:
                report = REPORT.read(store.file(entry, REPORT.name))
            except (CorruptInputError, MissingInputError):
                return None  # `ghosttrack verify` tells
            value = aurocs.get(str(report.get("detector"))) if isinstance(aurocs, dict) else None
            return float(value) if isinstance(value, (int, float)) else None
    return None


def _text(value: Any) -> str:
    return NO_SETTING if value is None else json.dumps(value, sort_keys=True)
