"""Costs of `extract`: a forward pass over T tokens as deep as the last layer, and a state a token and layer.

FLOP (2·P + 2·N·d·L)·T·depth (P block parameters, N blocks, L tokens a row); bytes exact but for headers.
"""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import FLOAT, INTERPRETER_BYTES, Cost, Quantities
from ghosttrack.common.maths.sampling import sampled_rows

EFFICIENCY = 1.0
"""Share of the float32 matrix product's rate, measured on two CPU cores."""
GPU_EFFICIENCY = 0.5
INDEX_BYTES = 14
"""A token in an index: token, document, position, held out, kind."""
BLOCK_WIDTH = 14
"""Numbers a token, in widths of the model, that a block at work has."""


def cost(q: Quantities, unit: Unit) -> Cost | None:
    depth = (unit.layers[-1] + 1) / q["model.n_layers"] if unit.layers else 1.0
    rows = sampled_rows(
        q["data.max_tokens"], q["extract.max_length"], q.base_tokens, q["data.held_out_fraction"]
    )
    tokens = q["data.max_tokens"] if unit.layers or rows is None else rows * q["extract.max_length"]
    attention = 2 * q["model.n_layers"] * q.d_model * q["extract.max_length"]
    layers = len(unit.layers) or q.layers
    return Cost(
        flop=depth * (2 * q.block_parameters + attention) * tokens,
        size=tokens * float(layers * q.row_bytes + INDEX_BYTES),
    )


def memory(q: Quantities) -> float:
    """A forward pass keeps the outputs of all blocks and of the block at work (4·d wide) of a batch."""
    tokens = q["extract.batch_size"] * q["extract.max_length"]
    return (
        INTERPRETER_BYTES + FLOAT * q.model_parameters + FLOAT * tokens * q.d_model * (q.layers + BLOCK_WIDTH)
    )
