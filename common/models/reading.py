"""Reading many prompts at once, so that each is read as if it were alone.

Tokens that the prompts of a batch begin with in common are read once. What is left of each row follows them without a
gap and is padded on the right: a causal model never sees what comes later, so that no row's result depends on the
others, on the batch or on the shared prefix. Sliding windows and position biases count columns, hence no padding inside
a row. To go on by a token at a time, the rows' keys and values are moved to end in one column, and what they left behind is
masked, as it is where whole prompts are padded on the left.

The cache keeps every key and value, and windows are a matter of the mask; layers with a state of another kind
(recurrent ones) have no cache here: their rows are read again from the start, which is slow and right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ghosttrack.common.models.prompts import common_prefix
from ghosttrack.common.models.structure import close, probe_tokens

if TYPE_CHECKING:
    from ghosttrack.common.models.language_model import LanguageModel


class Prefix(NamedTuple):
    """Tokens that were read before the rows of a batch; cache: their keys and values, one row, or None for no token."""

    tokens: list[int]
    cache: DynamicCache | None


@dataclasses.dataclass(frozen=True)
class ReadBatch:
    """A batch that was read: what is found at k columns of each row, and what is needed to go on.

    tokens: the rows, whole. cache: their keys and values, padded on the right; None where the model has no cache of
    this kind. final: [n, k, d_model], after the final norm, the model's type. states: [n, k, n_layers, d_model],
    block outputs, float32.
    """

    tokens: list[list[int]]
    cache: DynamicCache | None
    final: Tensor
    states: Tensor


def read_prefix(
    model: LanguageModel, rows: Sequence[Sequence[int]], most: int, known: Prefix | None = None
) -> Prefix:
    """What all rows begin with, at most `most` tokens. known: gone on from, as far as it begins alike."""
    count = min(common_prefix(rows), most) if model.caches else 0
    tokens = list(rows[0][:count])
    if known is not None and known.tokens == tokens:
        return known
    if not tokens:
        return Prefix([], None)
    cache, done = DynamicCache(), 0
    if known is not None and known.cache is not None:
        done = common_prefix([known.tokens, tokens])
        cache = cut(known.cache, 0, torch.arange(done))
    if done < count:
        model.run(torch.tensor([tokens[done:]], device=model.device), cache=cache, before=done)
    return Prefix(tokens, cache)


@torch.inference_mode()
def read_rows(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    columns: Sequence[Sequence[int]],
    layers: Sequence[int],
    prefix: Prefix | None = None,
    keep_cache: bool = False,
) -> ReadBatch:
    """One forward pass over rows that begin with the prefix's tokens and have more.

    columns: for each row the same number of its positions, after the prefix, at which states are kept.
    """
    prefix = prefix or Prefix([], None)
    before = len(prefix.tokens)
    own = [list(row[before:]) for row in rows]
    ids = torch.zeros((len(own), max(map(len, own))), dtype=torch.long)
    for number, row in enumerate(own):
        ids[number, : len(row)] = torch.tensor(row)
    cache = None
    if prefix.cache is not None:
        cache = _repeat(prefix.cache, len(own))
    elif keep_cache and model.caches:
        cache = DynamicCache()
    places = torch.tensor([list(row) for row in columns], device=model.device) - before
    lines = torch.arange(len(own), device=model.device)[:, None]
    found: list[Tensor] = []
    with model.reading(layers, lambda _, output: found.append(output[lines, places].float())):
        final = model.run(ids.to(model.device), cache=cache, before=before)[lines, places]
    states = (
        torch.stack(found, dim=2) if found else final.new_zeros((*places.shape, 0, final.shape[-1])).float()
    )
    return ReadBatch([list(row) for row in rows], cache if keep_cache else None, final, states)


class GoingOn:
    """Rows that grow by a token a step and leave the batch at their end.

    number: int64 [n], which row of the batch at the start each of the rows that are left is.
    """

    def __init__(self, model: LanguageModel, rows: ReadBatch, copies: int = 1) -> None:
        """copies: how often each row goes on, side by side."""
        self._model = model
        self.number = torch.arange(len(rows.tokens) * copies, device=model.device)
        self._tokens = [list(row) for row in rows.tokens for _ in range(copies)]
        self._cache = None
        lengths = torch.tensor([len(row) for row in self._tokens], device=model.device)
        if rows.cache is not None:
            self._position = lengths[:, None]
            gaps = lengths.max() - lengths
            self._mask = (torch.arange(int(lengths.max()), device=model.device) >= gaps[:, None]).long()
            self._cache = fork(
                rows.cache,
                torch.arange(len(rows.tokens), device=model.device).repeat_interleave(copies),
                gaps,
            )

    def keep(self, left: Tensor) -> bool:
        """Only these rows (bool [n]) stay; returns whether any does."""
        chosen = left.nonzero()[:, 0]
        if len(chosen) < len(left):
            self.number = self.number[chosen]
            self._tokens = [self._tokens[row] for row in chosen.tolist()]
            if self._cache is not None and len(chosen):
                self._mask, self._position = self._mask[chosen], self._position[chosen]
                self._cache = fork(self._cache, chosen)
        return bool(len(chosen))

    def step(self, token: Tensor, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Each row goes on with its token [n]: final [n, d_model], states [n, n_layers, d_model] float32 at it."""
        for row, one in zip(self._tokens, token.tolist(), strict=True):
            row.append(one)
        if self._cache is None:
            last = [[len(row) - 1] for row in self._tokens]
            read = read_rows(self._model, self._tokens, last, layers)
            return read.final[:, 0], read.states[:, 0]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        found: list[Tensor] = []
        with self._model.reading(layers, lambda _, output: found.append(output[:, -1].float())):
            final = self._model.run(
                token[:, None], cache=self._cache, mask=self._mask, positions=self._position
            )[:, -1]
        self._position = self._position + 1
        states = torch.stack(found, dim=1) if found else final.new_zeros((len(final), 0, final.shape[-1]))
        return final, states


