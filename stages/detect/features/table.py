"""A table of features: a row a question, a named column a feature."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Singles


class FeatureTable(NamedTuple):
    """values: [n_questions, n_features], NaN where a question lacks what the feature is read from."""

    values: Floats | Singles
    names: list[str]

    def narrow(self) -> "FeatureTable":
        """In float32."""
        return FeatureTable(self.values.astype(np.float32), self.names)


def joined(tables: Sequence[FeatureTable]) -> FeatureTable:
    return FeatureTable(
        np.concatenate([table.values for table in tables], axis=1),
        [name for table in tables for name in table.names],
    )


def from_columns(columns: dict[str, Sequence[float] | Floats]) -> FeatureTable:
    """A table of named columns of equal length."""
    return FeatureTable(
        np.stack([np.asarray(c, dtype=np.float64) for c in columns.values()], axis=1), list(columns)
    )
