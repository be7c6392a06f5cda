"""Which tokens make up each batch: a function of seed and step alone, so that training can stop and go on.

Several layers are pooled by giving each the same number of tokens; a pass over the pool is a permutation of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ghosttrack.stages.sae_train.normalise import LayerStates


class Batches:
    """Batches of normalised states [batch_size, d_model] from one layer or from several pooled.

    tokens_per_layer: most tokens that a layer gives to the pool; they are drawn anew for each layer.
    """

    def __init__(
        self, layers: Sequence[LayerStates], batch_size: int, seed: int, tokens_per_layer: int | None = None
    ) -> None:
        self.layers = list(layers)
        share = min(len(layer.train) for layer in self.layers)
        share = min(share, tokens_per_layer or share)
        self._rows = [_draw(layer.train, share, seed, layer.layer) for layer in self.layers]
        self._share, self.seed = share, seed
        self.n_tokens = share * len(self.layers)
        self.batch_size = min(batch_size, self.n_tokens)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def steps(self, epochs: float) -> int:
        """Steps in so many passes over the pool; at least 1."""
        return max(1, round(epochs * self.n_tokens / self.batch_size))

    def batch(self, step: int) -> Tensor:
        """The batch of a step (0-based): [batch_size, d_model] float32, normalised; grouped by layer."""
        chosen = self._indices(step * self.batch_size)
        if len(self.layers) == 1:
            return self.layers[0].normalised(self._rows[0][chosen])
        chosen = chosen.sort().values
        ends = torch.searchsorted(chosen, torch.arange(1, len(self.layers) + 1) * self._share).tolist()
        return torch.cat([
            layer.normalised(rows[chosen[start:end] - number * self._share])
            for number, (layer, rows, start, end) in enumerate(
                zip(self.layers, self._rows, [0, *ends[:-1]], ends, strict=True)
            )
        ])  # fmt: skip

    def sample(self, count: int, seed: int) -> Tensor:
        """About count tokens (at most all) spread evenly over the layers: [n, d_model] float32, normalised."""
        each = min(max(1, count // len(self.layers)), self._share)
        return torch.cat([
            layer.normalised(_draw(rows, each, seed, layer.layer))
            for layer, rows in zip(self.layers, self._rows, strict=True)
        ])  # fmt: skip

    def _indices(self, start: int) -> Tensor:
        """Entries start … start + batch_size of the endless sequence of permutations of the pool."""
        parts = []
        left = self.batch_size
        while left:
            epoch, offset = divmod(start, self.n_tokens)
            part = self._permutation(epoch)[offset : offset + left]
            parts.append(part)
            start, left = start + len(part), left - len(part)
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(self.n_tokens, generator=generator))
        return self._order[1]


def _draw(rows: Tensor, count: int, seed: int, layer: int) -> Tensor:
    """count of the rows, ascending; all of them where count is their number."""
    if count == len(rows):
        return rows
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 7919 * (layer + 1))
    return rows[torch.randperm(len(rows), generator=generator)[:count].sort().values]
