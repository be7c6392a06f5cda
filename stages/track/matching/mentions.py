"""Does an answer state a name? As whole words (as a part, in scripts without spaces), where it is not denied.

`Guinea` is not in `Guinea-Bissau`, nor `C` in `C++`; `Newton` is in `Newton's laws`, `서울` in `서울입니다`. `Paris` is not stated
by `not Paris`, but is by `Paris, not London` and by `not London but Paris`.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import regex

from ghosttrack.common.maths.text import SPACELESS, compatible, normalise, pointed_alike
from ghosttrack.stages.track.matching.han import simplified
from ghosttrack.stages.track.matching.words import either, items, table, words

_JOINED, _POSSESSED, _NOUN = "\ue000", "\ue001", "\ue002"  # private-use characters, which no answer means
_INITIAL = regex.compile(r"(?<!\p{L})\p{Lu}\.(?=\s(?:\p{Lu}|\p{L}{3}))")
_ALL_DENIED = regex.compile(
    r"(?<=\b(?:[Nn]ot|[Nn]either|[Nn]ever)\s[^;:.!?\n]{1,60}),(?=(?:\s\p{Lu}[^,;:.!?\n]{0,20},)*\s\p{Lu}[^,;:.!?\n]{0,20},?\sn?or\s)"
)
"""`not Paris, London or Rome`."""
_NO_OTHER = regex.compile(r"\b(?:no(?:ne|thing|body)?|not any) other(?: \p{L}+)? than\b", regex.I)
_NEITHER = regex.compile(rf"\b({either('neither')})\s([^.;!?\n]{{1,40}}?),?\s\1\s", regex.I)
_COMPOUND = regex.compile(r"(?<=\p{L})[-‐‑–](?=\p{Lu}\p{Ll})")
_POSSESSIVE = regex.compile(r"(?<=\p{L})['’`ʼ]s(?!\p{L})")
_CLAUSE = regex.compile(
    rf"[,;:!?\n()…—。、，！？；：（）।؟،]+(?!\d|\s(?:{'|'.join(table('names')['that'].split())})\b|\s?(?:incorrect|wrong|false)\W*$)"
    r"|(?<=[\p{L}\p{N}]{3})\.(?=\s|$)|(?<=\bno)\.(?=\s+\p{L})|\s[-–]+\s|(?<!\b(?:everything|everyone|anything|anyone|anywhere|all) )\bbut\b|\b(?:"
    + either("but")
    + r")\b|\.(?=\s+(?:It|So|The|This|That|Then|Thus|Hence|Therefore)\b)",
    regex.I,
)
SCRIPTS_MEET = regex.compile(
    rf"(?<=[\p{{Latin}}\d])(?={SPACELESS.pattern}|\p{{Hangul}})|(?<={SPACELESS.pattern}|\p{{Hangul}})(?=[\p{{Latin}}\d])"
)
"""Between letters of two scripts, of which one has no spaces: Paris|です, 选|B."""
_HAN = regex.compile(r"\p{Han}")
_KATAKANA = regex.compile(r"[\p{Katakana}ー]")
_ALL_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}ー]+")
_KATAKANA_OF = {code: code + 0x60 for code in range(0x3041, 0x3097)}
_OPERATOR = r"[\p{Sm}\p{Sc}\p{So}&-]"
_SKIN = regex.compile("[\U0001f3fb-\U0001f3ff]")
_HANGUL = regex.compile(r"\p{Hangul}$")
_PARTICLES = regex.compile(
    "(?:은|는|이|가|을|를|의|에|에서|으로|로|와|과|도|만|요|이요|이다|다|입니다|예요|이에요|이라고|라고|이며|이고|였다|이었다|였습니다|이었습니다|시|특별시|광역시)"
)
_NAMES = table("names")
NEGATIONS = frozenset(map(normalise, words("not")))
_PHRASES = tuple(phrase.split() for phrase in _NAMES["denials"])
_NOBODY = frozenset(_NAMES["nobody"].split())
_AFFIRMED = frozenset(_NAMES["affirming"].split())
_DENIED_AFTER = regex.compile(
    rf"^\s*(?:{either('denied_after')})(?!\s(?:{'|'.join(_AFFIRMED)}|far|to be|excluded|ruled out|unlikely)\b)"
)
_BESIDE = regex.compile(
    rf"(?:^|\s)(?:{either('beside')})\s(?:(?:the\s)?(?:city|town|village|capital)\s(?:of\s)?)?(?:the\s)?$"
)
_KIN = _NAMES["kin"].split()
_KIN_OF = regex.compile(
    rf"(?:(?:the|an?|his|her|their|(?:young|old|eld)(?:er|est)|first|second|late)\s){{0,2}}(?:{'|'.join(_KIN)})\sof(?:\sthe)?"
)
_DENIED_BEFORE = regex.compile(f"(?:{either('not_apart')})$")
_PREFIXES = [regex.compile(one["prefixes"]) for one in table("languages").values() if "prefixes" in one]
_ENDINGS = [
    (ending, frozenset(map(normalise, others.split())))
    for one in table("languages").values()
    for ending, others in one.get("endings", {}).items()
]
_VOWELS = "аеёиоуыэюяйь"
_OTHER_THINGS = frozenset(_NAMES["other_things"].split())
_SPELLINGS = [(regex.compile(british), american) for british, american in _NAMES["spellings"].items()]
_OTHER_PLACES = {first: frozenset(second.split()) for first, second in _NAMES["other_places"].items()}
_OTHER_CITIES = frozenset(_NAMES["other_cities"].split())
_ABBREVIATED: dict[str, str] = _NAMES["abbreviations"]
_WEEKDAY = re.compile(r"(?:sun|mon|tues|wednes|thurs|fri|satur)days?")
_COMMON_NOUN = regex.compile(r"(?<!\p{L})(?!news)\p{Ll}{2,}(?!\p{L})")
_PLURALS = [
    (re.compile(plural), end) for plural, ends in _NAMES["plurals"].items() for end in ends.split() or [""]
]
_IRREGULAR: dict[str, str] = _NAMES["irregular_plurals"]
_ASKED_BACK = regex.compile(
    r",?\s*(?<![\p{L}])(?:(?:is|was|are|were|does|did|do)n['’]?t (?:it|he|she|they|that|this)\b(?=\s*\?)"
    r"|why not\b(?=[^.?!]*\?)|(?:is|was|are|were)n['’]?t (?:it|he|she|that|this)\b(?=[^.?!]*\?))",
    regex.I,
)
"""`Paris, isn't it?` and `Isn't it Paris?` say Paris."""
_TURKISH = "[dt][aeıiuü]r|[dt][ae]n?|[yn]?[ıiuüae]|n?[ıiuü]n"
_LOOSE: tuple[tuple[regex.Pattern[str], str | Callable[[regex.Match[str]], str]], ...] = (
    (regex.compile(r"(?<=\p{L})[-‐‑−](?=[\p{L}\p{N}])|(?<=\p{N})[-‐‑−](?=\p{L})"), ""),
    (regex.compile(r"(?<=(?<!\p{L})\p{Lu}) (?=\p{Lu}(?!\p{L}))"), ""),
    (regex.compile(r"(?<!\p{L})(?:[ldjmnst]|qu)['’](?=\p{L}{2})", regex.I), ""),
    (regex.compile(rf"(?<=\p{{L}})['’](?:{_TURKISH})(?!\p{{L}})"), ""),
    (regex.compile(r"(?<=\b[ACFJ])[ -]sharp\b", regex.I), "#"),
    (regex.compile(r"(?<=\bC) plus[ -]plus\b", regex.I), "++"),
    (regex.compile(r"(?<=\w): (?=\w)"), " "),
    (regex.compile(r"(?<=\d) to (?=\d)"), ":"),
    (regex.compile(r"(?<=(?<!\p{L})\p{Lu}{1,3}) (?=\d)"), ""),
    (regex.compile("[أإآ]|ة(?!\\w)|ى(?!\\w)"), lambda match: {"ة": "ه", "ى": "ي"}.get(match[0], "ا")),
    (
        regex.compile("[äöüøå]", regex.I),
        lambda match: {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"}[match[0].lower()],
    ),
)
"""Looser spellings, where the strict one is not there: Spiderman, l'Espagne, Ankara'da, C sharp, BA 117, القاهره, Koeln."""
_REACH = 7
"""Words between a negation and what it denies, at most."""
_COMMON_WORDS = frozenset(_NAMES["common"].split())
_CASED = frozenset(_NAMES["cased"].split())


class _Words(NamedTuple):
    """Words in order with all their spellings (a possessive's owner, a common noun's singular, Saint for St.), the clause each
    is in, and whether it is joined to the next by a hyphen."""

    words: list[str]
    spellings: list[frozenset[str]]
    clause: list[int]
    joined: list[bool]


def states(answer: str, name: str) -> bool:
    """Whether the answer states the name and does not deny it, at least once."""
    answer, name = (_SKIN.sub("", text) for text in pointed_alike(answer, name))
    key = normalise(name)
    if not key:
        return bool(name.strip()) and name.strip() in answer
    if regex.fullmatch(r"[\p{Sm}&]+", sign := compatible(name).strip()):
        return bool(regex.search(rf"(?<!{_OPERATOR}){regex.escape(sign)}(?!{_OPERATOR})", compatible(answer)))
    if SPACELESS.search(key):
        if _kana(normalise(answer)) == _kana(key):
            return True
        answer, key = simplified(answer), simplified(key)
        pieces = [answer] if _CLAUSE.search(name) else _CLAUSE.split(answer)
        return any(_states_part(piece, key) for piece in pieces if piece)
    common = name[0].isupper() | (name[0] == ".") and len(name) <= 3 and key in _COMMON_WORDS
    if name in _CASED or (common and normalise(answer) != key):
        return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", compatible(answer)))
    if (
        len(key) > (2 if _HANGUL.search(key) else 5)
        and key.replace(" ", "") == normalise(answer).replace(" ", "")
        and key.replace(" ", "").isalpha()
    ):
        return True
    answer = without_longer(answer, name)
    answer, name = (SCRIPTS_MEET.sub(" ", text) for text in (_ASKED_BACK.sub("", answer), name))
    if _states_words(answer, name):
        return True
    for pattern, plain in _LOOSE:
        loose, wanted = pattern.sub(plain, answer), pattern.sub(plain, name)
        if (loose, wanted) != (answer, name) and _states_words(loose, wanted):
            return True
    return False


def without_longer(answer: str, name: str) -> str:
    """The answer without longer names that hold this one's and are another's: `John Quincy Adams` for John Adams."""
    for longer in items(_NAMES["longer"].get(normalise(name), "")):
        if not regex.fullmatch(longer, name, regex.I):
            answer = regex.sub(rf"(?<!\w){longer}(?!\w)", " ", answer, flags=regex.I)
    return answer


def _kana(key: str) -> str:
    """A text in kana as katakana: とうきょう is トウキョウ."""
    said = key.removesuffix("です")
    return said.translate(_KATAKANA_OF) if _ALL_KANA.fullmatch(said) else key


def _states_words(answer: str, name: str) -> bool:
    said, wanted = _words(answer, sentence=True), _words(name).spellings
    return any(not denied(said.spellings, said.clause, place) for place in _places(said, wanted))


def denied(words: Sequence[frozenset[str]], clause: Sequence[int], place: int) -> bool:
    """Whether a negation of the same clause stands before the word at a place."""
    for back in range(place - 1, max(place - 1 - _REACH, -1), -1):
        if clause[back] != clause[place]:
            break
        after = words[back + 1] if back + 1 < len(words) else frozenset()
        affirmed = any(word & _AFFIRMED for word in words[back + 1 : min(back + 3, place)])
        if words[back] & NEGATIONS and not affirmed:
            numero = "no" in words[back] and back + 1 == place and any(w[0].isdecimal() for w in words[place])
            return not numero
        if any(one in words[back] and other in after for one, other in _PHRASES):
            twice = range(bisect_left(clause, clause[place]), back)  # nothing other than, not anything but
            return not any(
                words[first] & NEGATIONS or (first == back - 1 and words[first] & _NOBODY) for first in twice
            )
    return False


def denied_before(text: str, what: str = "\ue003") -> bool:
    """Whether the text ends in a clause that denies what comes next. what: a stand-in for it, of its kind."""
    text = text[-200:].rstrip()  # more than a negation reaches
    if _DENIED_BEFORE.search(text):
        return True
    words = _words(f"{text} {what}")
    return denied(words.spellings, words.clause, len(words.spellings) - 1)


def denied_behind(text: str) -> bool:
    """Whether a text begins with what denies what stands before it."""
    return bool(_DENIED_AFTER.match(normalise(_CLAUSE.split(text[:40], maxsplit=1)[0])))


def _places(said: _Words, wanted: Sequence[frozenset[str]]) -> Iterator[int]:
    """Where the wanted words stand, without cutting a hyphenated name in two."""
    length = len(wanted)
    for start in range(len(said.spellings) - length + 1):
        window = said.spellings[start : start + length]
        last = start + length - 1
        if not all(map(_same_word, window, wanted)):
            continue
        if start and (_another_place(said.spellings[start - 1], wanted) or _beside(said, start)):
            continue
        if (start and said.joined[start - 1]) or said.joined[last]:
            continue
        after = next(iter(said.words[last + 1 : last + 2]), "")
        if after in _OTHER_THINGS or (after == "city" and wanted[-1] & _OTHER_CITIES):
            continue
        if (after in _KIN and f"{said.words[last]}s" in said.spellings[last]) or _relative(said, start):
            continue
        if not _denied_after(said, last) and not _in_a_term(said.words, start, last):
            yield start


def _same_word(said: frozenset[str], wanted: frozenset[str]) -> bool:
    if said & wanted or _initial(said, wanted) or _initial(wanted, said):
        return True
    return any(
        gold[0] > "\u036f"
        and (_has_particle(word, gold) or _has_prefix(word, gold) or _inflected(word, gold))
        for gold in wanted
        for word in said
    )


def _has_particle(word: str, gold: str) -> bool:
    return bool(word.startswith(gold) and _HANGUL.search(gold) and _PARTICLES.fullmatch(word[len(gold) :]))


def _has_prefix(word: str, gold: str) -> bool:
    """Whether a word is the other with what Arabic and Hebrew glue to it: `בירושלים`, `بالقاهرة`."""
    bare = gold.removeprefix("ال")
    if len(bare) < 2 or not word.endswith(bare):
        return False
    return any(prefix.fullmatch(word[: -len(bare)]) for prefix in _PREFIXES)


def _inflected(word: str, gold: str) -> bool:
    """Whether a word is another case of a name: `Москве` of Москва."""
    return any(
        word.startswith(stem) and word[len(stem) :] in others
        for ending, others in _ENDINGS
        if gold.endswith(ending) and len(stem := gold[: len(gold) - len(ending)]) > 2
        if ending or gold[-1] not in _VOWELS
    )


def _initial(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether one word is the initial of the other: `W.` of `William`."""
    return any(word[0] == dotted[0] for dotted in one if dotted.endswith(".") for word in other)