@torch.inference_mode()
def goes_on_right(model: LanguageModel) -> bool:
    """Whether rows of different lengths go on with a cache as they do without, tried on a few tokens."""
    ids = probe_tokens(model.model, rows=2).tolist()
    rows, after = [[*ids[0][:2], *ids[1][:4]], ids[0][:4]], torch.tensor([ids[0][4], ids[1][5]])
    try:
        prefix = read_prefix(model, rows, 2)
        going = GoingOn(
            model, read_rows(model, rows, [[len(row) - 1] for row in rows], (), prefix, keep_cache=True)
        )
        final, _ = going.step(after.to(model.device))
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, RuntimeError):
        return False  # of the many ways in which a model has no keys and values of this kind
    for row, token, found in zip(rows, after.tolist(), final, strict=True):
        alone = model.run(torch.tensor([[*row, token]], device=model.device))[0, -1]
        if not close(found, alone):
            return False
    return True


def fork(cache: DynamicCache, rows: Tensor, gaps: Tensor | None = None) -> DynamicCache:
    """A cache of these rows (int64 [n]) of another, which stays as it is.

    gaps: int64 [n], columns that each row is moved to the right, so that what is past its end is lost.
    """
    new = DynamicCache()
    for keys, values in _tensors(cache):
        own = rows.to(keys.device)
        keys, values = keys[own], values[own]
        if gaps is not None and bool(gaps.any()):
            columns = torch.arange(keys.shape[2], device=keys.device)
            source = (columns - gaps.to(keys.device)[:, None]).clamp(min=0)[:, None, :, None]
            keys = keys.gather(2, source.expand(-1, keys.shape[1], -1, keys.shape[3]))
            values = values.gather(2, source.expand(-1, values.shape[1], -1, values.shape[3]))
        new.layers.append(_layer(keys, values))
    return new


def join(caches: Sequence[DynamicCache | None], width: int) -> DynamicCache:
    """Caches of one row each, None for one without a token, as rows of a new one, padded on the right to `width` columns."""
    new = DynamicCache()
    known = [_tensors(cache) if cache is not None else None for cache in caches]
    for number, pair in enumerate(next((layers for layers in known if layers is not None), [])):
        both = []
        for part, some in enumerate(pair):
            padded = some.new_zeros((len(caches), some.shape[1], width, some.shape[3]))
            for row, layers in enumerate(known):
                if layers is not None:
                    own = layers[number][part]
                    padded[row, :, : own.shape[2]] = own[0]
            both.append(padded)
        new.layers.append(_layer(*both))
    return new


def cut(cache: DynamicCache, row: int, columns: Tensor) -> DynamicCache:
    """A cache of these columns (int64 [n]) of one row of another."""
    new = DynamicCache()
    for keys, values in _tensors(cache):
        own = columns.to(keys.device)
        new.layers.append(_layer(keys[row : row + 1, :, own], values[row : row + 1, :, own]))
    return new


def _repeat(cache: DynamicCache, count: int) -> DynamicCache:
    """Many rows of a cache of one, in the same memory: what is added to them makes new tensors."""
    new = DynamicCache()
    for keys, values in _tensors(cache):
        new.layers.append(_layer(keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1)))
    return new


def _tensors(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, [n, n_heads, n_columns, d_head]."""
    layers: Any = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def _layer(keys: Tensor, values: Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer
