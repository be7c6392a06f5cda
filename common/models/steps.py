"""A unit's steps by several processes of one CPU, where the unit computes with torch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import torch

from ghosttrack.common.engine.job import Job
from ghosttrack.common.engine.side_by_side import side_by_side, with_room

Step: TypeAlias = Callable[[int], object]
Result = TypeVar("Result")


def shard_name(number: int) -> str:
    """Of the step that does a shard, and of the scratch files that it leaves."""
    return f"part_{number:05}"


def shards_done(
    job: Job, questions: Sequence[int], what: str, begin: Callable[[], tuple[torch.device, Step]]
) -> bool:
    """Do every so-many-th shard of a unit that several processes may do together, each a step; whether this process is the
    one that gathers what all have done, by now.

    questions: of each shard, for the line of progress about `what`; begin: loads what is needed, and gives the device and what
    does a shard; not called where all is done.
    """
    mine = range(len(questions))[job.rank :: job.ranks]
    total = sum(questions[number] for number in mine)
    before = sum(questions[number] for number in mine if job.done(shard_name(number)))
    if before < total:
        device, do = begin()
        with job.progress(total, "questions", what, before) as progress:
            for number in steps_done(job, device, mine, shard_name, do):
                progress.update(questions[number])
    job.barrier()
    return job.rank == 0


def steps_done(
    job: Job,
    device: torch.device,
    numbers: Sequence[int],
    name: Callable[[int], str],
    do: Step,
    needed: float = 0,
) -> Iterator[int]:
    """Do the steps that are not done yet; yields a step's number when it is done.

    On a CPU by several processes, forked here, unless others do the unit with this one or something is to be kept in it: what
    `do` changes in memory is lost. name: of a step; needed: bytes that a process takes for itself, where that is much.
    """
    left = [number for number in numbers if not job.done(name(number))]
    alone = job.ranks == 1 and job.at_hand is None
    done = dealt(lambda n: job.step(name(n), lambda: do(n)), left, device, alone, needed)
    return (number for number, _ in zip(left, done, strict=True))


def dealt(
    do: Callable[[int], Result],
    pieces: Sequence[int],
    device: torch.device,
    alone: bool = True,
    needed: float = 0,
) -> Iterator[Result]:
    """What `do` makes of each piece, in order: of a unit that one process does `alone`, by processes forked here where it is
    done on a CPU and where memory has room (`with_room`)."""
    threads = torch.get_num_threads() if alone and device.type == "cpu" else 1
    threads = with_room(threads, needed) if needed else threads
    return (found for _, found in side_by_side(pieces, do, threads, torch.set_num_threads))
