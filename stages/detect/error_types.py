"""Why an answer may be wrong, told from its candidates and the leaders of its tracks alone: how kinds of wrong answers were told
before there were accounts (`common/formats/reasons.py`), kept to say how far the two agree. Gold answers are used: this
describes, it detects nothing.

The first answer token decides. A candidate is right when a right answer begins with its text.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.maths.text import normalise

_LAYERS_LED = 2


def error_types(
    answers: Sequence[Answer], candidates: Sequence[Sequence[str]], leader: Floats
) -> list[str | None]:
    """The type of each wrong answer, None for others. `recall_override`: a right answer led the competition of the tracks in two
    layers running or more, and lost; `prior_default`: the answer is the one most often given in its relation;
    `unknown_subject`: no right answer is among the candidates; else `other`.

    candidates: texts of the candidates for the first answer token, by question and rank; leader: [n, n_layers] rank of the
    leading candidate at the last prompt token.
    """
    given: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        given[answer.relation][normalise(answer.answer)] += 1

    def kind(row: int, answer: Answer) -> str:
        golds = [normalise(alias) for alias in (answer.aliases or [answer.gold])]
        texts = [normalise(candidate) for candidate in candidates[row]]
        right = [
            rank for rank, text in enumerate(texts) if text and any(gold.startswith(text) for gold in golds)
        ]
        led = np.isin(leader[row], right)
        said, (common, count) = normalise(answer.answer), given[answer.relation].most_common(1)[0]
        if (np.convolve(led, np.ones(_LAYERS_LED), "valid") >= _LAYERS_LED).any():
            return "recall_override"
        if said == common and count > 1:
            return "prior_default"
        return "other" if right else "unknown_subject"

    return [kind(row, answer) if answer.label == 1 else None for row, answer in enumerate(answers)]
