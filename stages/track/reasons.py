"""Where an answer came from, told from its account and from interventions: what wrote the difference to the candidate that
should have won, at which layers, whether that one was ever ahead and what overtook it.

What a layer writes is read with that layer's scale of the final norm. Carried on to the last layer it shrinks by the ratio of
the scales, which the account holds: `carried` is what stood there before, read anew. So all layers' writes add up to the
last layer's difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ghosttrack.common.formats.account import SOURCES, STATE, STEP
from ghosttrack.common.maths.arrays import Bools, Floats

WRITERS = STEP[1:]
LAYERS_LED = 2
LEAST_TOLD = 0.05
"""Share of what speaks for an answer that a second source, or one against it, must have to be named."""
_NAMES = {
    **{f"attention_{source}": f"attention to {words}" for source, words in zip(
        SOURCES, ("the worked examples", "the subject", "the question's other words", "the answer so far", "the position itself"),
        strict=True)},
    "attention_bias": "attention's biases", "mlp": "the MLPs",
}  # fmt: skip


class Written(NamedTuple):
    """What each of WRITERS of each layer gives to a difference of two candidates' logits before a soft cap, at the last
    layer's scale: by_layer [n_layers, len(WRITERS)], NaN where untold; whole: [n_layers], their sum, told or not; start: what entered the first block; constant: of the biases; ahead:
    [n_layers], the difference at each layer, at its own scale."""

    by_layer: Floats
    whole: Floats
    start: float
    constant: float
    ahead: Floats


def written(account: Mapping[str, NDArray[Any]], first: int, second: int) -> Written:
    """What wrote the difference of two candidates' logits at the last layer. account: rows of one position, by layer;
    first, second: ranks."""
    wide = {name: account[name].astype(np.float64) for name in (*STATE, *STEP, "constant", "raw")}
    held = np.sum([wide[name] for name in STATE], axis=0)  # [n_layers, m]
    # How the scale changes from a layer to the next, by least squares over the candidates, which it is the same for.
    ratio = (wide["carried"][1:] * held[:-1]).sum(1) / np.maximum((held[:-1] ** 2).sum(1), 1e-12)
    onward = np.append(np.cumprod(ratio[::-1])[::-1], 1.0)
    steps = np.stack([wide[name][:, first] - wide[name][:, second] for name in WRITERS], axis=1)
    both = wide["raw"] - wide["constant"] - wide["carried"]
    entered = wide["carried"][0, first] - wide["carried"][0, second]
    apart = wide["raw"][:, first] - wide["raw"][:, second]
    return Written(
        steps * onward[:, None],
        (both[:, first] - both[:, second]) * onward,
        float(entered * onward[0]),
        float(wide["constant"][-1, first] - wide["constant"][-1, second]),
        apart,
    )


def shortest_run(gains: Floats) -> tuple[int, int]:
    """First and last place of the shortest run that holds at least half of all gains; all places where there is none. Losses are
    left out: where gains and losses nearly cancel, a single layer has far more than half of what remains."""
    total = np.concatenate([[0.0], np.cumsum(np.maximum(gains, 0.0))])
    for length in range(1, len(gains) + 1):
        sums = total[length:] - total[:-length]
        if total[-1] > 0 and sums.max() >= total[-1] / 2:
            return int(sums.argmax()), int(sums.argmax()) + length - 1
    return 0, len(gains) - 1


def runs(led: Bools) -> list[tuple[int, int]]:
    """First and last place of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], led.astype(np.int8), [0]])))
    return [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]


