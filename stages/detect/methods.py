"""Every way to tell wrong answers that is compared: baselines, detectors, rungs of the ladder, early warnings.

A method turns the columns of one training side into held-out scores of the training rows, by which it is calibrated and
its threshold chosen, and scores of the test rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ghosttrack.common.formats.final_report import Kind
from ghosttrack.common.maths.arrays import Floats

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
    "context_entropy": ("contexts.entropy", "entropy of the answers over contexts"),
    "context_churn": ("contexts.churn", "churn of the answers over contexts"),
    "semantic_entropy": ("samples.semantic_entropy", "semantic entropy of sampled answers"),
    "self_consistency": ("samples.agreement", "sampled answers that agree with the greedy one"),
}
"""Baselines that are one column: name → (column, title). The sign is learned."""

UNTRAINED = {"anchor": ("contexts.anchor", "probability of the answer in other contexts")}
"""Baselines in which nothing is learned, not even a sign: the detector for domains that nobody has labelled."""

LENGTH_SIGNALS = {"answer_length": ["length"], "relation_prior": ["relation"]}

WITHOUT_TRACKS = ["text", "logits", "samples", "lens", "probe", "habits", "latents", "error", "competition"]
TRACKS = ["tracks"]
STACKS: dict[str, tuple[str, list[str], str]] = {
    "tracks": ("tracks alone", TRACKS, "Features of the tracks."),
    "tracks_logits": (
        "tracks and token probabilities", ["tracks", "logits", "lens"],
        "Tracks with what the token probabilities and the logit lens say.",
    ),
    "logits_lens": (
        "token probabilities and logit lens", ["logits", "lens"], "The same without tracks.",
    ),
    "full": ("everything", [*WITHOUT_TRACKS, *TRACKS], "Every signal of one prompt."),
    "full_contexts": (
        "everything, contexts weighed by training", [*WITHOUT_TRACKS, *TRACKS, "contexts"],
        "Every signal, those of the other contexts among them, with learnt weights.",
    ),
    "without_tracks": ("everything but tracks", WITHOUT_TRACKS, "Every signal except the tracks."),
}  # fmt: skip
"""Detectors: name → (title, signals, description)."""
AVERAGED, RIDGE = "logistic regression, mean of penalties", "ridge regression, mean of penalties"
ANCHORED = (
    "anchored", "other contexts and everything",
    "How the answer stands in other contexts, and the trained score of everything (contexts among it), with weights that "
    "are not fitted: the trained part counts less the farther an answer is from what was fitted, the other the less, the more "
    "answers of the relation were trained on.",
)  # fmt: skip
"""Name, title and description."""
CONTROLS: dict[str, tuple[str, str, tuple[str, float] | None]] = {
    "control/unweighted": (
        "anchored, distance not looked at",
        "The same, the trained part counting as if every answer were like what was fitted.", None,
    ),
    "control/permuted": (
        "permuted contexts and everything",
        "The contexts of a question drawn at random in their place, the trained score fitted to them.", None,
    ),
    "control/dealt": (
        "another question's contexts and everything",
        "The contexts of another question of the relation, the trained score fitted to them.", None,
    ),
    "control/one_prompt": (
        "anchor and everything of one prompt",
        "The anchor and the trained score of everything that one prompt tells.", ("contexts.anchor", 1.0),
    ),
    "control/own": (
        "own probability and everything of one prompt",
        "How improbable the answer is in its own prompt, in the anchor's place, the trained score of one prompt.",
        ("logits.improbability", 1.0),
    ),
    "control/unshown": (
        "anchor, no answer shown, and everything of one prompt",
        "Contexts that show the answer are left out, the trained score of one prompt.",
        ("contexts.anchor_unshown", 1.0),
    ),
    "control/logarithms": (
        "mean of logarithms and everything of one prompt",
        "The mean of the answer's log-probabilities in the place of its mean probability, the trained score of one prompt.",
        ("contexts.anchor_logarithms", 1.0),
    ),
    "control/samples": (
        "sampled answers and everything of one prompt",
        "Agreement of sampled answers in the anchor's place, the trained score of one prompt.",
        ("samples.agreement", -1.0),
    ),
}  # fmt: skip
"""What takes the contexts' place, with the same weights: title, description, and column and sign where a column stands beside the
trained score of one prompt. Registered before the frozen test was first opened, but for what is made of `TRAINED`, which was put beside the anchor later (METHOD.md, section 7)."""
MAIN, TRAINED = "full", "full_contexts"
"""The detector of one prompt, and the trained part of the anchored one."""


def main_of(signals: Sequence[str]) -> str:
    """The main detector, for what was read: the anchored one where answers were read in other contexts."""
    return ANCHORED[0] if "contexts" in signals else MAIN


def present(name: str, signals: Sequence[str]) -> list[str]:
    """Of a detector's signals, those that were read."""
    return [signal for signal in STACKS[name][1] if signal in signals]


class MethodDescription(NamedTuple):
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