def _another_place(before: frozenset[str], wanted: Sequence[frozenset[str]]) -> bool:
    """Whether the word before a name makes it another place's: `South Sudan` is not `Sudan`."""
    return any(wanted[0] & _OTHER_PLACES.get(word, frozenset()) for word in before)


def _in_a_term(words: Sequence[str], start: int, last: int) -> bool:
    """Whether a sign and a number make a term of it: `π/2` is not `π`."""
    after, before = words[last + 1 : last + 3], words[max(start - 2, 0) : start]
    return any(len(pair) == 2 and pair[0] in "/^*×" and pair[1].isdecimal() for pair in (after, before[::-1]))


def _beside(said: _Words, start: int) -> bool:
    """Whether the words before a name make it the neighbour of what is meant: `just outside Paris`."""
    first = max(bisect_left(said.clause, said.clause[start]), start - 6)
    return bool(_BESIDE.search(" ".join(said.words[first:start]) + " "))


def _relative(said: _Words, start: int) -> bool:
    """Whether a clause begins with what makes a name that of a relative: `the brother of Abel`, not `the father of physics`."""
    before = " ".join(said.words[bisect_left(said.clause, said.clause[start]) : start])
    named = not any(word.startswith(_NOUN) for word in said.spellings[start])
    return named and bool(_KIN_OF.fullmatch(before))


