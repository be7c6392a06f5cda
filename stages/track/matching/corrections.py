"""What an answer says in the end, where it takes back what it said first: `Sydney. No, wait, Canberra` is Canberra."""

import regex

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.words import either

_REJECTED = regex.compile(
    rf"(?<![^.?!…。！？؟\n])[^.?!…。！？؟\n]*+[?？؟]\s*(?={either('no_then')})", regex.I
)
"""A question that is answered with no."""
_BELIEVED = regex.compile(
    rf"(?<![^.?!\n])\s*(?:{either('believed')})\s(?:(?:often|still|might|may|commonly|wrongly|mistakenly)\s)*"
    r"(?:think|thought|believ|assum|say|said|claim|guess|expect)\w*\b[^.?!\n]*?\b(?:but|however)\b,?",
    regex.I,
)
"""What others believe, and the answer then denies."""
_TAKEN_BACK = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}])(?:{either('taken_back')})(?!(?<=\p{{L}})\p{{L}})"
    rf"|(?:\.{{2,}}|…|\s[-–—]+|—)\s*(?:no(?=,)|actually(?=,?(?:\s+[^\s]+){{1,5}}$))|(?<=[\p{{L}}\p{{N}}]),\s(?:{either('no_then')}),\s(?-i:(?=[\p{{Lu}}\p{{N}}]))|(?<=[.!])\s(?:sorry|actually),?(?=(?:\s+[^\s]+){{1,2}}$)",
    regex.I,
)


def corrected(answer: str) -> str:
    """The answer from behind its last correction on, without questions that it answers with no; all of it where nothing follows."""
    answer = _BELIEVED.sub("", _REJECTED.sub("", answer))
    for mark in reversed(list(_TAKEN_BACK.finditer(answer))):
        if normalise(rest := answer[mark.end() :]):
            return rest.lstrip(" ,.:;!–—，。、")
    return answer
