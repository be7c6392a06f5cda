"""The account of each position for the page: three contestants by name, how likely each is among the candidates at every layer,
and what the difference between the answer given and its opponent is made of and was written by, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.formats.account import ACCOUNT, SOURCES, difference
from ghosttrack.common.formats.cells import cell_of, cells_of, position_of
from ghosttrack.common.maths import parting
from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.report.results import Results

WRITERS = ("mlp", *(f"attention_{source}" for source in SOURCES))
Ints = NDArray[np.int64]


class Contestants(NamedTuple):
    """Of each cell the ranks of its candidates that the page follows, beside rank 0, the token that is emitted."""

    cell: Ints
    """Ascending."""
    right: NDArray[np.int16]
    """The likeliest other one that goes on to a right answer; −1 where there is none."""
    rival: NDArray[np.int16]
    """The likeliest other one that does not; −1 where there is none."""

    @property
    def opponent(self) -> NDArray[np.int16]:
        """What the emitted token is set against: the right one where there is one."""
        return np.where(self.right >= 0, self.right, self.rival)

    @classmethod
    def none(cls) -> "Contestants":
        nobody = np.array([], dtype=np.int16)
        return cls(np.array([], dtype=np.int64), nobody, nobody)


def contestants(
    candidates: Mapping[str, Any], texts: Mapping[str, str], records: Sequence[Mapping[str, Any]]
) -> Contestants:
    """The other tokens that the emitted one is set against, cell by cell. candidates: sorted by cell and rank, with
    `cell` and `token`; texts: of tokens by number."""
    cells, first = np.unique(candidates["cell"], return_index=True)
    stop = np.append(first[1:], len(candidates["cell"]))
    right, rival = np.full((2, len(cells)), -1, dtype=np.int16)
    token, positions = candidates["token"].tolist(), position_of(cells).tolist()
    bounds = [slice(*np.searchsorted(cells, cells_of(number))) for number in range(len(records))]
    for record, own in zip(records, bounds, strict=True):
        golds = [normalise(alias) for alias in record.get("aliases") or [record["gold"] or ""]]
        for place in range(own.start, own.stop):
            named = [texts.get(str(number), "") for number in token[first[place] : stop[place]]]
            right[place], rival[place] = parting.contestants(
                named, record["tokens"], max(positions[place], 0), golds
            )
        if record.get("label") == 0:  # it is itself the right one, whatever else would have been
            right[own] = -1
    return Contestants(cells, right, rival)


def of_cells(found: Contestants, cell: Ints) -> "Contestants":
    """The same for other cells; what competes at a subject is what competes for the first answer token."""
    wanted = cell + (position_of(cell) < 0)
    at = np.minimum(np.searchsorted(found.cell, wanted), len(found.cell) - 1)
    known = found.cell[at] == wanted
    return Contestants(cell, np.where(known, found.right[at], -1), np.where(known, found.rival[at], -1))


def account_table(
    results: Results, found: Contestants, questions: range | None = None
) -> dict[str, NDArray[Any]]:
    """A row a (cell, layer), sorted so: `leader`; `said, right, rival`, log-probability among the candidates (nats); `total`,
    the lens' logit of the emitted token less its opponent's, and its parts; WRITERS, what was written towards it since the
    layer before. NaN where there is no such candidate or part. Empty without an account. questions: only those, counted
    from 0 in `found` and in what comes back."""
    if not results.has(ACCOUNT) or not len(found.cell):
        return {}
    path = results.path(ACCOUNT)
    rows = ACCOUNT.pieces(path) if questions is None else [ACCOUNT.read(path, where={"question": questions})]
    pieces = [_piece(each, found, questions.start if questions else 0) for each in rows]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _piece(rows: Mapping[str, NDArray[Any]], found: Contestants, first: int) -> dict[str, NDArray[Any]]:
    cell = cell_of(rows["question"] - first, rows["position"])
    own = of_cells(found, cell)
    logit = rows["logit"].astype(np.float64)
    chance = logit - logit.max(axis=1, keepdims=True)
    chance -= np.log(np.exp(chance).sum(axis=1, keepdims=True))

    def where(rank: NDArray[Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(rank >= 0, values, np.nan)

    every = np.arange(len(cell))
    parts = difference(rows, 0, np.maximum(own.opponent, 0))
    parts["bias"] = parts.pop("sae_bias") + parts.pop("constant")
    names = ("total", "tracks", "untracked", "bias", "sae_error", *WRITERS)
    return {
        "cell": cell, "layer": rows["layer"], "leader": rows["leader"], "said": chance[:, 0],
        "right": where(own.right, chance[every, own.right]), "rival": where(own.rival, chance[every, own.rival]),
        **{name: where(own.opponent, parts[name]) for name in names},
    }  # fmt: skip
