"""What speaks for and against an answer, in words: the parts of an additive model's log-odds, as detect publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNALS = {
    "tracks": "tracks",
    "logits": "token probabilities",
    "lens": "logit lens",
    "probe": "hidden states",
    "latents": "SAE features",
    "habits": "how often the model says this",
    "text": "text",
    "samples": "other sampled answers",
    "competition": "competition of answers",
}
PLACES = {
    "subject": "at the end of the subject",
    "prompt": "at the last prompt token",
    "first": "at the first answer token",
    "last": "at the last answer token",
}
PARTS = {
    "early": "in the early layers",
    "middle": "in the middle layers",
    "late": "in the late layers",
    "score": "all of it together",
    "trees": "its combinations",
}


def words(feature: str) -> str:
    """`tracks.last.churn.births.late` → `tracks: churn, births in the late layers at the last answer token`."""
    signal, *parts = feature.split(".")
    places = [PLACES[part] for part in parts if part in PLACES]
    layers = [f"in layer {part}" for part in parts if part.isdigit()]
    rest = [part for part in parts if part not in PLACES and part not in PARTS and not part.isdigit()]
    what = ", ".join(part.replace("_", " ") for part in rest)
    where = [PARTS[part] for part in parts if part in PARTS] + layers + places
    return f"{SIGNALS.get(signal, signal)}: {' '.join(filter(None, [what, *where]))}"


def explanation(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a record of hallucination_scores.json: its contributions in words, largest first, with what they add up to.

    None where the record has none.
    """
    parts = record.get("contributions")
    if not parts:
        return None
    ordered = sorted(parts.items(), key=lambda item: -abs(item[1]))
    return {
        "parts": [{"feature": name, "contribution": value, "words": words(name)} for name, value in ordered],
        **{key: record.get(key) for key in ("rest", "intercept", "additive_log_odds", "nearest_right")},
    }
