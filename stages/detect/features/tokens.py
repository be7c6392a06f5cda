"""What the model's distributions say of an answer: log-probabilities, entropies, and the field of candidates."""

from collections.abc import Sequence

import numpy as np

from ghosttrack.common.maths.arrays import Floats
from ghosttrack.stages.detect.evidence import AnsweredQuestion, FeatureTable, from_columns

SHORT = 4
"""Tokens that an answer may have to be judged as a whole."""


def improbability(logprob: Floats, tokens: Floats) -> Floats:
    """− probability of an answer; of a longer one than SHORT that of SHORT tokens of it, at their geometric mean.

    Between −1 and 0, so that a data set whose answers are less likely by many nats does not outweigh, in a sum, what else
    is known of them, and no answer's length does.
    """
    return np.asarray(-np.exp(logprob * np.minimum(1.0, SHORT / np.maximum(tokens, 1))))


def token_features(asked: Sequence[AnsweredQuestion], candidate_logprobs: Floats) -> FeatureTable:
    """Features of n answers; NaN for answers without tokens.

    candidate_logprobs: [n, m] of the likeliest first tokens, falling.
    """

    def over(values: list[list[float]], how: object) -> list[float]:
        return [how(np.asarray(v)) if v else np.nan for v in values]  # type: ignore[operator]

    logprobs, entropies = [item.logprobs for item in asked], [item.entropies for item in asked]
    sums = np.array(over(logprobs, np.sum))
    chances = np.exp(candidate_logprobs)
    shares = chances / chances.sum(axis=1, keepdims=True)
    return from_columns({
        "logits.first_logprob": over(logprobs, lambda v: v[0]),
        "logits.min_logprob": over(logprobs, np.min),
        "logits.mean_logprob": over(logprobs, np.mean),
        "logits.sum_logprob": sums,
        "logits.improbability": improbability(sums, np.array([len(v) for v in logprobs])),
        "logits.last_logprob": over(logprobs, lambda v: v[-1]),
        "logits.first_entropy": over(entropies, lambda v: v[0]),
        "logits.max_entropy": over(entropies, np.max),
        "logits.mean_entropy": over(entropies, np.mean),
        "logits.tokens": [float(len(item.token_ids)) for item in asked],
        "logits.lead": candidate_logprobs[:, 0] - candidate_logprobs[:, 1],
        "logits.second_lead": candidate_logprobs[:, 1] - candidate_logprobs[:, min(2, chances.shape[1] - 1)],
        "logits.candidate_mass": chances.sum(axis=1),
        "logits.candidate_entropy": -(shares * np.log(shares)).sum(axis=1),
    })  # fmt: skip


def sample_features(asked: Sequence[AnsweredQuestion], normalised: Sequence[Sequence[str]]) -> FeatureTable:
    """Semantic entropy over samples that normalise to the same string, and how many agree with the greedy answer.

    Kuhn, Gal and Farquhar 2023, with equality of normalised strings in the place of entailment.
    normalised: each question's samples.
    """
    entropy, agreement = [], []
    for item, samples in zip(asked, normalised, strict=True):
        counts = np.unique(list(samples), return_counts=True)[1] / max(len(samples), 1)
        entropy.append(float(-(counts * np.log(counts)).sum()) if len(samples) else np.nan)
        agreement.append(float(np.mean([text == item.said for text in samples])) if samples else np.nan)
    return from_columns({"samples.semantic_entropy": entropy, "samples.agreement": agreement})
