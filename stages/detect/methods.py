"""Every way to tell wrong answers that is compared: baselines, detectors, rungs of the ladder, early warnings.

A method turns the columns of one training side into held-out scores of the training rows, by which it is calibrated and
its threshold chosen, and scores of the test rows.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Kind = Literal["baseline", "detector", "rung", "early"]

SINGLE = {
    "logprob_first": ("logits.first_logprob", "first token log-probability"),
    "logprob_min": ("logits.min_logprob", "lowest token log-probability"),
    "logprob_sum": ("logits.sum_logprob", "log-probability of the answer"),
    "logprob_mean": ("logits.mean_logprob", "mean token log-probability"),
    "token_entropy": ("logits.mean_entropy", "mean token entropy"),
    "answer_length": ("logits.tokens", "answer length in tokens"),
    "relation_prior": ("habits.relation_wrong", "share of wrong answers in the relation"),
    "linear_probe": ("probe.best", "linear probe of hidden states, place and layer chosen"),
    "probe_ensemble": ("probe.ensemble", "linear probes of all places and layers together"),
    "sae_latents": ("latents.score", "sparse probe of SAE latents"),
    "reconstruction_error": ("error.score", "SAE reconstruction error, all layers"),
    "logit_lens": ("lens.score", "logit-lens trajectory"),
    "surface_text": ("text.score", "surface of question and answer"),
    "semantic_entropy": ("samples.semantic_entropy", "semantic entropy of sampled answers"),
    "self_consistency": ("samples.agreement", "sampled answers that agree with the greedy one"),
}
"""Baselines that are one column: name → (column, title). The sign is learned."""

LENGTH_SIGNALS = {"answer_length": ["length"], "relation_prior": ["relation"]}

WITHOUT_TRACKS = ["text", "logits", "samples", "lens", "probe", "habits", "latents", "error"]
TRACKS = ["tracks"]
STACKS: dict[str, tuple[str, list[str], str]] = {
    "tracks": ("tracks alone", TRACKS, "Features of the tracks and of the answers that compete in them."),
    "tracks_logits": (
        "tracks and token probabilities", ["tracks", "logits", "lens"],
        "Tracks with what the token probabilities and the logit lens say.",
    ),
    "logits_lens": (
        "token probabilities and logit lens", ["logits", "lens"], "The same without tracks.",
    ),
    "full": ("everything", [*WITHOUT_TRACKS, *TRACKS], "Every signal; kind of model chosen on the inner folds."),
    "full_additive": (
        "everything, additive", [*WITHOUT_TRACKS, *TRACKS],
        "Every signal but scores of trees; a logistic regression, whose score is a sum of contributions.",
    ),
    "without_tracks": ("everything but tracks", WITHOUT_TRACKS, "Every signal except the tracks."),
}  # fmt: skip
"""Detectors: name → (title, signals, description)."""
ADDITIVE_ONLY = {"full_additive"}
MAIN = "full"


class Method(NamedTuple):
    """What a method is, for readers."""

    name: str
    title: str
    kind: Kind
    description: str
    signals: list[str]
    rung: str | None = None
    layer: int | None = None
    before_answer: bool = False


class Scored(NamedTuple):
    """held_out: [n_train] by fits without the row's inner fold; test: [n_test]; both in the same units."""

    held_out: Floats
    test: Floats
    chosen: str
    log_odds: bool  # whether the score is a log-odds, so that it has a probability before calibration
