"""contexts.parquet as features: how the model's own answer stands, and the others against it, in contexts it was not chosen in.

Greedy decoding takes a maximum, so that the probability which a prompt gives to its own answer is inflated; another
context did not choose the answer and reads it afresh. What contexts say is mixed as probabilities, not as logarithms: one in
which the model is lost (half of the examples, a strange framing) says little, where a mean of logarithms would let it decide. The
posterior over hypotheses in a context is the softmax of their log-probabilities; over contexts it has an entropy (of its mean), a
disagreement (Jensen–Shannon: that entropy less the mean of the contexts' own) and a churn (mean total variation from it).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax, xlogy

from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.stages.detect.evidence import FeatureTable, from_columns
from ghosttrack.stages.detect.features.tokens import improbability

Columns = Mapping[str, NDArray[Any]]

ANCHOR = "contexts.anchor"
"""How improbable the answer is in the other contexts, their mean (`improbability`): higher is more likely wrong, no label asked."""
LOGARITHMS = "contexts.anchor_logarithms"
"""− mean of the log-probabilities in its place, nats."""
UNSHOWN = "contexts.anchor_unshown"
"""The anchor without the contexts that show the answer; with all, where each shows it."""


def context_features(table: Columns, n_questions: int) -> FeatureTable:
    """Features of n answers. One without another context has its own probability in the anchor's place.

    Raises CorruptInputError for a table that does not speak of each question, NumericError for NaN or Inf.
    """
    question = table["question"].astype(np.int64)
    starts = np.searchsorted(question, np.arange(n_questions + 1))
    if (np.diff(question) < 0).any() or (np.diff(starts) == 0).any() or starts[-1] != len(question):
        raise CorruptInputError(
            f"{EVIDENCE.name} is not a table of these {n_questions} questions, sorted by them; run track again"
        )
    finite = np.isfinite(table["evidence"]) & np.isfinite(table["total"])
    if not finite.all():
        raise NumericError(
            f"{EVIDENCE.name}: the evidence of question {question[np.argmin(finite)]} is not finite; run track again"
        )
    rows = [
        _features({name: values[start:stop] for name, values in table.items()})
        for start, stop in itertools.pairwise(starts)
    ]
    return from_columns({name: [row[name] for row in rows] for name in rows[0]})


def _features(own: Columns) -> dict[str, float]:
    """Of one question's rows."""
    is_answer = own["hypothesis"] == 0
    home = is_answer & (own["context"] == 0)
    other = is_answer & (own["context"] > 0)
    elsewhere = other if other.any() else home
    unshown = other & ~own["shows"]
    evidence = own["evidence"].astype(np.float64)
    at_home, read = float(evidence[home][0]), evidence[elsewhere]
    improbable = improbability(evidence, own["n_tokens"])
    count = int(own["hypothesis"].max()) + 1
    # Rows are sorted, and every context has a row for each hypothesis.
    posterior = softmax(own["total"].astype(np.float64).reshape(-1, count), axis=1)
    mean = posterior.mean(axis=0)
    entropy = float(-xlogy(mean, mean).sum())
    return {
        ANCHOR: float(improbable[elsewhere].mean()),
        LOGARITHMS: -float(read.mean()),
        UNSHOWN: float(improbable[unshown if unshown.any() else elsewhere].mean()),
        "contexts.worst": -float(read.min()),
        "contexts.spread": float(read.std()),
        "contexts.inflation": at_home - float(read.mean()),
        "contexts.shown": float(own["shows"][other].mean()) if other.any() else 0.0,
        "contexts.agreement": float(own["greedy"][other].mean()) if other.any() else 0.0,
        "contexts.hypotheses": float(count),
        "contexts.standing": float(mean[0]),
        "contexts.entropy": entropy,
        "contexts.disagreement": entropy + float(xlogy(posterior, posterior).sum(axis=1).mean()),
        "contexts.churn": float(np.abs(posterior - mean).sum(axis=1).mean() / 2),
    }
