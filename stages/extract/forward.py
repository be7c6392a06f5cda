"""The forward pass over a packed corpus, batch by batch, all layers at once."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from ghosttrack.common.errors import NumericError
from ghosttrack.common.formats.states import StatesWriter
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.products import linear

MEASURED_ROWS = 4
"""Rows of the corpus whose largest number decides the storage type."""


def plan_shards(n_tokens: int, length: int, shard_rows: int) -> list[tuple[int, int]]:
    """Token ranges [start, stop) of `shard_rows` rows of `length` tokens; the last may be shorter."""
    size = length * shard_rows
    return [(start, min(start + size, n_tokens)) for start in range(0, n_tokens, size)]


def batches(start: int, stop: int, length: int, batch_size: int) -> list[tuple[int, int, int]]:
    """(first token, rows, tokens a row) of the forward passes over a token range; a short last row goes alone."""
    full_rows, rest = divmod(stop - start, length)
    plan = [
        (start + row * length, min(batch_size, full_rows - row), length)
        for row in range(0, full_rows, batch_size)
    ]
    return [*plan, (start + full_rows * length, 1, rest)] if rest else plan


def write_states(
    model: LanguageModel,
    tokens: Tensor,
    positions: Tensor,
    batch: tuple[int, int, int],
    out: Mapping[int, StatesWriter],
    *,
    clamped: bool = False,
) -> set[int]:
    """Run one batch and store the block outputs of the layers of `out`; the layers where numbers were clamped.

    tokens, positions: int32 [n_tokens], the whole corpus. batch: an item of `batches`. out: layer to the file
    whose rows [start, start + rows·length) are written. Raises NumericError naming layer and row for a state
    that is not finite, or too large for the file's type unless `clamped`, which stores the type's largest number there.
    """
    start, rows, length = batch
    stop = start + rows * length
    device = model.device
    beyond: set[int] = set()
    waiting: list[tuple[int, Tensor]] = []

    def store(layer: int, flat: Tensor) -> None:
        if out[layer].write(start, flat):
            return
        if not (clamped and out[layer].write(start, flat, clamped=True)):
            raise NumericError(_not_finite(layer, start, flat, out[layer].dtype))
        beyond.add(layer)

    def sink(layer: int, states: Tensor) -> None:
        flat = states.reshape(rows * length, -1)
        if flat.device.type != "cuda":
            store(layer, flat)
            return
        # A copy that is queued behind the block, so that the forward pass does not wait for it; looked at when all have come.
        host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        waiting.append((layer, host.copy_(flat, non_blocking=True)))

    model.read_blocks(
        tokens[start:stop].long().view(rows, length).to(device),
        positions[start:stop].long().view(rows, length).to(device),
        list(out),
        sink,
    )
    if waiting:
        torch.cuda.synchronize(device)
    for layer, flat in waiting:
        store(layer, flat)
    return beyond


def largest_states(
    model: LanguageModel, tokens: Tensor, positions: Tensor, length: int, layers: list[int]
) -> dict[int, float]:
    """Layer to the largest absolute finite number of its block outputs in rows spread over the corpus."""
    starts = range(0, len(tokens), length)
    largest = dict.fromkeys(layers, 0.0)

    def sink(layer: int, states: Tensor) -> None:
        finite = torch.where(torch.isfinite(states), states, torch.zeros_like(states))
        largest[layer] = max(largest[layer], float(finite.abs().max()))

    for start in starts[:: max(1, len(starts) // MEASURED_ROWS)]:
        row = slice(start, start + length)
        ids, places = (part[row].long()[None].to(model.device) for part in (tokens, positions))
        model.read_blocks(ids, places, layers, sink)
    return largest


def _not_finite(layer: int, start: int, states: Tensor, dtype: torch.dtype) -> str:
    finite = torch.isfinite(states if dtype == torch.int8 else states.to(dtype)).all(dim=1)
    row = start + int((~finite).nonzero()[0])
    kind = str(dtype).removeprefix("torch.")
    if not bool(torch.isfinite(states).all()):
        return (
            f"layer {layer}, row {row}: the hidden state holds NaN or Inf; check the model's weights, or compute in "
            "a wider type with --set model.dtype=float32"
        )
    return (
        f"layer {layer}, row {row}: the hidden state is too large for {kind}; store in another type with "
        "--set extract.dtype=auto (or bfloat16, int8, float32)"
    )


def flop_per_token(model: LanguageModel, last: int, length: int) -> float:
    """Arithmetic of the forward pass up to and with block `last`: 2 a weight of its matrices, and causal attention."""
    weights = sum(p.numel() for block in model.blocks[: last + 1] for p in block.parameters() if p.ndim == 2)
    return 2.0 * weights + 2.0 * (last + 1) * model.d_model * length


def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 1024, seconds: float = 0.2) -> float:
    """FLOP a second of a matrix product on this device, measured now: the fastest of several."""
    size = size if device.type == "cpu" else 8 * size
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or fastest == float("inf"):
        start = time.perf_counter()
        linear(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * size**3 / fastest
