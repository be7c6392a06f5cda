"""Pieces of one unit done by several processes of this machine, forked when all that they share has been loaded.

On a CPU the small matrices of one forward pass keep several threads waiting for each other; as many processes of one thread each
do not wait, and memory that was loaded before stays one. Nothing is imported or copied for them. One thread, since the threads
of OpenMP do not outlive a fork: a process that asked for more would wait for them for ever.
"""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import psutil

from ghosttrack.common.engine.parent import end_with_parent
from ghosttrack.common.errors import RankLostError

MOST = 8
"""Processes: each has its own working memory. Of more than twice as many threads one process makes more."""
_do: Callable[[int], Any] | None = None
Result = TypeVar("Result")


def processes_of(pieces: int, threads: int) -> int:
    """How many processes do so many pieces of a process that has so many threads."""
    count = min(threads, MOST, pieces)
    return 1 if count < 2 or threads > 2 * MOST or sys.platform != "linux" else count


def with_room(threads: int, needed: float) -> int:
    """Of the threads of this process, as many as have room in memory for `needed` bytes each as processes of their own. One where
    less than half have it, and in a scheduler's job, whose memory was asked for one process."""
    room = int(psutil.virtual_memory().available / max(needed, 1))
    return min(threads, room) if 2 * room >= threads and "SLURM_JOB_ID" not in os.environ else 1


def side_by_side(
    pieces: Sequence[int], do: Callable[[int], Result], threads: int, set_threads: Callable[[int], object]
) -> Iterator[tuple[int, Result]]:
    """Do every piece, in this process where others would not be faster (`processes_of`); yields each, in order, and what came of it.

    threads: of this process, to be dealt out; set_threads: makes a process use so many, one. Raises what a piece raises, and
    RankLostError where a process was killed.
    """
    processes = processes_of(len(pieces), threads)
    if processes == 1:
        for piece in pieces:
            yield piece, do(piece)
        return
    global _do
    _do = do
    parent, request = os.getpid(), end_with_parent()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not outlive a fork

    def begin() -> None:
        if request:
            request()
        if os.getppid() != parent:
            os._exit(1)
        set_threads(1)

    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=begin) as pool:
        waiting = [pool.submit(_call, piece) for piece in pieces]
        try:
            for piece, future in zip(pieces, waiting, strict=True):
                yield piece, future.result()
        except BrokenProcessPool as error:
            raise RankLostError(
                "a process that did a part of the work was killed; out of memory, if nobody did it. Give the command again "
                "to go on from the finished steps"
            ) from error
        except KeyboardInterrupt:  # each would go on with the next piece that it was given
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            for future in waiting:
                with contextlib.suppress(RuntimeError):
                    future.cancel()
            _do = None


def _call(piece: int) -> Any:
    assert _do is not None
    return _do(piece)
