"""Texts that go on by a token at a time, and may part: several go on behind one, each with a token of its own.

Where a model takes a mask of a token's own (`branching`), all texts stand in one row: what they begin with in common once, then
what each has by itself, then their new tokens, each of which sees the columns of its own text. Nothing is copied where texts
part or end. Else a row each: keys and values are moved to end in one column, and what they left behind is masked,
as it is where whole prompts are padded on the left. Texts without a cache are read again from the start, which is slow and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from ghosttrack.common.models.branching import masks
from ghosttrack.common.models.prompts import common_prefix
from ghosttrack.common.models.reading import ReadBatch, fork, read_prefix, read_rows, reform
from ghosttrack.common.models.structure import close, probe_tokens

if TYPE_CHECKING:
    from ghosttrack.common.models.language_model import LanguageModel


class GoingOn:
    """The texts of a batch, numbered anew at every step."""

    def __init__(self, model: LanguageModel, rows: ReadBatch) -> None:
        self._model = model
        self._texts = [list(row) for row in rows.tokens]
        self._cache = rows.cache
        self._position = torch.tensor([len(row) for row in self._texts])
        if rows.cache is None:
            return
        if model.branches:
            self._cache, self._sees, self._held = _joined(rows.cache, self._texts)
            return
        gaps = self._position.max() - self._position
        self._sees = torch.arange(int(self._position.max())) >= gaps[:, None]
        self._cache = fork(rows.cache, torch.arange(len(gaps)), gaps)

    def step(
        self, token: Tensor, behind: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Every text of the step goes on with its token: final [n, d_model], states [n, n_layers, d_model] float32 at it.

        token: int64 [n]; behind: int64 [n], the number that each had at the step before; None: all go on.
        """
        token = token.cpu()
        behind = torch.arange(len(self._texts)) if behind is None else behind.cpu()
        self._texts = [
            [*self._texts[row], one] for row, one in zip(behind.tolist(), token.tolist(), strict=True)
        ]
        if self._cache is None:
            read = read_rows(self._model, self._texts, [[len(text) - 1] for text in self._texts], layers)
            return read.final[:, 0], read.states[:, 0]
        position = self._position[behind]
        self._position = position + 1
        found: list[Tensor] = []
        with self._model.reading(layers, lambda _, output: found.append(output.flatten(0, 1).float())):
            run = self._in_one_row if self._model.branches else self._in_rows
            final = run(token, position, behind).flatten(0, 1)
        states = torch.stack(found, dim=1) if found else final.new_zeros((len(final), 0, final.shape[-1]))
        return final, states

    def _in_one_row(self, token: Tensor, position: Tensor, behind: Tensor) -> Tensor:
        """[1, n, d_model]"""
        self._sees = torch.cat([self._sees[behind], torch.eye(len(token), dtype=torch.bool)], dim=1)
        self._held = torch.cat([self._held, position])
        mask = masks(self._model, self._sees[None], position[None], self._held[None])
        device = self._model.device
        return self._model.run(
            token[None].to(device), cache=self._cache, mask=mask, positions=position[None].to(device)
        )

    def _in_rows(self, token: Tensor, position: Tensor, behind: Tensor) -> Tensor:
        """[n, 1, d_model]"""
        assert self._cache is not None
        if behind.tolist() != list(range(len(self._sees))):
            self._cache = fork(self._cache, behind)
        self._sees = torch.cat([self._sees[behind], torch.ones(len(token), 1, dtype=torch.bool)], dim=1)
        device = self._model.device
        return self._model.run(
            token[:, None].to(device),
            cache=self._cache,
            mask=self._sees.long().to(device),
            positions=position[:, None].to(device),
        )


def _joined(cache: DynamicCache, texts: Sequence[Sequence[int]]) -> tuple[DynamicCache, Tensor, Tensor]:
    """Texts' keys and values, a row each padded on the right, as one row, what all begin with once. Also which of
    its columns each text sees (bool [n, n_columns]), and the positions that they hold (int64 [n_columns])."""
    shared = common_prefix(texts)
    lengths = torch.tensor([len(text) for text in texts])
    row, column = torch.arange(len(texts))[:, None], torch.arange(int(lengths.max()))
    owner, held = ((column < lengths[:, None]) & ((column >= shared) | (row == 0))).nonzero().T

    def joined(some: Tensor) -> Tensor:
        return some.transpose(1, 2)[owner.to(some.device), held.to(some.device)].transpose(0, 1)[None]

    return reform(cache, joined), (owner == row) | (held < shared), held


@torch.inference_mode()
def goes_on_right(model: LanguageModel) -> bool:
    """Whether texts of different lengths go on and part with a cache as they do without, tried on a few tokens."""
    ids = probe_tokens(model.model, rows=2).tolist()
    texts, after = [[*ids[0][:2], *ids[1][:4]], ids[0][:4]], [ids[0][4], ids[1][5], ids[0][5]]
    behind = [0, 1, 1]
    try:
        prefix = read_prefix(model, texts, 2)
        read = read_rows(model, texts, [[len(text) - 1] for text in texts], (), prefix, keep_cache=True)
        going = GoingOn(model, read)
        final, _ = going.step(torch.tensor(after), torch.tensor(behind))
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, RuntimeError):
        return False  # of the many ways in which a model has no keys and values of this kind
    for row, token, found in zip(behind, after, final, strict=True):
        alone = model.run(torch.tensor([[*texts[row], token]], device=model.device))[0, -1]
        if not close(found, alone):
            return False
    return True
