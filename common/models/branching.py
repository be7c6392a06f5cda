"""Texts that begin alike, read as one tree: every token once, in one row, and each sees only what stands before it.

The row is as long as there are different beginnings, so that no keys or values are copied for each text, and a batch is as
large as the tokens that are new. Each token has the position that it has in its own text and a mask of its own, over the columns
of its ancestors (tree attention: Miao and others 2023, SpecInfer). Windows are counted in positions. Several trees are
read in one pass, a row each, padded on the right.

Models that take no mask of this kind, and those without keys and values, read whole texts, which is slow and right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.common.models.prompts import common_prefix
from ghosttrack.common.models.reading import Prefix, cut, join, read_prefix, read_rows
from ghosttrack.common.models.structure import close, probe_tokens

if TYPE_CHECKING:
    from ghosttrack.common.models.language_model import LanguageModel

ROOT = -1
"""The node before the first token of every text."""
PASS = 32
"""Tokens of padding that cost about as much as another forward pass of a small model on a CPU: 2 ms each against 75 ms."""
MOST, MOST_COLUMNS = 1024, 8192
"""Of one pass with more than one tree: tokens, padding with them, and columns of keys and values before them."""
LONG = 256
"""Tokens of a beginning that keep a pass busy by themselves, and of which a mask would be large: it is read as any text is."""
_OTHER_WINDOWS = ("window_size", "attention_window", "attention_chunk_size")
"""Of configurations whose attention is bounded in another way than by `sliding_window`."""


class Tree:
    """Texts after a common prefix, as nodes with a token each, numbered in the order in which they are added.

    final: [d_model] of each node that was read, after the final norm, the model's type.
    """

    def __init__(self, model: LanguageModel, prefix: Prefix) -> None:
        self.model, self.prefix = model, prefix
        self.paths: list[list[int]] = []
        self.tokens: list[int] = []
        self.cache = prefix.cache
        self.final: list[Tensor] = []
        self._next: dict[int, dict[int, int]] = {}

    def add(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The nodes of each text, tokens after the prefix. Those that are new wait to be read (`read`)."""
        paths = []
        for text in texts:
            node, path = ROOT, []
            for token in text:
                after = self._next.setdefault(node, {})
                if token not in after:
                    after[token] = self.append(node, token)
                node = after[token]
                path.append(node)
            paths.append(path)
        return paths

    def append(self, parent: int, token: int) -> int:
        """A new node behind another, which waits to be read."""
        self.paths.append([*(self.paths[parent] if parent != ROOT else []), len(self.paths)])
        self.tokens.append(token)
        return len(self.paths) - 1

    def node(self, text: Sequence[int]) -> int | None:
        """The last node of a text that has been added."""
        node: int | None = ROOT
        for token in text:
            node = None if node is None else self._next.get(node, {}).get(token)
        return node

    @property
    def waiting(self) -> int:
        """How many nodes were added and not read yet."""
        return len(self.paths) - len(self.final)

    @property
    def columns(self) -> int:
        """Of the cache: the prefix's tokens and the nodes that were read."""
        return len(self.prefix.tokens) + len(self.final)


