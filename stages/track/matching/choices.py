"""Answers that choose: a lettered option (`A`, `(b)`, `A. Paris`, `The answer is C`), or yes and no."""

import re
import string
from collections.abc import Callable, Sequence

import regex

from ghosttrack.common.maths.text import SPACELESS, compatible, normalise
from ghosttrack.stages.track.matching.alternatives import offers
from ghosttrack.stages.track.matching.mentions import NEGATIONS, SCRIPTS_MEET, denied_before, states
from ghosttrack.stages.track.matching.refusals import refuses
from ghosttrack.stages.track.matching.words import either, words

LETTERS = string.ascii_uppercase
YES, NO = (frozenset(words(kind)) | {*map(normalise, words(kind))} for kind in ("yes", "no"))
_GLUED = sorted((word for word in YES | NO if len(word) > 1 and SPACELESS.match(word)), key=len, reverse=True)
_NO_POLES = frozenset(words("not_alone")) | {*map(normalise, words("not_alone"))}
"""Said for yes or no, but as a right answer they may be something else."""
_SUBJECT = "i|you|he|she|it|we|they|there|this|that|these|those"
_AUXILIARY = "is|are|was|were|do|does|did|can|could|will|would|has|have|had|should|must|may|might"
_YES_SAID = re.compile(rf"(?:{either('yes_said')}|(?:{_SUBJECT}) (?:{_AUXILIARY}))\b(?! not)")
_NO_SAID = re.compile(
    rf"(?:{either('no_said')}|(?:{_SUBJECT}) (?:(?:{_AUXILIARY}) (?:not|never)|(?:{_AUXILIARY}|ca|wo)nt|cannot|never)\b.*)"
)
_SAID = re.compile(r"\b(?:answer|verdict|statement|claim|this|that|it) (?:is|was) (not )?(\w+)")
_BOTH = re.compile(
    r"(?:(?:yes|true)(?: (?:and|or) \w+)? (?:no|false)|(?:no|false)(?: (?:and|or) \w+)? (?:yes|true))|(?:yes|true|no) (?:and|or) \w+"
)
_NO_ONE = re.compile(r"\bno (?:one|doubt|wonder|mention|evidence|proof|reason|indication|sign)\b")
_NEITHER = re.compile(
    r"\bno (?:evidence|proof|reason|indication|sign|mention)\b|\b(?:partly|partially|half|not entirely) (?:true|right|correct|false)\b"
)
_SO = re.compile(r"\b(?:so|therefore|thus|hence) (?:(?:the )?answer is )?(yes|no|true|false)$")
_ALONE = regex.compile(r"[\s()\[\]*\"'“”:]*([A-Za-z])[\s()\[\]*\"'“”.,:!]*")
_LEADING = regex.compile(
    r"[\s*\"'“(\[]*(?i:(?:option|choice|answer)\s)?([A-Za-z])\**(?:[.):\]]+|\s+[-–—:])\s*\**(?=\S)"
)
_NAMED = regex.compile(
    r"(?i:\b(?:(?:answer|option|choice|letter)(?:\s+(?:is|was|would be))?|\bi\s(?:\w+\s)?(?:pick|choose|select)|\b(?:so|therefore|thus|hence),?(?=\s))\s*:?\s*\**[(\[\"'“]?)([A-Z])(?![\p{L}\p{N}+#'’]|-\p{L})"
    r"|[(\[{]([A-Za-z])[)\]}]|(?i:\b(?:option|choice|letter|answer(?:\sis|:)?)\s)([a-z])(?=[.)]?\s*$)(?![\p{L}\p{N}+#'’]|-\p{L})"
)
_ORDINALS = ["first", "second", "third", "fourth", "fifth"]
_COUNTED = re.compile(
    rf"(?:(?:(?!\bnot\b).)*\b(?:is|its|be|choose|pick|select) )?(?:the )?(?:({'|'.join(_ORDINALS)})(?: (?:one|option|choice|answer))?"
    r"|(last)(?: (?:one|option|choice|answer))?|(?:option|choice|answer|number) (\d{1,2})|(\d)(?:st|nd|rd|th)(?: (?:one|option|choice|answer))?)"
)
_LISTED = regex.compile(r"(?<=\s)[(\[]?([A-Z])[.)\]:]\s")
_OF_OPTION = regex.compile(r"\b[A-Z]\b")
_AFTER_IT = regex.compile(
    r",?\s(?:(over|rather than|instead of)|because|since|although|though|whereas)\b[^.!?\n]*", regex.I
)
"""What is said of other options behind one that is named."""
_PREFERS = regex.compile(r"\b(?:choose|pick|prefer|select)\b", regex.I)
_THEREFORE = re.compile(r"[,;.]\s(?:so|therefore|thus|hence)\b,?", re.I)
_WHOLE = re.compile(
    r"(all|both|none)(?: (?:of|three|four|are|is|the|them|these|those|above|options|answers|choices|correct|right|true|apply))*(?: .+ nor .+)?"
)
_LETTERS_TOGETHER = regex.compile(r"(?i:both\s)?([A-J])(?:(?:,\s|,?\sand\s)([A-J]))+(?i:\sonly)?")
_SOME = r"\(?[A-Z]\)?(?:(?:,|,?\s(?:and|or))\s\(?[A-Z]\)?){0,9}(?!\p{L})"
_REJECTED = regex.compile(
    rf"(?<!\p{{L}}){_SOME}\s+(?:is|are|was|were)\s+(?:(?:clearly|definitely|both|all)\s+)?(?:wrong|incorrect|false|not\s(?:right|correct))\b"
    rf"|\b(?i:eliminat|exclud|reject|discard|rul)\w*\s(?:out\s)?{_SOME}"
)
_ONE_LETTER = regex.compile(
    r"(?<![\p{L}\p{N}'’]|\p{L}-)(?![AI]\s+(?!(?:is|and|or|nor|over)\b)\p{Ll})([A-Z])(?![\p{L}\p{N}+#'’]|-\p{L}|\s(?:sharp|plus\splus)\b)"
)


