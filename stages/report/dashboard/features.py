"""The blocks of the feature pages: what a latent answers to, what it promotes, and what its tracks come from and go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.report.dashboard.packing import pack
from stages.report.dashboard.tracks import Census, Examples, Links
from stages.report.results import Results

UNIT = "track/association"
FEATURES_A_BLOCK = 60
NEIGHBOURS = 6


class FeatureBook:
    """What is known of every latent; a feature is layer · width + latent."""

    def __init__(self, results: Results, census: Census, questions: Sequence[str]) -> None:
        """questions: ids, in the order of their numbers."""
        self._width, self._questions = census.width, questions
        self._latents = self._indexed(results, "latents.parquet")
        self._contexts = self._indexed(results, "contexts.parquet")
        self._links: Links | None = None
        self._examples: Examples | None = None
        if census.seen:
            self._links, self._examples = census.result()
        self._backward = None if self._links is None else np.argsort(self._links.target, kind="stable")

    def _indexed(self, results: Results, file: str) -> tuple[NDArray[np.int64], dict[str, Any]] | None:
        """Features of the rows, ascending, and the columns in that order."""
        if not results.has(UNIT, file):
            return None
        table = pq.read_table(results.path(UNIT, file))
        feature = table["layer"].to_numpy().astype(np.int64) * self._width + table["latent"].to_numpy()
        order = (
            np.lexsort((table["rank"].to_numpy(), feature))
            if "rank" in table.column_names
            else np.argsort(feature)
        )
        table = table.take(order)
        return feature[order], {name: table[name].combine_chunks() for name in table.column_names}

    def promoted(self, feature: int, count: int = 3) -> list[str]:
        """The tokens that it promotes most, by which tracks are named."""
        rows = _rows(self._latents[0], feature) if self._latents else range(0)
        return self._latents[1]["promoted"][rows[0]].as_py()[:count] if self._latents and len(rows) else []

    def page(self, feature: int, contexts: int) -> dict[str, Any]:
        """All of one feature; contexts: most of them."""
        found: dict[str, Any] = {"layer": feature // self._width, "latent": feature % self._width}
        if self._latents:
            for row in _rows(self._latents[0], feature)[:1]:
                columns = self._latents[1]
                found |= {
                    name: columns[name][row].as_py()
                    for name in ("firing_rate", "mean_activation", "promoted", "suppressed")
                }
        if self._contexts:
            columns = self._contexts[1]
            names = ("activation", "before", "token", "after")
            found["contexts"] = [
                [columns[name][row].as_py() for name in names]
                for row in _rows(self._contexts[0], feature)[:contexts]
            ]
        if self._links is not None and self._examples is not None and self._backward is not None:
            links, examples = self._links, self._examples
            before = self._backward[
                slice(*np.searchsorted(links.target, [feature, feature + 1], sorter=self._backward))
            ]
            found["from"] = self._neighbours(links, before, links.source)
            found["to"] = self._neighbours(links, np.array(_rows(links.source, feature)), links.target)
            rows = _rows(examples.feature, feature) if self._questions else []
            found["examples"] = self._places(examples, rows)
        return found

    def _neighbours(self, links: Links, rows: NDArray[np.int64], other: NDArray[np.int64]) -> list[list[Any]]:
        """`[layer, latent, links, cosine, mean posterior]` of the most frequent."""
        rows = rows[np.argsort(-links.times[rows], kind="stable")][:NEIGHBOURS] if len(rows) else rows
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


def _rows(sorted_keys: NDArray[np.int64], key: int) -> range:
    return range(*np.searchsorted(sorted_keys, [key, key + 1]).tolist())


def feature_block(pages: Sequence[Mapping[str, Any]]) -> str:
    return pack(pages)
