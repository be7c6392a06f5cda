"""A risk for every answer token: how likely the answer is wrong, judged by the model's distributions up to that token.

A logistic regression on four numbers that are known the moment a token is chosen, fitted on every token of the training
answers with the answer's label, answers weighing alike. It sees nothing of later tokens, so that it can be told while the
model speaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from ghosttrack.common.maths.arrays import Floats


@dataclass(frozen=True)
class TokenRisk:
    mean: Floats  # [4]
    spread: Floats  # [4]
    weights: Floats  # [4]
    intercept: float
    lowest: Floats  # [4], of the training tokens: beyond them it is no surer
    highest: Floats  # [4]

    def __call__(self, logprobs: Sequence[float], entropies: Sequence[float]) -> Floats:
        """The risk at each token of one answer, [n]. logprobs, entropies: a value a token, nats."""
        if not len(logprobs):
            return np.zeros(0)
        columns = np.clip(_columns(logprobs, entropies), self.lowest, self.highest)
        odds = (columns - self.mean) / self.spread @ self.weights + self.intercept
        return np.asarray(0.5 * (1 + np.tanh(0.5 * odds)))


def fit_token_risk(
    logprobs: Sequence[Sequence[float]], entropies: Sequence[Sequence[float]], labels: Floats
) -> TokenRisk:
    """Learn a risk for tokens from labels of whole answers, each of which weighs as much. logprobs, entropies: a list
    an answer; labels: [n], 1 wrong, 0 right. Answers without tokens teach nothing."""
    rows = [row for row in range(len(labels)) if len(logprobs[row])]
    columns = np.concatenate([_columns(logprobs[row], entropies[row]) for row in rows])
    lengths = np.array([len(logprobs[row]) for row in rows])
    mean, spread = columns.mean(axis=0), columns.std(axis=0) + 1e-9
    model = LogisticRegression(C=1.0, max_iter=500).fit(
        (columns - mean) / spread,
        np.repeat(labels[rows], lengths),
        sample_weight=np.repeat(1 / lengths, lengths),
    )
    return TokenRisk(
        mean,
        spread,
        model.coef_[0].astype(np.float64),
        float(model.intercept_[0]),
        columns.min(axis=0),
        columns.max(axis=0),
    )


def _columns(logprobs: Sequence[float], entropies: Sequence[float]) -> Floats:
    """Of each token: its log-probability, its entropy, the lowest log-probability and the mean entropy so far: [n, 4]."""
    logprob, entropy = np.asarray(logprobs, dtype=np.float64), np.asarray(entropies, dtype=np.float64)
    so_far = np.cumsum(entropy) / np.arange(1, len(entropy) + 1)
    return np.stack([logprob, entropy, np.minimum.accumulate(logprob), so_far], axis=1)
