"""Costs of `prepare`: P model parameters are read and converted, T tokens made, Q questions written."""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import READ_RATE, Cost, Quantities

TOKENIZER_RATE = 400e3
"""Tokens a second."""


def cost(q: Quantities, unit: Unit) -> Cost | None:
    return {
        "model": Cost(seconds=4 * q.model_parameters / READ_RATE, size=4 * q.model_parameters),
        "questions": Cost(seconds=0.2 + 1e-4 * q.questions, size=600.0 * q.questions),
        "contexts": Cost(),
        "corpus": Cost(seconds=q["data.max_tokens"] / TOKENIZER_RATE, size=12.0 * q["data.max_tokens"]),
        "asked": Cost(),  # nobody has counted the new questions
        "asked_contexts": Cost(),
    }.get(unit.name)