def reason(
    account: Mapping[str, NDArray[Any]], right: Sequence[int], layers: Sequence[int], texts: Sequence[str]
) -> dict[str, Any]:
    """What REASONS names of one wrong answer, but for the smallest set and the sentence. right: ranks of right candidates;
    texts: of the candidates."""
    against = right[0] if right else 1
    found = written(account, 0, against)
    sums = zip(WRITERS, found.by_layer.sum(0).tolist(), strict=True)
    by_writer = {name: total for name, total in sums if total == total}  # those that are told
    begins, ends = shortest_run(found.whole)
    behind = runs(found.ahead < 0)
    led = [run for run in behind if run[1] - run[0] + 1 >= LAYERS_LED]
    overtaken = None
    if behind and behind[-1][1] + 1 < len(layers):
        at = behind[-1][1] + 1
        told = not np.isnan(found.by_layer[at]).any()
        overtaken = {"layer": layers[at], "by": WRITERS[int(found.by_layer[at].argmax())] if told else None}
    habit = by_writer.get("attention_examples", 0.0)
    own = by_writer.get("attention_subject", 0.0) + by_writer.get("attention_question", 0.0)
    if not right:
        kind = "unknown_subject"
    elif led:
        kind = "recall_override"
    else:
        kind = "prior_default" if habit > max(own, 0.0) else "other"
    return {
        "emitted": texts[0], "against": texts[against], "right": bool(right), "kind": kind,
        "difference": float(found.ahead[-1]), "constant": found.constant,
        "written": {"before": found.start, **by_writer},
        "from_layer": layers[begins], "to_layer": layers[ends],
        "led": [[layers[start], layers[stop]] for start, stop in behind], "overtaken": overtaken,
    }  # fmt: skip


def sentence(found: Mapping[str, Any]) -> str:
    """A reason's figures in a few short sentences."""
    emitted, against = _quoted(found["emitted"]), _quoted(found["against"])
    other = "the right answer" if found["right"] else "its rival"
    after = f"after {_quoted(found['after'])}, " if found.get("after", "").strip() else ""
    beat = (
        "beat"
        if found["difference"] >= 0
        else "was given, though at the last layer that was read it is behind"
    )
    absent = "" if found["right"] else "; no right answer was among the candidates"
    parts = [
        f"{after}{emitted} {beat} {other} {against} by {_logits(abs(found['difference']))} logits{absent}",
        _writers(found["written"]),
    ]
    if overtaken := found["overtaken"]:
        by = _NAMES.get(overtaken["by"], "a block")
        parts.append(f"{emitted} is ahead of {against} from layer {overtaken['layer']} on, put there by {by}")
    elif found["led"]:
        parts.append(f"{other} is ahead at that last layer too")
    else:
        first, last = found["from_layer"], found["to_layer"]
        where = f"at layer {first}" if first == last else f"between layers {first} and {last}"
        parts.append(
            f"{against} is ahead of it at no layer; half of what the layers wrote for {emitted} came {where}"
        )
    if smallest := found.get("smallest_set"):
        tracks = "strongest track" if smallest["size"] == 1 else f"{smallest['size']} strongest tracks"
        parts.append(
            f"without its {tracks} the answer begins with {_quoted(smallest['says'])}, as {'a' if smallest['right'] else 'no'} right "
            f"answer does; {_beside(smallest['control_says'])}"
        )
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _writers(written: Mapping[str, float]) -> str:
    """What spoke most for a difference of logits, and what most against it."""
    told = {_NAMES[name]: value for name, value in written.items() if name in _NAMES}
    least = LEAST_TOLD * sum(value for value in told.values() if value > 0)
    order = sorted(told, key=lambda name: -told[name])
    best = [name for name in order[:2] if told[name] > 0 and (name == order[0] or told[name] >= least)]
    what = " and ".join(f"{name} (+{_logits(told[name])})" for name in best)
    if not what:
        what = "nothing in the blocks" if told else "something in the blocks that cannot be taken apart"
    against = ""
    if told and told[order[-1]] < -least:
        against = f"; against it, {order[-1]} (−{_logits(-told[order[-1]])})"
    return f"what spoke for it was mostly {what}{against}"


def _beside(control_says: str | None) -> str:
    """What a control of the same size does, so that a change that comes of the size alone is not taken for one of the tracks."""
    if control_says is None:
        return "without as much of other latents it stays as it is"
    return f"but without as much of other latents it changes too, to {_quoted(control_says)}"


def _logits(value: float) -> str:
    return f"{value:.{1 if abs(value) >= 0.05 else 3}f}"


def _quoted(text: str) -> str:
    """Tokens without ink by name."""
    if text.strip():
        return f"“{text.strip()}”"
    return "a line break" if "\n" in text else "a space" if text else "the end"
