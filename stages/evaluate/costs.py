"""Costs of `evaluate`: seconds that grow with the questions."""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import Cost, Quantities


def cost(q: Quantities, unit: Unit) -> Cost | None:
    return Cost(seconds=1 + 0.008 * q.questions, size=2e6)
