"""What SAEs see in held-out text: scans for the association model, and statistics of every latent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.sae import JumpReLUSAE, strongest
from ghosttrack.stages.track.association import Scans


@dataclass(frozen=True)
class CorpusScans:
    """scans: of the kept tokens. row, column: int64 [n_scans], where in the text each of them is.

    firing_rate, mean_activation (over the tokens at which it is active): float64 [d_hidden], of each layer.
    at_start, outliers: tokens that were left out: at position 0, and for the norm of a state at some layer.
    beyond_k: active latents, a scan and layer, that are not among the k strongest.
    """

    scans: Scans
    row: Ints
    column: Ints
    firing_rate: list[Floats]
    mean_activation: list[Floats]
    at_start: int
    outliers: int
    beyond_k: float


@torch.inference_mode()
def scan_text(
    model: LanguageModel,
    text: HeldOutText,
    saes: Sequence[JumpReLUSAE],
    layers: Sequence[int],
    k: int,
    rows_at_a_time: int,
    done: Callable[[int], None],
) -> CorpusScans:
    """Read the text and encode every kept token with the SAEs. done: told the number of tokens after each batch."""
    scans: list[tuple[Tensor, ...]] = []
    counts = [torch.zeros(sae.d_hidden, dtype=torch.float64) for sae in saes]
    sums = [torch.zeros(sae.d_hidden, dtype=torch.float64) for sae in saes]
    start = outliers = beyond = 0
    for batch in text.batches(rows_at_a_time):
        outputs: dict[int, Tensor] = {}
        token, position = batch.token.to(model.device), batch.position.to(model.device)
        model.read_blocks(token, position, layers, outputs.__setitem__)
        states = {layer: outputs.pop(layer).cpu() for layer in layers}
        usable = batch.real & (batch.position > 0)
        strange = torch.stack(
            [sae.is_outlier(states[layer]) for layer, sae in zip(layers, saes, strict=True)]
        ).any(0)
        outliers += int((usable & strange).sum())
        kept = usable & ~strange
        found = []
        for layer, sae, count, total in zip(layers, saes, counts, sums, strict=True):
            acts = sae.encode(states.pop(layer)[kept])
            active = acts > 0
            count += active.sum(0)
            total += acts.sum(0, dtype=torch.float64)
            beyond += int((active.sum(1) - k).clamp(min=0).sum())
            found.append(strongest(acts, k))
        row, column = kept.nonzero(as_tuple=True)
        strongest_of = (torch.stack(each, dim=1) for each in zip(*found, strict=True))
        scans.append((row + start, column, *strongest_of))
        start += len(batch.token)
        done(int(batch.real.sum()))
    rows, columns, latents, activations = (torch.cat(each) for each in zip(*scans, strict=True))
    n_scans = max(len(rows), 1)
    return CorpusScans(
        scans=Scans(latents.long().numpy(), activations.numpy()),
        row=rows.numpy(),
        column=columns.numpy(),
        firing_rate=[(count / n_scans).numpy() for count in counts],
        mean_activation=[(total / count.clamp(min=1)).numpy() for count, total in zip(counts, sums, strict=True)],
        at_start=int((text.real & (text.position == 0)).sum()),
        outliers=outliers,
        beyond_k=beyond / (n_scans * len(saes)),
    )  # fmt: skip
