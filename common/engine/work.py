"""One unit at work, from the check of its inputs until it is published or its failure is on record."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine import ranks
from ghosttrack.common.engine.contract import Unit, task_key
from ghosttrack.common.engine.device_errors import device_errors
from ghosttrack.common.engine.entry import Entry, broken_promise
from ghosttrack.common.engine.job import Job
from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.engine.provenance import invocation_id, now, statement_of, subject_of
from ghosttrack.common.engine.staleness import changed_since, input_digests, input_entries
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.engine.usage import Sampler, cpu_seconds, resource_usage, together
from ghosttrack.common.engine.verification import TRUSTED_TO_READ
from ghosttrack.common.errors import CorruptInputError, MissingInputError, StopRequested


class Work:
    """A unit at work, from the check of its inputs until it is published."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.metrics: dict[str, Any] = {}
        self._start, self._cpu = time.monotonic(), cpu_seconds()

    def finish(self, metrics: dict[str, Any], together: int = 1, beside: int = 1) -> None:
        """It is done. together: the units that this process did in this time; beside: processes that did as many each."""
        self.metrics = metrics
        elapsed, cpu = time.monotonic() - self._start, cpu_seconds() - self._cpu
        used = resource_usage(elapsed / (together * beside), cpu / together)
        (self.job.staging / f"usage_{self.job.rank}.json").write_text(json.dumps(used))


@contextlib.contextmanager
def at_work(
    store: Store, unit: Unit, config: Config, log: logging.Logger, label: str, rank: int = 0, count: int = 1
) -> Iterator[Work | None]:
    """A unit with its inputs verified, published at the end of the block; None where an earlier run has made it."""
    entries = input_entries(store, unit)
    digests = input_digests(unit, entries)
    key = task_key(unit, digests)
    with _on_record(store, unit, key) as started:
        _verify_inputs(store, unit, entries, digests, TRUSTED_TO_READ)
        kept = store.kept(unit, key)
        if kept and unit.strict_code and changed_since(kept, unit):
            kept = None
        if count > 1:
            ranks.barrier()
        if kept:
            if rank == 0:
                store.point(unit, key)
            log.info(f"{label}: taken from an earlier run", extra={"unit": unit.name, "taskKey": key})
            yield None
            return
        if rank == 0:
            store.staging(unit, key)
        if count > 1:
            ranks.barrier()
        staging = store.layout.staging(unit) / key
        job = Job(config, unit, log, staging, entries, rank=rank, ranks=count)
        resumed = store.finished_steps(unit, key)
        if rank == 0:
            log.info(
                f"{label}: " + (f"goes on after {resumed} finished steps" if resumed else "starts"),
                extra={"unit": unit.name, "taskKey": key},
            )
        work, sampler = Work(job), Sampler()
        with sampler, device_errors(), storage_errors(store.root):
            yield work
            job.barrier()
            _verify_inputs(store, unit, entries, digests, math.inf)  # what was hashed is what was read
            if rank > 0:
                ranks.barrier()  # until the first has published
                return
            subjects = [
                subject_of(job.output(name)) for name in sorted(p.name for p in (staging / "out").iterdir())
            ]
        if broken := broken_promise(unit, {subject.name for subject in subjects}):
            raise RuntimeError(f"{unit.label} broke its contract: {broken}")
        usage = together([json.loads((staging / f"usage_{each}.json").read_text()) for each in range(count)])
        statement = statement_of(
            unit, key, digests, entries, subjects,
            started=started,
            internal=job.internal,
            usage={**usage, **sampler.usage(), "processes": float(count)},
            metrics=work.metrics,
        )  # fmt: skip
        store.publish(unit, key, statement)
        job.barrier()
    size = sum(subject.size for subject in subjects)
    log.info(
        f"{label}: done in {format_seconds(usage['elapsedSec'] or 0.0)}, {len(subjects)} files, {format_bytes(size)}",
        extra={"unit": unit.name, "taskKey": key, "metrics": work.metrics},
    )


@contextlib.contextmanager
def _on_record(store: Store, unit: Unit, key: str) -> Iterator[str]:
    """Gives the time; what fails within is a failed attempt of the unit, whether in its inputs, its work or its publishing."""
    started = now()
    try:
        yield started
    except StopRequested:
        raise
    except BaseException as error:
        store.record_failure(
            unit, {"stage": unit.stage, "unit": unit.name, "taskKey": key, "error": f"{type(error).__name__}: {error}",
                   "startedOn": started, "finishedOn": now(), "invocationId": invocation_id()}
        )  # fmt: skip
        raise


def _verify_inputs(
    store: Store, unit: Unit, entries: Mapping[str, Entry], digests: Mapping[str, str], trusted_for: float
) -> None:
    """Make sure that all files that a unit reads have these digests; what was made from damaged ones is forgotten."""
    try:
        for read in unit.reads:
            if entries[read.name].released:
                raise MissingInputError(
                    f"{unit.label} needs {read.name}, whose files were removed after everything was made from them; "
                    "`ghosttrack run` makes them again"
                )
            prefix = f"{read.name}/"
            files = [name[len(prefix) :] for name in digests if name.startswith(prefix)]
            store.verify(entries[read.name], files, trusted_for=trusted_for)
    except CorruptInputError:
        store.abandon(unit)
        raise
