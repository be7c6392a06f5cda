"""Which units of a stage a process does, in which order, alone or together with other processes."""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable

from ghosttrack.common.config.options import refuse_other_layers
from ghosttrack.common.config.schema import Config, flattened
from ghosttrack.common.engine import ranks, stop
from ghosttrack.common.engine.claims import work_group
from ghosttrack.common.engine.contained import store_of
from ghosttrack.common.engine.contract import STAGES_FOLDER, Contract, Unit, expand
from ghosttrack.common.engine.costs import Quantities, costs_of
from ghosttrack.common.engine.image import facts
from ghosttrack.common.engine.job import Run, RunTogether
from ghosttrack.common.engine.progress import Progress
from ghosttrack.common.engine.side_by_side import processes_of, side_by_side, with_room
from ghosttrack.common.engine.staleness import State
from ghosttrack.common.engine.staleness import state as unit_state
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.engine.work import Work, at_work
from ghosttrack.common.errors import BusyError, ConfigError

Do = Callable[..., None]
"""Does a claimed unit. unit; label: for the log; rank, count: of the processes that do it together; beside: processes that do a
unit each in this time."""


def run_units(
    contract: Contract,
    run: Run,
    config: Config,
    *,
    layers: list[int] | None = None,
    names: tuple[str, ...] = (),
    log: logging.Logger,
    run_together: RunTogether | None = None,
    strict_code: bool = False,
) -> None:
    """Do the units of a stage that are not up to date, in order.

    A unit whose files were released counts as up to date unless it is asked for by name.
    """
    store = store_of(config.paths.root)
    units = expand(contract, config, strict_code=strict_code, image=facts().get("inputs", ""))
    if not units:
        raise ConfigError(f"{contract.stage} has nothing to do for {config.name}: sae.pretrained is set, so that no states "
                          "are extracted; go on with the next stage, or all with `ghosttrack run`")  # fmt: skip
    chosen = select_units(units, config, layers, names)

    def do(unit: Unit, label: str, rank: int = 0, count: int = 1, beside: int = 1) -> None:
        with at_work(store, unit, config, log, label, rank, count) as work:
            if work:
                work.finish(run(work.job), beside=beside)

    together = contract.ranks == "shared" and ranks.count() > 1
    threads = _threads_to_deal(contract, config)
    number = 0
    while number < len(chosen):
        unit = chosen[number]
        number += 1
        stop.check()
        if run_together and unit.together > 1:
            beside = [unit, *itertools.takewhile(lambda other: other.together > 1, chosen[number:])]
            number += len(beside) - 1
            _run_side_by_side(store, beside, run_together, config, log)
            continue
        if threads > 1 and unit.layer is not None:
            beside = [unit, *itertools.takewhile(lambda other: other.layer is not None, chosen[number:])]
            number += len(beside) - 1
            _run_forked(store, beside, do, log, names, threads)
            continue
        label = unit.label if len(chosen) == 1 else f"{unit.label} ({number} of {len(chosen)})"
        alone = not together and unit.layer is None
        if alone:
            ranks.barrier()  # what the others have of the units before it is done
        found = unit_state(store, unit)
        if together or alone:
            ranks.barrier()  # all have seen the same state before one of them changes it
        if _is_done(found, unit, names):
            if ranks.rank() == 0:
                log.info(f"{label}: up to date", extra={"unit": unit.name})
        elif together:
            with store.claim(unit) if ranks.rank() == 0 else contextlib.nullcontext():
                do(unit, label, ranks.rank(), ranks.count())
        elif ranks.count() > 1:
            _run_apart(store, unit, do, log, label)
        else:
            with store.claim(unit):
                do(unit, label)


