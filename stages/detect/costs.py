"""Costs of `detect`: seconds that grow with the questions."""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import Cost, Quantities


def cost(q: Quantities, unit: Unit) -> Cost | None:
    known = {
        "all": Cost(seconds=1 + 0.016 * q.questions, size=1.5e4 * q.questions),
        "tokens": Cost(),
        "asked": Cost(),
    }
    return known.get(unit.name)
