"""All that the fits of a run may draw on: feature tables by signal, states, latents, candidates, for the same n questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from ghosttrack.common.maths.arrays import Floats, Ints
from ghosttrack.stages.detect.evidence import AnsweredQuestion, FeatureTable, PlacedStates


@dataclass(frozen=True)
class Data:
    """n questions, in the order of generations.jsonl or a part of it."""

    asked: list[AnsweredQuestion]
    layers: list[int]
    tables: dict[str, FeatureTable]  # signal → features; the ladder's as "rung/<name>"
    states: PlacedStates
    latents: csr_matrix  # [n, n_layers · d_hidden]
    tokens: Ints  # [n, m] candidates for the first answer token
    logprobs: Floats  # [n, m]

    def __len__(self) -> int:
        return len(self.asked)

    def of(self, rows: Ints | Sequence[int]) -> "Data":
        """The same of some questions."""
        rows = np.asarray(rows, dtype=np.int64)
        return Data(
            [self.asked[row] for row in rows],
            self.layers,
            {name: FeatureTable(table.values[rows], table.names) for name, table in self.tables.items()},
            self.states.of(rows),
            self.latents[rows],
            self.tokens[rows],
            self.logprobs[rows],
        )