@torch.inference_mode()
def read(trees: Sequence[Tree]) -> None:
    """Read the nodes of some trees of one model that wait for it, trees with about as many of them in one pass."""
    left = sorted((tree for tree in trees if tree.waiting), key=lambda tree: -tree.waiting)
    while left:
        longest = left[0].waiting
        alike = sum(longest - tree.waiting <= PASS for tree in left)
        wide = max(tree.columns for tree in left[:alike])
        together = left[: max(1, min(alike, MOST // longest, MOST_COLUMNS // max(wide, 1)))]
        left = left[len(together) :]
        if together[0].model.branches:
            _read_side_by_side(together)
        else:
            for tree in together:
                _read_whole(tree)


def read_prefixes(model: LanguageModel, groups: Sequence[Sequence[Sequence[int]]]) -> list[Prefix]:
    """What the texts of each group begin with, all but the last token of the shortest at most; short ones side by side."""
    counts = [min(common_prefix(texts), min(map(len, texts)) - 1) for texts in groups]
    trees = {n: Tree(model, Prefix([], None)) for n, c in enumerate(counts) if model.branches and c <= LONG}
    for number, tree in trees.items():
        tree.add([groups[number][0][: counts[number]]])
    read(list(trees.values()))
    return [
        Prefix(trees[number].tokens, trees[number].cache)
        if number in trees
        else read_prefix(model, texts, count)
        for number, (texts, count) in enumerate(zip(groups, counts, strict=True))
    ]


def _read_side_by_side(trees: Sequence[Tree]) -> None:
    model, before = trees[0].model, max(tree.columns for tree in trees)
    shape = (len(trees), max(tree.waiting for tree in trees))
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    sees = torch.zeros((*shape, before + shape[1]), dtype=torch.bool)
    held = torch.zeros((len(trees), before + shape[1]), dtype=torch.long)
    for row, tree in enumerate(trees):
        shared, known, new = len(tree.prefix.tokens), len(tree.final), tree.waiting
        column = torch.cat([shared + torch.arange(known), before + torch.arange(new)])
        depth = shared + torch.tensor([len(path) - 1 for path in tree.paths])
        held[row, :shared], held[row, column] = torch.arange(shared), depth
        ids[row, :new], positions[row, :new] = torch.tensor(tree.tokens[known:]), depth[known:]
        sees[row, :new, :shared] = True
        for place, path in enumerate(tree.paths[known:]):
            sees[row, place, column[path]] = True
    cache = join([tree.cache for tree in trees], before)
    final = model.run(
        ids.to(model.device), cache=cache, mask=masks(model, sees, positions, held), positions=positions.to(model.device)
    )  # fmt: skip
    for row, tree in enumerate(trees):
        read_now = torch.arange(tree.waiting)
        tree.cache = cut(cache, row, torch.cat([torch.arange(tree.columns), before + read_now]))
        tree.final += final[row, : len(read_now)].unbind()


def _read_whole(tree: Tree) -> None:
    """Every text that ends in a node that waits, from its beginning on."""
    first, before = len(tree.final), len(tree.prefix.tokens)
    inner = {path[-2] for path in tree.paths[first:] if len(path) > 1}
    ends = [number for number in range(first, len(tree.paths)) if number not in inner]
    rows = [tree.prefix.tokens + [tree.tokens[node] for node in tree.paths[end]] for end in ends]
    new = [[place for place, node in enumerate(tree.paths[end]) if node >= first] for end in ends]
    most = max(map(len, new))
    columns = [[before + place for place in own + own[-1:] * (most - len(own))] for own in new]
    final = read_rows(tree.model, rows, columns, (), tree.prefix).final
    found = final.new_empty((tree.waiting, final.shape[-1]))
    for end, own, states in zip(ends, new, final, strict=True):
        found[[tree.paths[end][place] - first for place in own]] = states[: len(own)]
    tree.final += found.unbind()


def masks(model: LanguageModel, sees: Tensor, positions: Tensor, columns: Tensor) -> Any:
    """What a model takes as its mask: a value to add to every attention score, by kind of layer where there are several.

    sees: bool [n_rows, n, n_columns]; positions: int64 [n_rows, n] of the tokens that look; columns: int64 [n_rows, n_columns]
    of what is seen.
    """
    config: Any = model.model.config.get_text_config()

    def added(seen: Tensor) -> Tensor:
        dtype = model.unembedding.dtype
        hidden = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype)
        return hidden.masked_fill(seen, 0.0)[:, None].to(model.device)

    window = getattr(config, "sliding_window", None)
    if window is None:
        return added(sees)
    near = added(sees & (columns[:, None] > positions[:, :, None] - window))
    if kinds := getattr(config, "layer_types", None):
        return {"full_attention": added(sees), "sliding_attention": near} if len(set(kinds)) > 1 else (
            near if "sliding_attention" in kinds else added(sees)
        )  # fmt: skip
    return near


@torch.inference_mode()
def branches_right(model: LanguageModel) -> bool:
    """Whether a model reads trees side by side as it reads their texts one by one, tried on a few tokens."""
    config: Any = model.model.config.get_text_config()
    if not model.caches or any(getattr(config, name, None) for name in _OTHER_WINDOWS):
        return False
    ids = probe_tokens(model.model, rows=2)
    start, one, other = ids[0, :2].tolist(), ids[0, 2:5].tolist(), ids[1, 2:6].tolist()
    try:
        cache = DynamicCache()
        model.run(ids[:1, :2], cache=cache)
        model = dataclasses.replace(model, branches=True)
        shared, alone = Tree(model, Prefix(start, cache)), Tree(model, Prefix([], None))
        texts = [(shared, one), (shared, other), (alone, one)]
        for first in (2, None):
            paths = [tree.add([text[:first]])[0] for tree, text in texts]
            read([shared, alone])
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, RuntimeError):
        return False  # of the many ways in which a model takes no such mask
    for (tree, text), path in zip(texts, paths, strict=True):
        tokens = torch.tensor([tree.prefix.tokens + text], device=model.device)
        if not close(tree.final[path[-1]], model.run(tokens)[0, -1]):
            return False
    return True
