"""Processes that work on one stage together, each started by `accelerate launch`.

`accelerate launch` gives every process its number and their count; a stage that is started alone is rank
0 of 1 and needs none of this. There is no DDP: ranks take pieces of work of their own and meet at barriers.
"""

import os
from datetime import timedelta

from ghosttrack.common.errors import RankLostError

PATIENCE = timedelta(days=14)
"""A rank may wait at a barrier for as long as another one trains."""


def rank() -> int:
    return _given("RANK", 0)


def count() -> int:
    return _given("WORLD_SIZE", 1)


def _given(variable: str, alone: int) -> int:
    """What `accelerate launch` says, which gives a LOCAL_RANK, too; a pod or an allocation may have such a variable of its own."""
    return int(os.environ.get(variable, alone)) if "LOCAL_RANK" in os.environ else alone


def join() -> None:
    """Meet the other ranks for the first time, and take a GPU of one's own where there are some."""
    if count() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def barrier() -> None:
    """Return when all ranks have come here."""
    if count() > 1:
        from accelerate import PartialState

        try:
            PartialState().wait_for_everyone()
        except RuntimeError as error:
            raise RankLostError(
                f"rank {rank()} waited for the others, and one of them has ended; its error says why"
            ) from error


def leave() -> None:
    """Part from the others in good order."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