def is_letter(text: str) -> bool:
    """Whether a right answer is the letter of an option."""
    return bool(re.fullmatch(r"\(?[A-J]\)?[.:]?", text.strip()))


def options_said(answer: str, n_options: int | None = None) -> set[str]:
    """Letters of the options that an answer chooses; letters that it denies are left out."""
    answer = SCRIPTS_MEET.sub(" ", compatible(answer))
    if first := _OF_OPTION.search(answer):
        answer = answer[: first.end()] + _AFTER_IT.sub("", answer[first.end() :])
    answer = _REJECTED.sub("", answer)
    if n_options and (place := _counted(answer, n_options)) and place <= n_options:
        return {LETTERS[place - 1]}
    for pattern in (_ALONE, _LEADING):
        match = (pattern.fullmatch if pattern is _ALONE else pattern.match)(answer)
        if match and _exists(match[1], n_options):
            listed = _LISTED.findall(answer, match.end())
            return {match[1].upper(), *(letter for letter in listed if _exists(letter, n_options))}
    for pattern in (_NAMED, _ONE_LETTER):
        found = {
            letter.upper()
            for match in pattern.finditer(answer)
            if _exists(letter := next(filter(None, match.groups())), n_options)
            and not denied_before(answer[: match.start()])
        }
        if found:
            return found
    return set()


def _counted(answer: str, n_options: int) -> int | None:
    """The place of an option that is named by its number: `the second one`, `option 2`."""
    if match := _COUNTED.fullmatch(normalise(answer)):
        if match[2]:
            return n_options
        number = match[3] or match[4]
        return int(number) if number else _ORDINALS.index(match[1]) + 1
    return None


def chooses(
    answer: str, gold: str, choices: Sequence[str] = (), states: Callable[[str, str], bool] = states
) -> bool:
    """Whether the answer chooses the option that `gold` names, by its letter or by its text, and no other.

    gold: a letter, one of the choices, or both (`A. Paris`). states: whether an answer states an option's text.
    """
    wanted, text = _wanted(gold, choices)
    groups = {} if offers(answer) else _groups(choices)
    said = options_said(answer, len(choices) or None)
    whole = _WHOLE.fullmatch(normalise(answer).replace("neither", "none"))
    if together := groups.get(whole[1] if whole else frozenset(said)):
        said = {together}
    body = _LEADING.sub("", compatible(answer), count=1) if _LEADING.match(answer) else answer
    if said:
        others = [choice for choice in choices if choice != text and normalise(choice) == normalise(body)]
        return said == {wanted} and not others if wanted else bool(text) and states(answer, text or "")
    if text is None:
        return False
    after = _AFTER_IT.search(answer)
    if after and (not after[1] or _PREFERS.search(answer, endpos=after.start())):
        answer = body = _AFTER_IT.sub("", answer)
    reasons = _THEREFORE.split(answer)
    if any(states(reasons[-1], choice) for choice in choices):
        answer = body = reasons[-1]
    if normalise(body) in map(normalise, choices):
        return normalise(body) == normalise(text)
    rivals = [choice for choice in choices if choice != text and states(answer, choice)]
    if together := groups.get(frozenset(LETTERS[choices.index(rival)] for rival in rivals)):
        return together == wanted
    return states(answer, text) and all(normalise(rival) in normalise(text) for rival in rivals)