def _denied_after(said: _Words, last: int) -> bool:
    end = min(bisect_right(said.clause, said.clause[last]), last + 7)
    rest = " ".join(said.words[last + 1 : end])
    return bool(_DENIED_AFTER.match(rest)) or any(
        word.startswith(("아니", "아닌")) or "아닙니다" in word for word in said.words[last : last + 2]
    )


@lru_cache(maxsize=16_384)
def _words(text: str, sentence: bool = False) -> _Words:
    """sentence: whether a capital in front may be that of a sentence."""
    text = _ALL_DENIED.sub(" or", _NEITHER.sub(r"not \2, not ", _NO_OTHER.sub("", text)))
    text = _COMPOUND.sub(f" {_JOINED} ", _POSSESSIVE.sub(f" {_POSSESSED} ", text))
    common = frozenset(_COMMON_NOUN.findall(text[:1].lower() + text[1:] if sentence else text))
    initials = frozenset(letter.lower() for letter in _INITIAL.findall(text))
    result = _Words([], [], [], [])
    for number, piece in enumerate(_CLAUSE.split(text)):
        for word in normalise(piece).split():
            if word == _JOINED and result.joined:
                result.joined[-1] = True
            elif word == _POSSESSED and result.spellings:
                result.spellings[-1] |= {f"{result.words[-1]}s"}
            elif word not in (_JOINED, _POSSESSED):
                result.words.append(word)
                result.spellings.append(_spellings(word, common) | ({f"{word}."} & initials))
                result.clause.append(number)
                result.joined.append(False)
    return result


