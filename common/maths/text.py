"""Texts as they are compared: one key for what differs in form only, in any script, and never for what differs in content.

Case, width (NFKC), accents of Latin, Greek and Cyrillic letters, sentence punctuation and an article in front are form. Marks
of other scripts (a dakuten, a vowel sign), symbols, currency and emoji, signs and separators of numbers, and the `++` of C++
are content.
"""

import html
import re
import unicodedata
from functools import lru_cache

import regex

SPACELESS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
"""A letter of a script that is written without spaces between words."""
_NO_DECOMPOSITION = str.maketrans("øłđðıħیک", "olddihيك") | {ord("æ"): "ae", ord("œ"): "oe", ord("þ"): "th"}
_BARE_SCRIPT = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}]")
_BREVE = "\u0306"  # й is a letter of its own, not an и with an accent
_NASALS = regex.compile("ङ्(?=[क-घ])|ञ्(?=[च-झ])|ण्(?=[ट-ढ])|न्(?=[त-ध])|म्(?=[प-भ])")
_ANUSVARA = "ं"  # हिन्दी and हिंदी are two spellings of one word
_POINTS = re.compile("[\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7]")
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Variation_Selector}--[\u200d\U000E0020-\U000E007F]]|\u0640", regex.V1)
_SUPERSCRIPT = re.compile("⁻?[²³¹⁰⁴-⁹]+(?![⁺⁻²³¹⁰⁴-⁹])")
_FRACTION = re.compile("(\\d?)([¼-¾⅐-⅞])")
_ENTITY = re.compile(r"&#?\w+;")
_TEX = (
    (re.compile(r"\\(?:left|right)\b|\\!\s*|\\[,;:]"), ""),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"√\1"),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^\1"),
    (re.compile(r"<sup>([^<]*)</sup>"), r"^\1"),
    (re.compile(r"(?:(?<=[^\W\d_])|(?<=[^\W\d_]\d))\^(\d*[-+])(?![\w(])"), r"\1"),  # Fe^{3+}
    (re.compile(r"(?<=[^\W_])(?:_\{?|<sub>)(\d+)(?:\}|</sub>)?"), r"\1"),  # H_2O
    (re.compile(r"(?<=\d)\*\*(?=-?\d)"), "^"),
    (re.compile(r"\\([%$&#_])"), r"\1"),
    (re.compile(r"\^?\\circ\b"), "°"),
    (
        re.compile(
            r"\\(?=(?:(?:b|z|th)?eta|alpha|gamma|delta|epsilon|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|chi|psi|omega)\b)(\w+)"
        ),
        lambda match: unicodedata.lookup(f"GREEK SMALL LETTER {match[1].replace('lambda', 'lamda')}"),
    ),
    (re.compile(r"\\neq?\b|!="), "≠"),
    (re.compile(r"\\leq?\b|<="), "≤"),
    (re.compile(r"\\geq?\b|>="), "≥"),
)
"""What models write in mathematics, and what it says."""
_WRITTEN_WITH = frozenset("\\^=_<*")
_ROOT = re.compile(r"\b(?:sqrt|square root of)\s*(?:\(([^()]*)\)|(?=\d|\w\b))")
_INITIALS = regex.compile(
    r"(?<![\p{L}\p{N}])(?:\p{Lu}\p{Ll}\.(?=\p{Lu}\.)(?:\p{Lu}\.)+|(?:\p{L}\.\s?){2,})(?![\p{L}\p{N}])|(?<![\p{L}\p{N}])(?:\p{L}\.)+\p{L}(?![\p{L}\p{N}])"
)
_APOSTROPHE = regex.compile(
    r"(?<=\p{L})['’`ʼʻ‘′׳](?=\p{L})|(?<=\p{Hebrew})[״\"](?=\p{Hebrew})|(?<=s)['’`](?=\s|$)|(?<=^|\s)['’ʻ‘](?=\p{L})"
)
_ARTICLE = regex.compile(r"^[^\p{L}\p{N}\p{S}]*(?:a|an|the)\s+(?=\S)")
_EMPHASIS = regex.compile(r"(?<!\p{L})\*+(?=\p{L})|(?<=\*\p{L}+|\p{L}{2})\*+(?!\p{L})|\*\*+")
_TOKEN = regex.compile(
    r"""[-−+±]?(?<![\p{L}\p{N}][-−+])(?:(?<=[-−+±])|(?<![\p{N}]))\p{N}+(?:[.,:/⁄^٫٬]\p{N}+)*%?(?!\p{L})  # a number, its sign and marks
      | [\p{L}\p{M}\p{N}]+(?:[+\#]+(?![\p{L}\p{N}]))?                                 # a word, with the signs of C++ and F#
      | \p{Regional_Indicator}{2} | (?=\p{Extended_Pictographic})\X            # a flag, an emoji
      | [^\s]                                                                 # any other sign
    """,
    regex.VERBOSE,
)  # fmt: skip
_SENTENCE = frozenset("""\
.,;:!?¿¡…'"’‘“”„«»‹›`()[]{}。、，．！？；：「」『』（）【】《》〈〉・·।॥؟،؛।_|~""")
_HYPHENS = frozenset("-‐‑‒–—―−")
_JOINTS = regex.compile(
    r"(?<=[\p{L}\p{M}])[\p{Pd}](?=[\p{L}\p{N}])|(?<=\p{N})[\p{Pd}](?=\p{L})|(?<=\p{L}|^)_(?=\p{L}|$)|(?<=\p{L})/(?=\p{L})|(?<=\s)[–—―](?=\s)"
)


