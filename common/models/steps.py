"""A unit's steps by several processes of one CPU, where the unit computes with torch."""

from collections.abc import Callable, Iterator, Sequence

import torch

from ghosttrack.common.engine.job import Job
from ghosttrack.common.engine.side_by_side import side_by_side


def steps_done(
    job: Job,
    device: torch.device,
    numbers: Sequence[int],
    name: Callable[[int], str],
    do: Callable[[int], object],
) -> Iterator[int]:
    """Do the steps that are not done yet; yields a step's number when it is done.

    On a CPU by several processes, forked here, unless others do the unit with this one or something is to be kept in it: what
    `do` changes in memory is lost. name: of a step.
    """
    left = [number for number in numbers if not job.done(name(number))]
    alone = device.type == "cpu" and job.ranks == 1 and job.at_hand is None
    threads = torch.get_num_threads() if alone else 1
    done = side_by_side(left, lambda n: job.step(name(n), lambda: do(n)), threads, torch.set_num_threads)
    return (number for number, _ in done)