def _spellings(word: str, common: frozenset[str]) -> frozenset[str]:
    """A word and its other spellings. common: words in small letters, which are nouns and may be plurals, not names."""
    others = {_ABBREVIATED[word]} if word in _ABBREVIATED else set()
    if len(word) == 1 and "α" <= word <= "ω":
        others.add(unicodedata.name(word).rpartition(" ")[2].lower())
    if len(word) > 3 and word.isascii():
        american = word
        for british, plain in _SPELLINGS:
            american = british.sub(plain, american)
        others |= {american}
    if word in common or _WEEKDAY.fullmatch(word):
        singulars = {found[1] + end for plural, end in _PLURALS if (found := plural.fullmatch(word))}
        singulars |= {_IRREGULAR[word]} if word in _IRREGULAR else set()
        others |= {_NOUN + one for one in singulars or {word}}
    return frozenset({word, *others})


def _states_part(answer: str, key: str) -> bool:
    """The same where words are not set apart; a name in katakana is a whole run of it."""
    said, key = normalise(answer).replace(" ", ""), key.replace(" ", "")
    for longer in items(_NAMES["longer"].get(key, "")):
        said = said.replace(longer, " ")
    for match in re.finditer(re.escape(key), said):
        before, after = said[: match.start()], said[match.end() :]
        edges = ((before[-1:], key[0]), (after[:1], key[-1]))
        if any(_KATAKANA.match(outer) and _KATAKANA.match(inner) for outer, inner in edges):
            continue
        if after.startswith(tuple(_OTHER_THINGS)) or (_HAN.match(key[-1]) and _KATAKANA.match(after)):
            continue  # 東京タワー
        if not _DENIED_BEFORE.search(before) and not _DENIED_AFTER.match(after):
            return True
    return False
