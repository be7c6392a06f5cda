"""What an earlier run has made, under this name or another, becomes the result of this one before anything is started.

So a variant (`--set tracking.top_k_features=32 --name demo-32`) is made of the same results as the run it varies, wherever the
two ask for the same, and costs only what differs.
"""

from ghosttrack.common.engine.contract import task_key
from ghosttrack.common.engine.staleness import input_digests, input_entries
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import CorruptInputError, MissingInputError
from ghosttrack.orchestrate.plan import Plan


def adopt(plan: Plan) -> int:
    """Point to the results that the plan says are kept, if they are whole; how many there were. Raises BusyError."""
    store, count = Store(plan.config.paths.root), 0
    for unit in (planned.unit for planned in plan.units if planned.kept):
        try:
            key = task_key(unit, input_digests(unit, input_entries(store, unit)))
        except (CorruptInputError, MissingInputError):
            continue  # one before it was not whole
        with store.claim(unit):
            if store.kept(unit, key):
                store.point(unit, key)
                count += 1
    return count
