"""What an answer says in the end, where it takes back what it said first: `Sydney. No, wait, Canberra` is Canberra."""

import regex

from ghosttrack.common.maths.text import normalise
from ghosttrack.stages.track.matching.refusals import refuses
from ghosttrack.stages.track.matching.words import either, table

_REJECTED = regex.compile(
    rf"(?<![^.?!…。！？؟\n])[^.?!…。！？؟\n]*+[?？؟]\s*(?={either('no_then')})", regex.I
)
"""A question that is answered with no."""
_SENTENCE, _BEGINS = r"[^.?!。！？\n]", r"(?<=(?:^|[.?!。！？\n])\s{0,3})"
_OTHERS = either("believed").replace("…", _SENTENCE + "{0,120}?").replace(r"\A", _BEGINS)
_BELIEVED = regex.compile(rf"{_BEGINS}{_SENTENCE}{{0,60}}?(?:{_OTHERS}),?", regex.I)
"""What others believe, or the answer grants, before it says something else."""
_REASON = regex.compile(
    r"^(\W*[\p{Lu}\p{N}]\S*(?: (?:\p{Lu}\S*|of|the)){0,3}), (?:because|since|(?:even )?though|although|whereas)\b(?! of\b).*",
    regex.S,
)
"""Of a name: `Rome, because Milan is smaller`."""
_KIN, _NAMED = table("names")["kin"].replace(" ", "|"), r"(?<!\p{L})\p{Lu}[\p{L}\p{M}.]*"
_RELATIVE = regex.compile(
    rf"{_NAMED}(?:\s{_NAMED}){{0,3}}['’]s\s(?:{_KIN}),?\s(?=\p{{Lu}})|(?<={_NAMED}),\s(?:(?:an?|the)\s)?(?:{_KIN})\sof\s{_NAMED}(?:\s{_NAMED}){{0,3}}"
)
"""Who only tells whom an answer means: `Abel's brother Cain`, `Plato, a student of Socrates`."""
_TAKEN_BACK = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}])(?:{either('taken_back')})(?!(?<=\p{{L}})\p{{L}})"
    rf"|(?:\.{{2,}}|…|\s[-–—]+|—)\s*(?:no(?=,)|actually(?=,?(?:\s+[^\s]+){{1,5}}$))|(?<=[\p{{L}}\p{{N}}]),\s(?:{either('no_then')}),\s(?-i:(?=[\p{{Lu}}\p{{N}}]))|(?<=[.!])\s(?:sorry|actually|no(?=,)),?(?=(?:\s+[^\s]+){{1,2}}$)",
    regex.I,
)


def corrected(answer: str) -> str:
    """The answer from behind its last correction on, without questions that it answers with no; all of it where nothing follows."""
    answer = _RELATIVE.sub("", _REASON.sub(r"\1", _REJECTED.sub("", answer)))
    if (rest := _BELIEVED.sub("", answer)).strip() and not refuses(rest):
        answer = rest
    for mark in reversed(list(_TAKEN_BACK.finditer(answer))):
        if normalise(rest := answer[mark.end() :]):
            return rest.lstrip(" ,.:;!–—，。、")
    return answer
