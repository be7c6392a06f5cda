"""What a layer's states look like: mean, scale, outliers, and which tokens train and which are held out.

Position 0 and other attention sinks have norms of 10 to 1,000 times the median and would own the mean and the
scale; they are left out by position and by norm, and the norm limit is stored with the SAE. States are read
in chunks from a memory-mapped file: nothing here holds a layer whole.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ghosttrack.common.errors import CorruptInputError, DataError, ModelMismatchError, NumericError
from ghosttrack.common.formats.states import States

OUTLIER_FACTOR = 10.0
"""A state whose norm is this many times the median of its layer is an outlier."""
CHUNK_ROWS = 8192


@dataclass
class LayerStates:
    """A layer's states with their normalisation, x = (state - mean) · scale, so that E‖x‖² = d_model."""

    layer: int
    states: States
    """[n_tokens, d_model], memory-mapped; the model's units"""
    train: Tensor
    """Rows to train on, int64, ascending: kept tokens of documents that are not held out"""
    held_out: Tensor
    """Rows to measure on, int64, ascending: kept tokens of held-out documents"""
    held_out_all: Tensor
    """All rows of held-out documents, int64, ascending, outliers included"""
    mean: Tensor
    """[d_model] float32"""
    scale: float
    norm_limit: float

    def normalised(self, rows: Tensor) -> Tensor:
        """Rows as training takes them. rows: [n] int64, on the CPU → [n, d_model] float32, on the device of
        `mean`."""
        return self.states[rows].to(self.mean.device).sub_(self.mean).mul_(self.scale)


def fit_layer(
    layer: int, states: States, position: Tensor, held_out: Tensor, device: torch.device | str = "cpu"
) -> LayerStates:
    """Check a layer's states and measure their normalisation on the training tokens.

    states: [n_tokens, d_model]; position: [n_tokens], 0 at the start of a segment; held_out: bool [n_tokens];
    device: where normalised batches go. Raises NumericError for NaN, Inf, all-zero or constant states, CorruptInputError where the index does not
    belong to the states, DataError where nothing is left to train or to measure on.
    """
    if len(states) != len(position):
        raise CorruptInputError(
            f"layer {layer}: {len(states)} states but {len(position)} tokens in its index; "
            "run extract again (`ghosttrack run`)"
        )
    starts = range(0, len(states), CHUNK_ROWS)
    norms = torch.cat([_norms(layer, start, states[start : start + CHUNK_ROWS]) for start in starts])
    inner = position > 0
    if not inner.any():
        raise DataError(f"layer {layer}: every token is the first of its segment; raise extract.max_length")
    median = norms[inner].median()
    if median == 0:
        raise NumericError(f"layer {layer}: the states are all zero; the forward pass is broken")
    norm_limit = float(OUTLIER_FACTOR * median)
    kept = inner & (norms < norm_limit)
    train, held_rows = (kept & ~held_out).nonzero().view(-1), (kept & held_out).nonzero().view(-1)
    for rows, what in ((train, "training"), (held_rows, "held-out")):
        if len(rows) < 2:
            raise DataError(
                f"layer {layer}: {len(rows)} {what} tokens are left after outliers; "
                "raise data.max_tokens or change data.held_out_fraction"
            )
    mean, variance = _moments(states, train)
    if variance <= 1e-9 * float(median) ** 2:
        raise NumericError(
            f"layer {layer}: the states are the same for every token; the forward pass is broken"
        )
    return LayerStates(
        layer, states, train, held_rows, held_out.nonzero().view(-1),
        mean.to(device), (states.shape[1] / variance) ** 0.5, norm_limit,
    )  # fmt: skip


def check_width(layer: int, states: States, d_model: int) -> None:
    """Raise ModelMismatchError unless states is [n_tokens, d_model]."""
    if len(states.shape) != 2 or states.shape[1] != d_model:
        raise ModelMismatchError(
            f"layer {layer}: the states have shape {list(states.shape)} and model.d_model is {d_model}; "
            "correct model.d_model or run extract again"
        )


def _norms(layer: int, start: int, chunk: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(chunk, dim=1)
    if not norms.isfinite().all():
        token = start + int((~norms.isfinite()).nonzero()[0])
        raise NumericError(
            f"layer {layer}: the state of token {token} holds NaN or Inf; extract again with "
            "extract.dtype=float32 (float16 overflows at 65,504)"
        )
    return norms


def _moments(states: States, rows: Tensor) -> tuple[Tensor, float]:
    """Mean [d_model] float32 and total variance E‖state - mean‖² of the rows; one pass.

    Chunks are summed in float32 (reductions in float64 are ten times slower) and added up in float64. The sums
    are taken about the mean of the first rows, so that a large mean does not swallow the variance.
    """
    centre = states[rows[:CHUNK_ROWS]].mean(0)
    total, square = torch.zeros(states.shape[1], dtype=torch.float64), 0.0
    for part in rows.split(CHUNK_ROWS):
        centred = states[part].sub_(centre)
        total += centred.sum(0)
        square += float(centred.square_().sum(1).sum(dtype=torch.float64))
    shift = total / len(rows)
    return (centre + shift).float(), square / len(rows) - float(shift.square().sum())
