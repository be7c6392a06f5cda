"""Another run's stored detector on this run's questions: nothing is fitted here.

The detector must read the same layers of the same model with the same SAEs; only the questions differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ghosttrack.stages.detect.crossval import Decided
from ghosttrack.stages.detect.data import Data
from ghosttrack.stages.detect.detector import load
from ghosttrack.stages.detect.methods import MAIN
from ghosttrack.stages.detect.records import score_rows

Floats = NDArray[np.float64]


def transferred(folder: Path, data: Data, labels: Floats, provenance: dict[str, str]) -> pd.DataFrame:
    """Rows of scores.parquet, split `transfer`. folder: a detection folder with a stored detector.

    Raises CorruptInputError where there is none, ModelMismatchError where it belongs to another model or other SAEs.
    """
    detector = load(folder)
    detector.require(provenance)
    rows = np.flatnonzero(~np.isnan(labels))
    score = detector.model.score(detector.columns(data.of(rows)).of(detector.signals))
    probability = detector.platt(score)
    decided = Decided(
        score, probability, (probability >= detector.threshold).astype(np.int64), 1 / (1 + np.exp(-score)),
        detector.chosen, detector.threshold,
    )  # fmt: skip
    return score_rows("transfer", 0, 0, rows, MAIN, decided)
