"""Costs of `sae_train`: d·(2·h + 600·L0) FLOP a sample, which is a training token times the number of epochs.

The quality of n layers' SAEs takes 3 losses of S spliced tokens for each (half the model is computed on average) and
4·n·d·h² for their identity.
"""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import FLOAT, INTERPRETER_BYTES, READ_RATE, Cost, Quantities

EFFICIENCY = 3.0
"""Of the float32 matrix product's rate on two CPU cores: training has its product in bfloat16."""
SPLICE_EFFICIENCY = 0.85
"""Of the same for losses inside the model, which go over the whole vocabulary in memory."""
GPU_EFFICIENCY = 0.4
"""Of a GPU's rate, which is that of its fast arithmetic already."""
ACTIVE_FLOP = 600
"""FLOP in whose time one number of an active latent's row is read, summed and updated."""
PAGE_BYTES = 1.6e5
"""A page of figures, and its share of the JSON."""


def cost(q: Quantities, unit: Unit) -> Cost | None:
    if unit.name == "quality":
        losses = 3 * q["sae_training.splice_tokens"] * (q.block_parameters + 2 * q.vocabulary * q.d_model)
        slower = EFFICIENCY / SPLICE_EFFICIENCY
        return Cost(
            flop=q.layers * (slower * losses + 4 * q.d_model * q.d_hidden**2),
            size=PAGE_BYTES * (q.layers + 1),
        )
    if q["sae.pretrained"] is not None and unit.layer is not None:
        return Cost(seconds=q.sae_bytes / READ_RATE, size=q.sae_bytes)
    samples = q.base_samples if unit.layer is None else q.train_tokens * q["sae_training.epochs"]
    if unit.name.startswith("independent_"):
        samples += q.base_samples / q.layers
    return Cost(
        flop=q.d_model * (2 * q.d_hidden + ACTIVE_FLOP * q["sae.target_l0"]) * samples, size=q.sae_bytes
    )


def memory(q: Quantities) -> float:
    """Weights, gradients and Adam's two moments, and a batch's latents with what their gradient needs."""
    sae = FLOAT * 2 * q.d_model * q.d_hidden
    return INTERPRETER_BYTES + 4 * sae + FLOAT * q["sae_training.batch_size"] * 3 * (q.d_hidden + q.d_model)
