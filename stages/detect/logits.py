"""What the token probabilities of an answer say, as features in the form of the track features.

They are the usual grey-box signals (log-probability and entropy of the chosen tokens) and no part of the tracks:
a detector that sees them shows what tracks add to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.detect.features import FeatureTable

FAMILY = "logits"


def logit_features(logprobs: Sequence[Sequence[float]], entropies: Sequence[Sequence[float]]) -> FeatureTable:
    """Features of n answers from the values of their tokens; NaN for answers without tokens."""
    names = [
        f"answer.{FAMILY}.{name}"
        for name in ("first_logprob", "min_logprob", "mean_logprob", "last_logprob", "first_entropy", "max_entropy",
                     "mean_entropy", "tokens")
    ]  # fmt: skip
    values = np.full((len(logprobs), len(names)), np.nan)
    for row, (lp, h) in enumerate(zip(logprobs, entropies, strict=True)):
        if len(lp):
            values[row] = [lp[0], min(lp), np.mean(lp), lp[-1], h[0], max(h), np.mean(h), len(lp)]
    return FeatureTable(values, names)
