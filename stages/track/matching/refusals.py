"""Answers that say that they do not answer, which are neither right nor wrong nor a no."""

import re

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.words import either, table, words

_MEANWHILE = "the|that|this|these|what|who|when|where|which|how|if|about|on|with|to|for|from|in|at|enough|any|information|an?|your|you|it|of"
_ELSEWHERE = "|".join(word for code in table("languages") if code != "en" for word in words("unknown", code))
_REFUSAL = re.compile(
    "unknown|not known|none|null|nan|na|n/a|n a|not available|(?:there is )?no answer(?: available| given| to (?:this|that|the question))?|unanswerable|no comment|idk|dunno"
    rf"|(?:(?:{either('sorry')}) )?(?:but )?"
    rf"(?:(?:{'|'.join(words('unknown', 'en'))})(?: (?:whether|{_MEANWHILE})\b.*)?|{_ELSEWHERE})"
)
"""Of a normalised answer: it says that it does not answer, and nothing else."""


def refuses(answer: str) -> bool:
    """Whether an answer says that it does not answer, and nothing else."""
    return bool(_REFUSAL.fullmatch(normalise(answer)))