def _run_side_by_side(
    store: Store, units: list[Unit], run: RunTogether, config: Config, log: logging.Logger
) -> None:
    """Do units that may share a process, so many at a time; with several ranks, each takes its share of them."""
    stale = [unit for unit in units if unit_state(store, unit).reason is not None]
    ranks.barrier()  # all have counted before one of them changes something
    size = min(units[0].together, -(-len(stale) // ranks.count()))
    for unit in units:
        if unit not in stale and ranks.rank() == 0:
            log.info(f"{unit.label}: up to date", extra={"unit": unit.name})
    while stale:
        stop.check()
        with contextlib.ExitStack() as stack:
            works: list[Work] = []
            while stale and len(works) < size:
                unit = stale.pop(0)
                try:
                    stack.enter_context(store.claim(unit))
                except BusyError as error:
                    if ranks.count() == 1 or error.group != work_group():
                        raise
                    continue  # another rank has it
                if unit_state(store, unit).reason is not None:  # not done since it was looked at
                    work = stack.enter_context(at_work(store, unit, config, log, unit.label))
                    works += [work] if work else []
            if works:
                found = run([work.job for work in works])
                for work, metrics in zip(works, found, strict=True):
                    work.finish(metrics, together=len(works))


def _is_done(found: State, unit: Unit, names: tuple[str, ...]) -> bool:
    return found.reason is None and not (found.entry and found.entry.released and unit.name in names)


def _threads_to_deal(contract: Contract, config: Config) -> int:
    """Threads of this process that processes of one thread each would make more of, where a stage's layers are apart: small
    products wait for several. As many as have room in memory; 1 with a GPU, and where processes share the stage already."""
    if contract.ranks != "apart" or not contract.torch or ranks.count() > 1:
        return 1
    import torch

    if torch.cuda.is_available():
        return 1
    settings = dict(flattened(config.model_dump(mode="json")), layers=config.layers)
    needed = costs_of(STAGES_FOLDER / contract.stage).memory(Quantities(settings)) or 1
    return with_room(torch.get_num_threads(), needed)


def _run_forked(
    store: Store, units: list[Unit], run: Do, log: logging.Logger, names: tuple[str, ...], threads: int
) -> None:
    """Do units of one layer each by processes of this machine, which show their progress together."""
    stale: list[int] = []
    for number, unit in enumerate(units):
        if _is_done(unit_state(store, unit), unit, names):
            log.info(f"{unit.label}: up to date", extra={"unit": unit.name})
        else:
            stale.append(number)

    processes = processes_of(len(stale), threads)

    def begin(count: int) -> None:
        import torch

        torch.set_num_threads(count)
        os.environ["GHOSTTRACK_PROGRESS"] = "none"

    def do(number: int) -> None:
        stop.check()
        with store.claim(units[number]):
            if not _is_done(unit_state(store, units[number]), units[number], names):
                run(units[number], units[number].label, beside=processes)

    with Progress(len(stale), "layers", units[0].stage, shown=processes > 1) as progress:
        for _ in side_by_side(stale, do, threads, begin):
            progress.update()


def _run_apart(store: Store, unit: Unit, run: Do, log: logging.Logger, label: str) -> None:
    """Do a unit unless another rank has it. What is not of one layer the first rank does, while the others wait."""
    try:
        if unit.layer is not None or ranks.rank() == 0:
            with store.claim(unit):
                if unit_state(store, unit).reason is not None:  # not done since it was looked at
                    run(unit, label)
    except BusyError as error:
        if error.group != work_group():
            raise  # not one of those that work beside this one
        log.debug(f"{label}: another process has it", extra={"unit": unit.name})
    if unit.layer is None:
        ranks.barrier()  # what reads it may start


def select_units(
    units: list[Unit], config: Config, layers: list[int] | None, names: tuple[str, ...]
) -> list[Unit]:
    """The units with these names, and of the per-layer units those of these layers. Raises ConfigError.

    A unit that reads units of all layers of its own stage is left out where not all are chosen.
    """
    if names:
        unknown = sorted(set(names) - {unit.name for unit in units})
        if unknown:
            raise ConfigError(
                f"there is no unit {unknown[0]!r}; there are {', '.join(u.name for u in units)}"
            )
        units = [unit for unit in units if unit.name in names]
    if layers is None:
        return units
    stage = units[0].stage
    if all(unit.layer is None for unit in units):
        raise ConfigError(
            f"{stage} works on all layers at once, so --layers means nothing to it; "
            "choose layers for the whole run with --set model.layers=0-5"
        )
    refuse_other_layers(config, layers)
    left_out = {unit.label for unit in units if unit.layer is not None and unit.layer not in layers}
    return [
        unit
        for unit in units
        if unit.label not in left_out and not any(read.name in left_out for read in unit.reads)
    ]
