"""Reading many prompts at once, so that each is read as if it were alone.

Tokens that the prompts of a batch begin with in common are read once. What is left of each row follows them without a
gap and is padded on the right: a causal model never sees what comes later, so that no row's result depends on the
others, on the batch or on the shared prefix. Sliding windows and position biases count columns, hence no padding inside
a row. How they go on from there a token at a time is `going_on`'s.

The cache keeps every key and value, and windows are a matter of the mask; layers with a state of another kind
(recurrent ones) have no cache here: their rows are read again from the start, which is slow and right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ghosttrack.common.models.prompts import common_prefix

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


def fork(cache: DynamicCache, rows: Tensor, gaps: Tensor | None = None) -> DynamicCache:
    """A cache of these rows (int64 [n]) of another, which stays as it is.

    gaps: int64 [n], columns that each row is moved to the right, so that what is past its end is lost.
    """

    def forked(some: Tensor) -> Tensor:
        some = some[rows.to(some.device)]
        if gaps is None or not bool(gaps.any()):
            return some
        columns = torch.arange(some.shape[2], device=some.device)
        source = (columns - gaps.to(some.device)[:, None]).clamp(min=0)[:, None, :, None]
        return some.gather(2, source.expand(-1, some.shape[1], -1, some.shape[3]))

    return reform(cache, forked)


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
    return reform(cache, lambda some: some[row : row + 1, :, columns.to(some.device)])


def _repeat(cache: DynamicCache, count: int) -> DynamicCache:
    """Many rows of a cache of one, in the same memory: what is added to them makes new tensors."""
    return reform(cache, lambda some: some.expand(count, -1, -1, -1))


def reform(cache: DynamicCache, form: Callable[[Tensor], Tensor]) -> DynamicCache:
    """A cache of the keys and values of another in another form, each from [n, n_heads, n_columns, d_head]."""
    new = DynamicCache()
    new.layers += [_layer(form(keys), form(values)) for keys, values in _tensors(cache)]
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
