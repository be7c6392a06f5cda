"""The forward pass over a packed corpus, row by row, all layers at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import NumericError
from common.language_model import LanguageModel


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
    start: int,
    rows: int,
    length: int,
    layers: Sequence[int],
    out: dict[int, Tensor],
) -> None:
    """Run one batch and store every layer's block outputs.

    tokens, positions: int32 [n_tokens], the whole corpus. start, rows, length: one item of `batches`.
    out: layer to [n_tokens, d_model]; rows [start, start + rows·length) are assigned, in out's dtype.
    Raises NumericError naming layer and token for a state that is not finite in the storage type.
    """
    stop = start + rows * length
    device = model.device

    def sink(layer: int, states: Tensor) -> None:
        target = out[layer][start:stop]
        target.copy_(states.reshape(rows * length, -1))
        finite = torch.isfinite(target).all(dim=1)
        if not bool(finite.all()):
            token = start + int((~finite).nonzero()[0])
            raise NumericError(
                f"layer {layer}, token {token} of the corpus: the hidden state is not finite as {target.dtype}; "
                "store in a wider type with --set extract.dtype=bfloat16 (or float32), "
                "or check the model's weights"
            )

    model.read_blocks(
        tokens[start:stop].long().view(rows, length).to(device),
        positions[start:stop].long().view(rows, length).to(device),
        layers,
        sink,
    )
