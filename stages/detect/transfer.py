"""Another run's stored detector on this run's questions: nothing is fitted here.

The detector must read the same layers of the same model with the same SAEs; only the questions differ.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ghosttrack.common.maths.arrays import Floats
from ghosttrack.stages.detect.crossval import Decided
from ghosttrack.stages.detect.detector import load
from ghosttrack.stages.detect.evidence import Data
from ghosttrack.stages.detect.features.contexts import ANCHOR
from ghosttrack.stages.detect.methods import ANCHORED, AVERAGED, MAIN, present
from ghosttrack.stages.detect.records import score_rows


def transferred(
    folder: Path, data: Data, labels: Floats, provenance: dict[str, str], split: str
) -> tuple[str, list[pd.DataFrame]]:
    """What another run's detector says of these questions: the configuration that it was fitted for, and rows of scores.parquet:
    its own score, and what it is compared with: everything of one prompt, the anchor, log-probability. folder: a detection
    folder with a stored detector.

    Raises CorruptInputError where there is none, ModelMismatchError where it belongs to another model or other SAEs.
    """
    detector = load(folder)
    detector.require(provenance)
    rows = np.flatnonzero(~np.isnan(labels))
    data = data.of(rows)
    columns = detector.columns(data)
    scores = {MAIN: detector.raw_score(data, columns)}
    if detector.anchored is not None:
        one_prompt = detector.one_prompt.score(columns.of(present(MAIN, detector.signals)))
        scores = {ANCHORED[0]: scores[MAIN], MAIN: one_prompt, "anchor": columns.column(ANCHOR)}
    scores["logprob_sum"] = -columns.column("logits.sum_logprob")
    tables = []
    for method, score in scores.items():
        probability = detector.platt(score)
        predicted, raw = (probability >= detector.threshold).astype(np.int64), 1 / (1 + np.exp(-score))
        decided = Decided(score, probability, predicted, raw, AVERAGED, detector.threshold)
        tables.append(score_rows(split, 0, 0, rows, method, decided))
    return detector.provenance["name"], tables
