"""Whether explanations can be believed: is the account complete, do measured effects agree with predicted ones, and do answers
change when the tracks that they hang on go, and not when others do?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Association, Scans
from ghosttrack.stages.track.causes import share
from ghosttrack.stages.track.validation import LEAST_PROBLEMS, SIGNIFICANT, Verdict, link_densities

COMPLETE = 1e-3
SLOPE, RANK_CORRELATION = (0.8, 1.2), 0.7
CHANGED, CONTROL_CHANGED = 0.6, 0.1


def judge_account(rest: NDArray[np.float32], leads: NDArray[np.bool_] | None, told: bool = True) -> Verdict:
    """Whether the account adds up to the logits. rest: relative error of every row; leads: of every position that
    predicts, whether the emitted token leads at the last layer, None where the model has further layers above it; told:
    whether every block was taken apart."""
    question = "Is the account of an answer complete?"
    if not len(rest if leads is None else leads):
        return Verdict(question, None, "There is no position at which the model predicts.")
    worst = float(rest.max())
    leading = "which token leads at the end is not told, since the model has further layers above those that were read"
    if leads is not None:
        leading = (
            f"the emitted token leads at the last layer at {leads.mean():.2%} of {len(leads):,} positions"
        )
    wrote = "so does what attention and MLP wrote"
    if not told:
        wrote = "what attention and MLP wrote cannot be told at all layers"
    return Verdict(
        question, worst < COMPLETE and (leads is None or bool(leads.all())),
        f"Tracks, other latents, the SAE's bias and its error add up to the lens' logits of all candidates to {worst:.1g} of "
        f"the parts' size (at most {COMPLETE:g} is asked for), and {wrote}; {leading}.",
    )  # fmt: skip


def judge_predictions(found: Mapping[str, Any] | None) -> Verdict:
    """Whether tracks' effects foretell what taking them out does. found: what `run_causes.summary` says of
    `predicted`."""
    question = "Do the effects of taking tracks out agree with those predicted?"
    if found is None:
        return Verdict(question, None, "Tracks of too few questions were taken out; raise tracking.causes.")
    slope, rank = found["slope"], found["rank_correlation"]
    return Verdict(
        question, SLOPE[0] <= slope <= SLOPE[1] and rank >= RANK_CORRELATION,
        f"Over {found['n']:,} tracks the measured drop of the answer's logit is {slope:.2f} {_interval(found['slope_interval'])} of "
        f"the predicted one ({SLOPE[0]:g} to {SLOPE[1]:g} is asked for), their rank correlation {rank:.2f} "
        f"{_interval(found['rank_interval'])} (at least {RANK_CORRELATION:g}).",
    )  # fmt: skip


def judge_answers(causes: Mapping[str, NDArray[Any]], wrong: NDArray[np.bool_]) -> Verdict:
    """Whether taking the strongest track out changes answers and taking as much of others out does not, paired. causes:
    columns of causes.parquet; wrong: whether the answer to each row's question is wrong."""
    question = "Do wrong answers change when their strongest track is taken out, and not when others are?"
    rows = wrong & (causes["kind"] == "set") & (causes["size"] == 1)
    own, control = causes["changed"][rows], causes["control_changed"][rows]
    if len(own) < LEAST_PROBLEMS:
        few = "Tracks of too few wrong answers were taken out; raise tracking.causes."
        return Verdict(question, None, few)
    only, other = int((own & ~control).sum()), int((control & ~own).sum())
    p = stats.binomtest(only, only + other, alternative="greater").pvalue if only + other else 1.0
    reached = own.mean() >= CHANGED and control.mean() <= CONTROL_CHANGED
    margin = causes["margin"][rows]
    near = margin <= np.median(margin)
    return Verdict(
        question, bool(reached and p < SIGNIFICANT),
        f"Without their strongest track {_percent(own)} of {len(own)} wrong answers begin otherwise, and {_percent(control)} "
        f"without as much of other latents at the same places (paired, one-sided p = {p:.2g}); {CHANGED:.0%} against at most "
        f"{CONTROL_CHANGED:.0%} {'is reached' if reached else 'is not reached'}. An answer that hardly leads gives way to any "
        f"change: of those that lead by at most {np.median(margin):.2g} logits {_percent(own[near])} change, {_percent(control[near])} "
        f"under the control; of the others {_percent(own[~near])} and {_percent(control[~near])}.",
    )  # fmt: skip


def predictive(scans: Scans, tracks: Tracks, association: Association) -> NDArray[np.float64]:
    """Mean log density of all detections after the first layer, a value a problem, nats: of one that is linked given the one
    before, of any other as of a birth. So links are compared on the same detections, whichever they leave out."""
    density = np.zeros(scans.active.shape)
    for layer, problem, rank, linked in link_densities(scans, tracks, association):
        mean, spread = float(association.level_mean[layer]), np.sqrt(float(association.level_variance[layer]))
        density[:, layer] = stats.norm.logpdf(scans.level[:, layer], mean, spread)
        density[problem, layer, rank] = linked
    later = scans.active[:, 1:]
    return (density[:, 1:] * later).sum((1, 2)) / np.maximum(later.sum((1, 2)), 1)


def judge_causal_links(
    causal: NDArray[np.float64], dealt: NDArray[np.float64], cosine: NDArray[np.float64], seed: int
) -> Verdict:
    """From `predictive` of held-out tokens: of links by causal shares, the same dealt at random, and links by cosine."""
    question = "Do links by causal shares foretell activations, better than random ones?"
    if len(causal) < LEAST_PROBLEMS:
        return Verdict(question, None, f"There were {len(causal)} tokens only, too few to tell.")
    random = np.random.default_rng(seed)
    draws = random.integers(len(causal), size=(500, len(causal)))
    over = {}
    for name, other in (("random", dealt), ("cosine", cosine)):
        gain = causal - other
        over[name] = (float(gain.mean()), *np.percentile(gain[draws].mean(1), [2.5, 97.5]))
    kept = "are more" if over["cosine"][1] > 0 else "are not more: links by cosine stay"
    return Verdict(
        question, bool(over["random"][1] > 0),
        f"Nats a detection of {len(causal)} held-out tokens over random links of the same births and lengths: "
        f"{over['random'][0]:+.3f} [{over['random'][1]:+.3f}, {over['random'][2]:+.3f}]; over links by cosine "
        f"{over['cosine'][0]:+.3f} [{over['cosine'][1]:+.3f}, {over['cosine'][2]:+.3f}], so that they {kept}.",
    )  # fmt: skip


def _percent(flags: NDArray[np.bool_]) -> str:
    """A share with its 95 % interval."""
    if (found := share(flags)) is None:
        return "none"
    return f"{found[0]:.0%} [{found[1]:.0%}, {found[2]:.0%}]"


def _interval(values: Any) -> str:
    return f"[{values[0]:.2f}, {values[1]:.2f}]"
