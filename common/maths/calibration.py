"""Platt scaling: from a score to a probability with two parameters.

Platt 1999, with the smoothed targets and the Newton iteration of Lin, Lin and Weng 2007, in float64. The slope is
free in sign, so a score that points the wrong way is turned round by the data it is fitted on.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_STEPS = 100
"""Of Newton's method; it takes a handful."""


class Platt(NamedTuple):
    """p(wrong) = 1 / (1 + exp(−(slope · (score − centre) / scale + offset))). lowest, highest: scores that it was fitted on."""

    slope: float
    offset: float
    centre: float
    scale: float
    lowest: float
    highest: float

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        z = self.slope * (np.asarray(scores, dtype=np.float64) - self.centre) / self.scale + self.offset
        return _sigmoid(z)

    def bounded(self, scores: ArrayLike) -> NDArray[np.float64]:
        """No surer of a score beyond those that it was fitted on than of the last of them."""
        return self(np.clip(scores, self.lowest, self.highest))


def fit_platt(scores: ArrayLike, labels: ArrayLike) -> Platt:
    """Maximum likelihood slope and offset. scores: [n] finite; labels: [n] 0/1, both classes present."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    centre, scale = float(s.mean()), float(s.std()) or 1.0
    positives, negatives = y.sum(), len(y) - y.sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.stack([(s - centre) / scale, np.ones_like(s)], axis=1)
    beta = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    loss = _loss(x @ beta, target)
    for _ in range(MOST_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        rate = 1.0
        while (new := _loss(x @ (beta - rate * step), target)) > loss and rate > 1e-10:
            rate /= 2
        beta, improved, loss = beta - rate * step, loss - new, new
        if improved < 1e-12 * max(1.0, loss):
            break
    return Platt(float(beta[0]), float(beta[1]), centre, scale, float(s.min()), float(s.max()))


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def _loss(z: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float(np.sum(np.logaddexp(0, z) - target * z))
