"""Texts that begin alike, read as one tree: every token once, in one row, and each sees only what stands before it.

The row is as long as there are different beginnings, so that nothing is padded, no keys or values are copied for each text,
and a batch is as large as the tokens that are new. Each token has the position that it has in its own text and a mask of
its own, over the columns of its ancestors (tree attention: Miao and others 2023, SpecInfer). Windows are counted in positions.

Models that take no mask of this kind, and those without keys and values, read whole texts, which is slow and right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.common.models.reading import Prefix, fork, read_rows
from ghosttrack.common.models.structure import close, probe_tokens

if TYPE_CHECKING:
    from ghosttrack.common.models.language_model import LanguageModel

ROOT = -1
"""The node before the first token of every text."""
_OTHER_WINDOWS = ("window_size", "attention_window", "attention_chunk_size")
"""Of configurations whose attention is bounded in another way than by `sliding_window`."""


class Tree:
    """Texts after a common prefix, as nodes with a token each, numbered in the order in which they are read.

    final: [d_model] of each node, after the final norm, the model's type.
    """

    def __init__(self, model: LanguageModel, prefix: Prefix) -> None:
        self._model, self._prefix = model, prefix
        self._paths: list[list[int]] = []
        self._tokens: list[int] = []
        self._next: dict[int, dict[int, int]] = {}
        self._cache: DynamicCache | None = None
        self.final: list[Tensor] = []

    def read(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The nodes of each text, tokens after the prefix; those that are new are read in one pass."""
        paths: list[list[int]] = []
        parents: list[int] = []
        tokens: list[int] = []
        for text in texts:
            node, path = ROOT, []
            for token in text:
                after = self._next.setdefault(node, {})
                if token not in after:
                    after[token] = len(self._paths) + len(parents)
                    parents.append(node)
                    tokens.append(token)
                node = after[token]
                path.append(node)
            paths.append(path)
        if parents:
            self.grow(parents, tokens)
        return paths

    def node(self, text: Sequence[int]) -> int | None:
        """The last node of a text that has been read."""
        node: int | None = ROOT
        for token in text:
            node = None if node is None else self._next.get(node, {}).get(token)
        return node

    @torch.inference_mode()
    def grow(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """A new node behind each of these, which may be one of the new ones before it: [n, d_model] after the final norm."""
        first = self._append(parents, tokens)
        final = self._read_new(first) if self._model.branches else self._read_whole(first)
        self.final += final.unbind()
        return final

    def _append(self, parents: Sequence[int], tokens: Sequence[int]) -> int:
        """The first of the new nodes."""
        first = len(self._paths)
        for number, (parent, token) in enumerate(zip(parents, tokens, strict=True), start=first):
            self._paths.append([*(self._paths[parent] if parent != ROOT else []), number])
            self._tokens.append(token)
        return first

    def _read_new(self, first: int) -> Tensor:
        device, before = self._model.device, len(self._prefix.tokens)
        if self._cache is None:
            self._cache = DynamicCache()
            if self._prefix.cache is not None:
                self._cache = fork(self._prefix.cache, torch.zeros(1, dtype=torch.long))
        depth = torch.tensor([len(path) - 1 for path in self._paths])
        sees = torch.zeros((len(self._paths) - first, before + len(self._paths)), dtype=torch.bool)
        sees[:, :before] = True
        for row, path in enumerate(self._paths[first:]):
            sees[row, torch.tensor(path) + before] = True
        positions = before + depth[first:]
        mask = masks(self._model, sees, positions, torch.cat([torch.arange(before), before + depth]))
        ids = torch.tensor([self._tokens[first:]], device=device)
        return self._model.run(ids, cache=self._cache, mask=mask, positions=positions[None].to(device))[0]

    def _read_whole(self, first: int) -> Tensor:
        """Every text that ends in a new node, from its beginning on."""
        inner = {path[-2] for path in self._paths[first:] if len(path) > 1}
        ends = [number for number in range(first, len(self._paths)) if number not in inner]
        rows = [self._prefix.tokens + [self._tokens[node] for node in self._paths[end]] for end in ends]
        new = [[place for place, node in enumerate(self._paths[end]) if node >= first] for end in ends]
        most, before = max(map(len, new)), len(self._prefix.tokens)
        columns = [[before + place for place in own + own[-1:] * (most - len(own))] for own in new]
        final = read_rows(self._model, rows, columns, (), self._prefix).final
        found = final.new_empty((len(self._paths) - first, final.shape[-1]))
        for end, own, states in zip(ends, new, final, strict=True):
            found[[self._paths[end][place] - first for place in own]] = states[: len(own)]
        return found


def masks(model: LanguageModel, sees: Tensor, positions: Tensor, columns: Tensor) -> Any:
    """What a model takes as its mask: a value to add to every attention score, by kind of layer where there are several.

    sees: bool [n, n_columns]; positions: int64 [n] of the tokens that look, columns: int64 [n_columns] of what is seen.
    """
    config: Any = model.model.config.get_text_config()

    def added(seen: Tensor) -> Tensor:
        dtype = model.unembedding.dtype
        hidden = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype)
        return hidden.masked_fill(seen, 0.0)[None, None].to(model.device)

    window = getattr(config, "sliding_window", None)
    if window is None:
        return added(sees)
    near = added(sees & (columns[None] > positions[:, None] - window))
    if kinds := getattr(config, "layer_types", None):
        return {"full_attention": added(sees), "sliding_attention": near} if len(set(kinds)) > 1 else (
            near if "sliding_attention" in kinds else added(sees)
        )  # fmt: skip
    return near


@torch.inference_mode()
def branches_right(model: LanguageModel) -> bool:
    """Whether a model reads a tree as it reads its texts one by one, tried on a few tokens."""
    config: Any = model.model.config.get_text_config()
    if not model.caches or any(getattr(config, name, None) for name in _OTHER_WINDOWS):
        return False
    ids = probe_tokens(model.model, rows=2)
    start, one, other = ids[0, :2].tolist(), ids[0, 2:5].tolist(), ids[1, 2:6].tolist()
    try:
        cache = DynamicCache()
        model.run(ids[:1, :2], cache=cache)
        tree = Tree(dataclasses.replace(model, branches=True), Prefix(start, cache))
        parents, tokens = [ROOT, 0, ROOT, 2, 1], [one[0], one[1], other[0], other[1], one[2]]
        found = torch.cat([tree.grow(parents, tokens), tree.grow([3, 5], other[2:])])
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, RuntimeError):
        return False  # of the many ways in which a model takes no such mask
    for text, node in ((start + one, 4), (start + other, 6)):
        if not close(found[node], model.run(torch.tensor([text], device=model.device))[0, -1]):
            return False
    return True
