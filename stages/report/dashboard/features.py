"""The blocks of the feature pages: what a latent answers to, what it promotes, and what its tracks come from and go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.stages.report.dashboard.packing import pack
from ghosttrack.stages.report.dashboard.tracks import Census, Examples, Ints, Links
from ghosttrack.stages.report.results import Results

UNIT = "track/association"
FEATURES_A_BLOCK = 60
NEIGHBOURS = 6


class Beside(NamedTuple):
    """The most frequent links at each feature."""

    owner: Ints
    """Ascending."""
    rows: Ints
    """Of the links, those of an owner by falling frequency."""

    @classmethod
    def of(cls, owner: Ints, links: Links) -> Beside:
        """owner: [n_links] the end of each link at whose feature it is to be found."""
        order = np.lexsort((-links.times, owner))
        ordered = owner[order]
        near = np.arange(len(ordered)) - np.searchsorted(ordered, ordered) < NEIGHBOURS
        return cls(ordered[near], order[near])

    def rows_of(self, feature: int) -> Ints:
        return self.rows[slice(*np.searchsorted(self.owner, [feature, feature + 1]))]


class FeatureBook:
    """What is known of every latent; a feature is layer · width + latent."""

    def __init__(self, results: Results, census: Census, questions: Sequence[str]) -> None:
        """questions: ids, in the order of their numbers."""
        self._width, self._questions = census.width, questions
        self._latents = self._indexed(results, LATENTS)
        self._contexts = self._indexed(results, LATENT_CONTEXTS)
        self._links: Links | None = None
        self._examples: Examples | None = None
        if census.seen:
            self._links, self._examples = census.result()
        self._before = None if self._links is None else Beside.of(self._links.target, self._links)
        self._after = None if self._links is None else Beside.of(self._links.source, self._links)

    def _indexed(self, results: Results, file: Table) -> tuple[Ints, dict[str, Any]] | None:
        """Features of the rows, ascending, and the columns in that order."""
        if not results.has(UNIT, file.name):
            return None
        table = file.table(results.path(UNIT, file.name))
        feature = table["layer"].to_numpy().astype(np.int64) * self._width + table["latent"].to_numpy()
        order = (
            np.lexsort((table["rank"].to_numpy(), feature))
            if "rank" in table.column_names
            else np.argsort(feature)
        )
        table = table.take(order)
        return feature[order], {name: table[name].combine_chunks() for name in table.column_names}

    @property
    def n_latents(self) -> int:
        return len(self._latents[0]) if self._latents else 0

    @property
    def n_contexts(self) -> int:
        return len(self._contexts[0]) if self._contexts else 0

    def promoted(self, feature: int, count: int = 3) -> list[str]:
        """The tokens that it promotes most, by which tracks are named."""
        rows = _rows(self._latents[0], feature) if self._latents else range(0)
        return self._latents[1]["promoted"][rows[0]].as_py()[:count] if self._latents and len(rows) else []

    def contexts_of(self, features: Ints, most: int) -> int:
        """Contexts of these features, of each as many as a page has."""
        if self._contexts is None:
            return 0
        own = self._contexts[0]
        return int(
            np.minimum(np.searchsorted(own, features, "right") - np.searchsorted(own, features), most).sum()
        )

    def named_by(self, features: Ints) -> Ints:
        """Other features that the pages of these name as neighbours, ascending."""
        if self._links is None or self._before is None or self._after is None:
            return np.array([], dtype=np.int64)
        sides = ((self._before, self._links.source), (self._after, self._links.target))
        named = [other[beside.rows[np.isin(beside.owner, features)]] for beside, other in sides]
        return np.setdiff1d(np.concatenate(named), features)

    def card(self, feature: int) -> dict[str, Any]:
        """What is known of a feature by itself; all there is to show of one that no drawn track goes through."""
        found: dict[str, Any] = {"layer": feature // self._width, "latent": feature % self._width}
        if self._latents:
            for row in _rows(self._latents[0], feature)[:1]:
                columns = self._latents[1]
                found |= {
                    name: columns[name][row].as_py()
                    for name in ("firing_rate", "mean_activation", "promoted", "suppressed")
                }
        return found

    def page(self, feature: int, contexts: int) -> dict[str, Any]:
        """All of one feature; contexts: most of them."""
        found = self.card(feature)
        if self._contexts:
            columns = self._contexts[1]
            names = ("activation", "before", "token", "after")
            found["contexts"] = [
                [columns[name][row].as_py() for name in names]
                for row in _rows(self._contexts[0], feature)[:contexts]
            ]
        if self._links is not None and self._before is not None and self._after is not None:
            found["from"] = self._neighbours(self._links, self._before.rows_of(feature), self._links.source)
            found["to"] = self._neighbours(self._links, self._after.rows_of(feature), self._links.target)
        if self._examples is not None:
            rows = _rows(self._examples.feature, feature) if self._questions else []
            found["examples"] = self._places(self._examples, rows)
        return found

    def _neighbours(self, links: Links, rows: Ints, other: Ints) -> list[list[Any]]:
        """`[layer, latent, links, cosine, mean posterior]` of each."""
        return [
            [int(other[row] // self._width), int(other[row] % self._width), int(links.times[row]),
             round(float(links.cosine[row]), 6), round(float(links.posterior[row]), 6)]
            for row in rows
        ]  # fmt: skip

    def _places(self, examples: Examples, rows: Iterable[int]) -> list[list[Any]]:
        return [
            [self._questions[int(examples.question[row])], int(examples.position[row]),
             round(float(examples.activation[row]), 6)]
            for row in rows
        ]  # fmt: skip


def _rows(sorted_keys: Ints, key: int) -> range:
    return range(*np.searchsorted(sorted_keys, [key, key + 1]).tolist())


def feature_block(pages: Sequence[Mapping[str, Any]]) -> str:
    return pack(pages)
