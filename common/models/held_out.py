"""Held-out text for the model to read: whole segments of documents that no SAE was trained on, in rows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.corpus import Corpus

LEAST_SEGMENT = 3
"""Tokens: one that is kept, one whose state is replaced, one that is predicted from it."""


@dataclass(frozen=True)
class HeldOutText:
    """Rows of held-out segments; a padding token is a segment of its own, which nothing sees.

    token, position: int64 [n_rows, length]; real: bool [n_rows, length], False for padding.
    """

    token: Tensor
    position: Tensor
    real: Tensor

    @property
    def predicts(self) -> Tensor:
        """Bool [n_rows, length]: where the next token is of the same segment and the state can be replaced."""
        goes_on = torch.zeros_like(self.real)
        goes_on[:, :-1] = self.position[:, 1:] == self.position[:, :-1] + 1
        return goes_on & (self.position > 0)

    def batches(self, rows: int) -> list["HeldOutText"]:
        parts = zip(self.token.split(rows), self.position.split(rows), self.real.split(rows), strict=True)
        return [HeldOutText(*part) for part in parts]

    def to(self, device: torch.device) -> "HeldOutText":
        return HeldOutText(self.token.to(device), self.position.to(device), self.real.to(device))


def held_out_text(corpus: Corpus, n_tokens: int, length: int, random: np.random.Generator) -> HeldOutText:
    """About n_tokens of the held-out documents: whole segments in random order, the last one cut short.

    length: tokens a row. Raises DataError where there is no held-out segment to predict in.
    """
    starts = (corpus.position == 0).nonzero().view(-1)
    sizes = torch.diff(starts, append=torch.tensor([len(corpus)]))
    usable = (corpus.held_out[starts] & (sizes >= LEAST_SEGMENT)).nonzero().view(-1)
    if not len(usable):
        raise DataError(
            f"no held-out document has a segment of {LEAST_SEGMENT} tokens; raise data.max_tokens, "
            "data.held_out_fraction or extract.max_length"
        )
    segments, left = [], n_tokens
    for chosen in usable[torch.from_numpy(random.permutation(len(usable)))].tolist():
        start, size = int(starts[chosen]), min(int(sizes[chosen]), left)
        if size < LEAST_SEGMENT:
            break
        segments.append((start, size))
        left -= size
    rows: list[list[int]] = []
    for start, size in sorted(segments, key=lambda segment: -segment[1]):
        row = next((row for row in rows if len(row) + size <= length), None)
        if row is None:
            rows.append(row := [])
        row.extend(range(start, start + size))
    width = max(map(len, rows))
    place = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    real = place >= 0
    token, position = (
        torch.where(real, column[place].long(), 0) for column in (corpus.token, corpus.position)
    )
    return HeldOutText(token, position, real)