def compatible(text: str) -> str:
    """NFKC without invisible characters; `10²` becomes `10^2` and `3½` becomes `3 1/2`, not other numbers. Entities of HTML
    and what TeX writes in numbers are what they stand for."""
    if "&" in text:
        text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
    if not _WRITTEN_WITH.isdisjoint(text):
        for pattern, plain in _TEX:
            text = pattern.sub(plain, text)
    if "sq" in text:
        text = _ROOT.sub(r"√\1", text)
    text = _FRACTION.sub(lambda m: f"{m[1]}{' ' if m[1] else ''}{unicodedata.normalize('NFKC', m[2])}", text)
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text.replace("´", "'")))


def ascii_digits(text: str) -> str:
    """Decimal digits of any script as 0 to 9."""
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def pointed_alike(one: str, other: str) -> tuple[str, str]:
    """Two texts to compare: the vowel points of Arabic and Hebrew are content only where both texts write them."""
    if bool(_POINTS.search(one)) == bool(_POINTS.search(other)):
        return one, other
    return _POINTS.sub("", one), _POINTS.sub("", other)


def fold_marks(text: str) -> str:
    """Compatibility forms (NFKC), case folded, without the accents of Latin, Greek and Cyrillic letters."""
    text = compatible(text).casefold().translate(_NO_DECOMPOSITION)
    kept: list[str] = []
    bare = False
    for character in unicodedata.normalize("NFD", text):
        if not unicodedata.combining(character):
            bare = bool(_BARE_SCRIPT.match(character))
        elif bare and not (character == _BREVE and kept[-1] in "иіу"):
            continue
        kept.append(character)
    return _NASALS.sub(_ANUSVARA, unicodedata.normalize("NFC", "".join(kept)))


@lru_cache(maxsize=65_536)
def normalise(text: str) -> str:
    """The key of a text: its words and signs with single spaces between them; empty only where nothing is said."""
    text = _INITIALS.sub(lambda m: m[0].replace(".", "").replace(" ", "") + " ", text)
    text = _JOINTS.sub(" ", _EMPHASIS.sub("", _APOSTROPHE.sub("", fold_marks(text)))).replace("&", " and ")
    text = _ARTICLE.sub("", text)
    words = [_number(token) for token in _TOKEN.findall(text) if token not in _SENTENCE]
    return " ".join(word for place, word in enumerate(words) if word != "-" or _is_sign(words, place))


def _is_sign(words: list[str], place: int) -> bool:
    """Whether a dash is a minus or part of a range, and not a pause between words."""
    beside = words[max(place - 1, 0) : place] + words[place + 1 : place + 2]
    return len(words) == 1 or any(word[-1].isdecimal() or (len(word) == 1 and word != "-") for word in beside)


def _number(token: str) -> str:
    """A number's digits as ASCII, without the commas between its thousands; other tokens as they are."""
    if token in _HYPHENS:
        return "-"
    if not any(character.isdecimal() for character in token):
        return token
    token = ascii_digits(token)
    token = re.sub("[−–—]", "-", token).replace("٬", ",").replace("٫", ".").replace("⁄", "/")
    grouped = re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{2,3})*,\d{3}(\.\d+)?%?", token)
    return token.replace(",", "") if grouped else token
