"""The logit lens: what each block output would predict if the model ended there (nostalgebraist 2020).

Final norm and unembedding over the whole vocabulary, with the model's soft cap if it has one. After the last block it
is the model's own distribution.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.maths.arrays import Singles
from ghosttrack.common.models.language_model import LanguageModel

CHUNK_ROWS = 256
"""Rows whose logits are made at a time: 50 MB for 50,000 tokens."""
AT_ONCE = 8
"""Rows of them that are read at a time on a CPU, while they are in its cache: they are gone through six times."""


class Lens(NamedTuple):
    """A value a row, [n]. logprob, rival_logprob: float32, of the emitted token and of its rival, nats; entropy:
    float32, nats; top: int32, the likeliest token; rank: int32, how many tokens are likelier than the emitted one."""

    logprob: Singles
    rival_logprob: Singles
    entropy: Singles
    top: NDArray[np.int32]
    rank: NDArray[np.int32]


@torch.inference_mode()
def read_lens(model: LanguageModel, states: Tensor, emitted: Tensor, rival: Tensor) -> Lens:
    """What block outputs say of the next token by the model's own final norm and unembedding. states: [n, d_model]
    block outputs; emitted, rival: int64 [n], tokens to look for."""
    found: list[tuple[Tensor, ...]] = []
    asked = torch.stack([emitted, rival], dim=1).to(model.device)
    for rows, wanted in zip(states.split(CHUNK_ROWS), asked.split(CHUNK_ROWS), strict=True):
        final = model.final_norm(rows.to(model.device, model.unembedding.dtype))
        logits = model.logits(final).float()
        few = AT_ONCE if logits.device.type == "cpu" else CHUNK_ROWS
        found += [_read(*parts) for parts in zip(logits.split(few), wanted.split(few), strict=True)]
    columns = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
    logprob, rival_logprob, entropy, *tokens = columns
    return Lens(logprob, rival_logprob, entropy, *(values.astype(np.int32) for values in tokens))


def _read(logits: Tensor, wanted: Tensor) -> tuple[Tensor, ...]:
    """The columns of `Lens` of a few rows. logits: [n, n_vocabulary], changed in place; wanted: [n, 2]."""
    top = _likeliest(logits)
    logits -= logits.gather(1, top)
    asked = logits.gather(1, wanted)
    work = torch.empty_like(logits)
    rank = torch.gt(logits, asked[:, :1], out=work).sum(dim=1)
    total = torch.exp(logits, out=work).sum(dim=1)
    mean = work.mul_(logits).sum(dim=1) / total
    log_total = total.log()
    return asked[:, 0] - log_total, asked[:, 1] - log_total, log_total - mean, top[:, 0], rank


def _likeliest(logits: Tensor) -> Tensor:
    """int64 [n, 1]. By numpy on a CPU, where torch takes seven times as long."""
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(axis=1, keepdims=True))
    return logits.argmax(dim=1, keepdim=True)
