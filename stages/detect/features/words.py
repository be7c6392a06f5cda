"""What the texts alone say: the surface of question and answer, without the model's inside."""

import re
from collections.abc import Sequence

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.detect.evidence import AnsweredQuestion, FeatureTable, from_columns

_NEGATIONS = {"not", "no", "never", "none", "cannot", "nobody", "nothing"}
_HEDGES = {"may", "might", "perhaps", "possibly", "probably", "likely", "some", "about", "generally", "often"}


def surface_features(asked: Sequence[AnsweredQuestion]) -> FeatureTable:
    """Lengths, digits, capitals, negations, hedges, and whether the answer repeats the question or a worked example."""
    said = [item.said.split() for item in asked]
    question = [normalise(item.question).split() for item in asked]
    return from_columns({
        "text.answer_words": [len(words) for words in said],
        "text.answer_characters": [len(item.answer) for item in asked],
        "text.answer_digits": [sum(c.isdigit() for c in item.answer) for item in asked],
        "text.answer_capitals": [sum(c.isupper() for c in item.answer) for item in asked],
        "text.answer_punctuation": [len(re.findall(r"[^\w\s]", item.answer)) for item in asked],
        "text.answer_foreign": [sum(ord(c) > 127 for c in item.answer) for item in asked],
        "text.answer_negates": [float(any(w in _NEGATIONS for w in words)) for words in said],
        "text.answer_hedges": [float(any(w in _HEDGES for w in words)) for words in said],
        "text.answer_repeats_words": [len(words) - len(set(words)) for words in said],
        "text.answer_in_question": [
            float(any(w in q for w in words)) for words, q in zip(said, question, strict=True)
        ],
        "text.answer_is_subject": [float(item.said == normalise(item.subject)) for item in asked],
        "text.answer_in_examples": [
            float(bool(item.said) and f" {item.said} " in f" {normalise(item.prefix)} ") for item in asked
        ],
        "text.question_words": [len(words) for words in question],
        "text.question_characters": [len(item.question) for item in asked],
        "text.subject_words": [len(item.subject.split()) for item in asked],
        "text.subject_characters": [len(item.subject) for item in asked],
        "text.subject_foreign": [sum(ord(c) > 127 for c in item.subject) for item in asked],
        "text.subject_digits": [sum(c.isdigit() for c in item.subject) for item in asked],
    })  # fmt: skip
