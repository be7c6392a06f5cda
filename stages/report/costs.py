"""Costs of `report`: nothing but its start."""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import Cost, Quantities


def cost(q: Quantities, unit: Unit) -> Cost | None:
    return Cost(size=1.5e6)
