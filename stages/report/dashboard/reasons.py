"""What speaks for and against an answer, in words: the parts of an additive model's log-odds, as detect publishes them."""

from collections.abc import Mapping
from typing import Any

SIGNALS = {
    "tracks": "tracks",
    "competition": "competition of answers",
    "logits": "token probabilities",
    "lens": "logit lens",
    "probe": "hidden states",
    "latents": "SAE latents",
    "error": "SAE error",
    "habits": "habits of the model",
    "text": "text",
    "samples": "other sampled answers",
    "contexts": "other contexts",
}
PLACES = {
    "subject": "at the end of the subject",
    "prompt": "at the last prompt token",
    "first": "at the first answer token",
    "last": "at the last answer token",
}
PARTS = {"early": "in the early layers", "middle": "in the middle layers", "late": "in the late layers"}

COLUMNS = {
    "tracks.score": "how its tracks are born, last, compete and die, every measure weighed together",
    "competition.score": "which candidate answers its tracks push, layer by layer, weighed together",
    "lens.score": "when the answer comes up along the layers and how steadily, weighed together",
    "error.score": "how much of the hidden states the SAEs cannot rebuild, all layers together",
    "latents.score": "which SAE latents are active at the last answer token",
    **{f"probe.{place}.mean": f"what is read from them {where}, mean over the layers" for place, where in PLACES.items()},
    "probe.best": "what is read from them at the one place and layer that told most in training",
    "probe.ensemble": "what is read from them at all places and layers together",
    "habits.relation_wrong": "how often it is wrong on questions of this relation",
    "habits.answer_wrong": "how often this answer of its is wrong, whatever was asked",
    "habits.answer_wrong_in_relation": "how often this answer of its is wrong on questions of this relation",
    "habits.answer_share": "how often it gives this answer to questions of this relation",
    "habits.surprise": "how much likelier this subject makes the answer than other subjects of the relation do",
    "habits.prior_rank": "how many other candidates it favours over this answer whatever the subject",
    "habits.subject_lead": "how far this subject favours the answer over the candidate that it favours next",
    "logits.score": "all measures of them weighed together",
    "logits.first_logprob": "how likely the first token of the answer was",
    "logits.min_logprob": "how likely the least likely token of the answer was",
    "logits.mean_logprob": "how likely the tokens of the answer were on average",
    "logits.sum_logprob": "how likely the answer was as a whole",
    "logits.improbability": "how improbable the answer was",
    "logits.last_logprob": "how likely the last token of the answer was",
    "logits.first_entropy": "how undecided the model was at the first token",
    "logits.max_entropy": "how undecided the model was at its most undecided token",
    "logits.mean_entropy": "how undecided the model was on average",
    "logits.tokens": "how many tokens the answer has",
    "logits.lead": "how far the likeliest first token led the second",
    "logits.second_lead": "how far the second first token led the third",
    "logits.candidate_mass": "how much of the probability the likeliest first tokens had together",
    "logits.candidate_entropy": "how evenly the likeliest first tokens shared it",
    "samples.score": "all measures of them weighed together",
    "samples.semantic_entropy": "how much the answers differ when it is asked again",
    "samples.agreement": "how many of them are the answer that it gave",
    "contexts.anchor": "how unlikely the answer is where the question follows other worked examples",
    "contexts.anchor_logarithms": "how unlikely the answer is there on average",
    "contexts.anchor_unshown": "how unlikely the answer is after worked examples that do not show it",
    "contexts.worst": "how unlikely the answer is where it is unlikeliest",
    "contexts.spread": "how much its probability differs between worked examples",
    "contexts.inflation": "how much likelier its own prompt makes the answer than the others do",
    "contexts.shown": "how many of the other worked examples show the answer",
    "contexts.agreement": "after how many of the other worked examples the model says the same",
    "contexts.hypotheses": "how many different answers it gives after them",
    "contexts.standing": "the answer's share among all answers given after them",
    "contexts.entropy": "how undecided the model is between these answers",
    "contexts.disagreement": "how far the worked examples disagree about these answers",
    "contexts.churn": "how much these answers' shares change from one set of worked examples to the next",
    "text.score": "how question and answer look, every measure weighed together",
    "text.answer_words": "how many words the answer has",
    "text.answer_characters": "how many characters the answer has",
    "text.answer_digits": "how many digits the answer has",
    "text.answer_capitals": "how many capital letters the answer has",
    "text.answer_punctuation": "how many punctuation marks the answer has",
    "text.answer_foreign": "how many letters beyond plain English ones the answer has",
    "text.answer_negates": "whether the answer says no, not or never",
    "text.answer_hedges": "whether the answer hedges, such as by perhaps or about",
    "text.answer_repeats_words": "how many words the answer repeats",
    "text.answer_in_question": "whether a word of the answer stands in the question",
    "text.answer_is_subject": "whether the answer is the subject itself",
    "text.answer_in_examples": "whether the answer stands in the worked examples",
    "text.question_words": "how many words the question has",
    "text.question_characters": "how many characters the question has",
    "text.subject_words": "how many words the subject has",
    "text.subject_characters": "how many characters the subject has",
    "text.subject_foreign": "how many letters beyond plain English ones the subject has",
    "text.subject_digits": "how many digits the subject has",
}  # fmt: skip
"""What each column that detect weighs is."""


def words(column: str) -> str:
    """`logits.min_logprob` → `token probabilities: how likely the least likely token of the answer was`.

    A name that no column has is taken apart: `tracks.last.churn.births.late` → `tracks: churn, births in the late layers at
    the last answer token`.
    """
    signal, *parts = column.split(".")
    return f"{SIGNALS.get(signal, signal)}: {COLUMNS.get(column) or _taken_apart(parts)}"


def _taken_apart(parts: list[str]) -> str:
    places = [PLACES[part] for part in parts if part in PLACES]
    layers = [f"in layer {part}" for part in parts if part.isdigit()]
    rest = [part for part in parts if part not in PLACES and part not in PARTS and not part.isdigit()]
    what = ", ".join(part.replace("_", " ") for part in rest)
    return " ".join(filter(None, [what, *(PARTS[part] for part in parts if part in PARTS), *layers, *places]))


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
