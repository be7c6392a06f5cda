"""Answers that do not decide: `Paris or Lyon` is right only where both are, as `Bombay or Mumbai` may be."""

from collections.abc import Callable

import regex

from ghosttrack.stages.track.matching.quantities import quantities, spell_out
from ghosttrack.stages.track.matching.words import either

_OR, _PERHAPS, _SPACELESS = either("or"), either("perhaps"), r"[\p{Han}\p{Katakana}ー\p{Thai}]"
_BETWEEN = regex.compile(
    rf"(?<=[\p{{L}}\p{{M}}\p{{N}}\p{{P}}]),?\s+(?:{_OR})\s+|(?<={_SPACELESS})(?:{_OR})(?={_SPACELESS})"
    rf"|(?<=\b(?:{_PERHAPS})\s[^,;.!?\n]{{1,40}}),\s+(?=(?:{_PERHAPS})\s)"
    rf"|(?<=(?<!\p{{L}})(?-i:\p{{Lu}})[\p{{L}}.’'-]*)(?<!^\W*(?:well|h?u?m+|oh|so|ok(?:ay)?)),\s+(?=(?:{_PERHAPS})\s+(?-i:\p{{Lu}}))"
    rf"|(?<=\p{{N}}),\s+(?=(?:{_PERHAPS})\s+\p{{N}})"
    r"|(?<=(?-i:\p{Lu})[\p{L}.’'-]*)\s+/\s+(?=(?-i:\p{Lu}))",
    regex.I,
)
_LISTED = regex.compile(rf",\s+(?=(?:[^,;.!?\n]{{1,30}},\s+){{1,5}}(?:{_OR})\s)", regex.I)
"""`Paris, Lyon, or Nice`."""
_ENDS = regex.compile(r"\.(?=\s|$)|[;!?。！？؟\n()]|,\s|，|\bbut\b|\bthough\b|$")
_LEADS = regex.compile(rf"^(?:(?:{_PERHAPS}|{either('leads')})\s+)+", regex.I)
_SAME_THING = regex.compile(rf"^(?:{either('not_other')})\b", regex.I)
_MOST_WORDS = 4


def offers(text: str) -> bool:
    """Whether a text names alternatives."""
    return bool(_BETWEEN.search(text))


def decided(answer: str, right: Callable[[str], bool]) -> str:
    """The answer without the alternatives that it offers where one of them is right and the other is not."""
    answer = _LISTED.sub(" or ", answer)
    for match in reversed(list(_BETWEEN.finditer(answer))):
        start = max((end.end() for end in _ENDS.finditer(answer, 0, match.start()) if end[0]), default=0)
        stop = _ENDS.search(answer, match.end()).start()
        one, other = answer[start : match.start()], _LEADS.sub("", answer[match.end() : stop].strip())
        if _are_rivals(one, other) and right(one) != right(other):
            answer = answer[:start] + answer[stop:]
    return answer


def _are_rivals(one: str, other: str) -> bool:
    if not one.split() or not other or _SAME_THING.match(other) or len(other.split()) > _MOST_WORDS:
        return False
    numbers, others = quantities(spell_out(one)), quantities(spell_out(other))
    if numbers and others:
        last, first = numbers[-1], others[0]
        units = last.stated and first.stated and last.value / last.stated != first.value / first.stated
        return not (units and last.dimension == first.dimension)  # 5 km or 3.1 miles
    last_word = one.split()[-1].strip("\"'“”*")
    short = len(one.split()) <= _MOST_WORDS
    return bool(last_word) and (last_word[0].isupper() == other.strip("\"'“”*")[0].isupper() or short)