def _groups(choices: Sequence[str]) -> dict[frozenset[str] | str, str]:
    """The letter of each option that stands for others, by their letters or by its first word: `both A and C`,
    `both red and blue`, `all of the above`."""
    result: dict[frozenset[str] | str, str] = {}
    for place, choice in enumerate(choices):
        first = normalise(choice).replace("neither", "none").partition(" ")[0]
        if match := _LETTERS_TOGETHER.fullmatch(choice.strip()):
            result[frozenset(match.captures(1) + match.captures(2))] = LETTERS[place]
        elif first in ("all", "both") and place > 1 and _WHOLE.fullmatch(normalise(choice)):
            result[frozenset(LETTERS[:place])] = LETTERS[place]
        elif first == "both" and (
            others := [one for one in choices if one != choice and states(choice, one)]
        ):
            result[frozenset(LETTERS[choices.index(one)] for one in others)] = LETTERS[place]
        result.setdefault(first, LETTERS[place])
    return result


def _wanted(gold: str, choices: Sequence[str]) -> tuple[str | None, str | None]:
    """Letter and text of the right option, each None where it is not known."""
    keys = [normalise(choice) for choice in choices]
    if (key := normalise(gold)) in keys:
        place = keys.index(key)
        return LETTERS[place], choices[place]
    if is_letter(gold.upper() if choices else gold):
        letter = next(c for c in gold.upper() if c.isalpha())
        place = LETTERS.index(letter)
        return letter, choices[place] if place < len(choices) else None
    if match := _LEADING.match(gold):
        return match[1].upper(), gold[match.end() :]
    return None, gold


def _exists(letter: str, n_options: int | None) -> bool:
    return LETTERS.index(letter.upper()) < (n_options or 10)


def pole(text: str) -> bool | None:
    """True where a text is `yes` or `true` and nothing else, False for `no` and `false`, None for others."""
    word = text.strip().rstrip(".!").casefold()
    return word in YES if word in (YES | NO) - _NO_POLES else None


def restated(answer: str, question: str) -> str:
    """`yes` of an answer that says what was asked, `no` of one that denies it: `Sam doesn't live in Lima`; others as they are."""
    asked = _content(question.rpartition("Q: ")[2].strip().rpartition("\n")[2])
    said = _content(re.split(r"[.;]\s", answer, maxsplit=1)[0])
    rest = [word for word in said if word not in NEGATIONS and word != asked[0]] if asked else []
    if len(rest) < 2 or rest != [word for word in asked[1:] if word != asked[0]]:
        return answer
    return "no" if NEGATIONS.intersection(said) else "yes"


def _content(text: str) -> list[str]:
    return [
        word if word in NEGATIONS else word.rstrip("s")
        for word in normalise(text).split()
        if word not in ("the", "a", "an")
    ]


def verdict(answer: str) -> bool | None:
    """Whether an answer says yes (True) or no (False); None where it says neither or both."""
    said = normalise(answer[answer.rfind("?") + 1 :]) or normalise(answer)
    if not said or refuses(answer) or _BOTH.fullmatch(said):
        return None
    if said in ("t", "f", "y", "n"):
        return said in ("t", "y")
    words = _NO_ONE.sub("", said).split()
    if words and words[0] in YES | NO:
        return words[0] in YES and words[1:2] != ["not"]
    if so := _SO.search(said):
        return so[1] in YES
    if (last := normalise(re.split(r"[.!]\s", answer.strip())[-1])) in YES | NO:
        return last in YES
    if _NEITHER.search(said):
        return None
    named = _SAID.search(said)
    if named and named[2] in YES | NO:
        return (named[2] in YES) != bool(named[1])
    found = set()
    last_but = len(words) - words[::-1].index("but") if "but" in words else 0
    for place, word in enumerate(words):
        if word in YES | NO:
            turned = word != "no" and any(
                before in NEGATIONS - {"no", "wrong", "incorrect"}
                for before in words[max(place - 3, last_but, 0) : place]
            )
            found.add((word in YES) != turned)
    if len(found) == 1:
        return found.pop()
    opening = normalise(re.split(r"[.;,!]\s", answer, maxsplit=1)[0])  # `Of course not; whales are mammals`
    for text in (said, opening) if not found else ():
        if (no := _NO_SAID.fullmatch(text)) or _YES_SAID.fullmatch(text):
            return not no
    return next((word in YES for word in _GLUED if answer.strip().startswith(word)), None)
