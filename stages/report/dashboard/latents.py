"""The blocks of the latent pages: what a latent answers to, what it promotes, and what its tracks come from and go to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.stages.report.dashboard.tracks import Census, Ints, LatentLinks, place_in_run
from ghosttrack.stages.report.results import Results

LATENTS_A_BLOCK = 60
NEIGHBOURS = 6
CARD = ("firing_rate", "mean_activation", "promoted", "suppressed", "label", "label_score")
MEASURED = ("promoted_by", "suppressed_by", "max_activation", "histogram")
FIRST, LONGEST = ord("0"), 200
"""The character of a token of no characters, and the most that are counted of one."""


class Beside(NamedTuple):
    """The most frequent links at each latent."""

    owner: Ints
    """Ascending."""
    rows: Ints
    """Of the links, those of an owner by falling frequency."""

    @classmethod
    def of(cls, owner: Ints, links: LatentLinks) -> "Beside":
        """The most frequent links at each latent. owner: [n_links] the end of each link at whose latent it is to be
        found."""
        order = np.lexsort((-links.times, owner))
        order = order[place_in_run(owner[order]) < NEIGHBOURS]
        return cls(owner[order], order)

    def rows_of(self, latent: int) -> Ints:
        return self.rows[slice(*np.searchsorted(self.owner, [latent, latent + 1]))]


class LatentBook:
    """What is known of every latent; a latent is layer · width + latent."""

    def __init__(
        self, results: Results, census: Census, questions: Sequence[str], layer: int | None = None
    ) -> None:
        """questions: ids, in the order of their numbers; layer: whose contexts are read, where not those of all."""
        self._width, self._questions = census.width, questions
        self._latents = self._indexed(results, LATENTS)
        excerpts = self._indexed(results, LATENT_CONTEXTS, layer)
        self._contexts = Excerpts(*excerpts) if excerpts else None
        self._answers = [int((census.label == wanted).sum()) for wanted in (1, 0)]
        self._counted = census.result() if census.seen else None
        if self._counted:
            links, _, _ = self._counted
            self._sides = {
                "from": (Beside.of(links.target, links), links.source),
                "to": (Beside.of(links.source, links), links.target),
            }

    def _indexed(
        self, results: Results, file: Table, layer: int | None = None
    ) -> tuple[Ints, dict[str, Any]] | None:
        """Latents of the rows, ascending, and the columns in that order."""
        if not results.has_table(file):
            return None
        where = None if layer is None else {"layer": range(layer, layer + 1)}
        table = file.table(results.path(file), where=where)
        latent = table["layer"].to_numpy().astype(np.int64) * self._width + table["latent"].to_numpy()
        ranked = "rank" in table.column_names
        order = np.lexsort((table["rank"].to_numpy(), latent)) if ranked else np.argsort(latent)
        table = table.take(order)
        return latent[order], {name: table[name].combine_chunks() for name in table.column_names}

    @property
    def n_latents(self) -> int:
        return len(self._latents[0]) if self._latents else 0

    @property
    def n_contexts(self) -> int:
        return len(self._contexts.latent) if self._contexts else 0

    def promoted(self, latent: int) -> list[str]:
        """The three tokens that it promotes most, by which tracks are named."""
        return self.card(latent, ("promoted",)).get("promoted", [])[:3]

    def label(self, latent: int) -> list[Any] | None:
        """What says when it is active, and how well; None where nothing does."""
        rows = _rows(self._latents[0], latent) if self._latents else range(0)
        if not self._latents or not len(rows):
            return None
        text, score = (self._latents[1][name][rows[0]].as_py() for name in ("label", "label_score"))
        return None if text is None else [text, round(score, 3)]

    def contexts_of(self, latents: Ints, most: int) -> int:
        """Contexts of these latents, of each as many as a page has."""
        if self._contexts is None:
            return 0
        start, stop = (np.searchsorted(self._contexts.latent, latents, side) for side in ("left", "right"))
        return int(np.minimum(stop - start, most).sum())

    def named_by(self, latents: Ints) -> Ints:
        """Other latents that the pages of these name as neighbours, ascending."""
        if self._counted is None:
            return np.array([], dtype=np.int64)
        named = [other[at.rows[np.isin(at.owner, latents)]] for at, other in self._sides.values()]
        return np.setdiff1d(np.concatenate(named), latents)

    def card(self, latent: int, names: Sequence[str] = CARD) -> dict[str, Any]:
        """What is known of a latent by itself; all there is to show of one that no drawn track goes through."""
        found: dict[str, Any] = {"layer": latent // self._width, "latent": latent % self._width}
        if self._latents:
            for row in _rows(self._latents[0], latent)[:1]:
                columns = self._latents[1]
                found |= {name: _short(columns[name].slice(row, 1).to_pylist()[0]) for name in names}
        return found

    def page(self, latent: int, contexts: int) -> dict[str, Any]:
        """All of one latent; contexts: most of them."""
        found = self.card(latent, (*CARD, *MEASURED))
        if self._contexts:
            found["contexts"] = self._contexts.of(latent, contexts)
        if self._counted:
            links, examples, parts = self._counted
            for side, (beside, other) in self._sides.items():
                found[side] = self._neighbours(links, beside.rows_of(latent), other)
            places = _rows(examples.latent, latent) if self._questions else ()
            found["examples"] = [
                [self._questions[int(examples.question[row])], int(examples.position[row]),
                 round(float(examples.activation[row]), 6)]
                for row in places
            ]  # fmt: skip
            for row in _rows(parts.latent, latent):
                found["parts"] = [int(parts.wrong[row]), int(parts.right[row]), *self._answers]
        return found

    def _neighbours(self, links: LatentLinks, rows: Ints, other: Ints) -> list[list[Any]]:
        """`[layer, latent, links, cosine, mean posterior]` of each."""
        return [
            [int(other[row] // self._width), int(other[row] % self._width), int(links.times[row]),
             round(float(links.cosine[row]), 6), round(float(links.posterior[row]), 6)]
            for row in rows
        ]  # fmt: skip


def thinned(rows: range, count: int) -> list[int]:
    """At most so many of them: the first half, and others evenly spaced to the last."""
    if len(rows) <= count:
        return list(rows)
    top = (count + 1) // 2
    step = (len(rows) - top) / max(count - top, 1)
    return [*rows[:top], *(rows[top + int(step * (k + 1)) - 1] for k in range(count - top))]


class Excerpts:
    """The contexts of all latents as a page takes them."""

    def __init__(self, latent: Ints, columns: Mapping[str, Any]) -> None:
        """latent: of each row, ascending; rows of one by falling activation."""
        self.latent = latent
        self._columns = columns
        self._activation = columns["activation"].to_numpy()
        self._offsets = columns["lengths"].offsets.to_numpy()
        most = self._activation[np.searchsorted(latent, latent)]
        heat = columns["heat"].flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        digits = np.ceil(9 * heat / np.repeat(most, np.diff(self._offsets))).clip(0, 9)
        self._heat = (digits.astype(np.uint8) + ord("0")).tobytes()
        lengths = np.minimum(columns["lengths"].flatten().to_numpy(), LONGEST)
        self._lengths = (lengths.astype(np.uint8) + FIRST).tobytes()

    def of(self, latent: int, count: int) -> list[list[Any]]:
        """At most so many, each `[activation, quantile, before, token, after, lengths, heat]`: of every token its length as a
        character from FIRST, and a digit of its activation, 9 the latent's largest."""
        rows = _rows(self.latent, latent)
        names = ("quantile", "before", "token", "after")
        parts = [self._columns[name].slice(rows.start, len(rows)).to_pylist() for name in names]
        found = []
        for row in thinned(rows, count):
            quantile, before, token, after = (part[row - rows.start] for part in parts)
            span = slice(self._offsets[row] - self._offsets[0], self._offsets[row + 1] - self._offsets[0])
            found.append(
                [round(float(self._activation[row]), 3), round(quantile, 3), before, token, after,
                 self._lengths[span].decode("latin-1"), self._heat[span].decode("ascii")]
            )  # fmt: skip
        return found


def _short(value: Any) -> Any:
    """Numbers to as many digits as are shown."""
    if isinstance(value, list):
        return [round(each, 3) if isinstance(each, float) else each for each in value]
    return round(value, 5) if isinstance(value, float) else value


def _rows(sorted_keys: Ints, key: int) -> range:
    return range(*np.searchsorted(sorted_keys, [key, key + 1]).tolist())
