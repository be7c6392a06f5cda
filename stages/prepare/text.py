"""Text utilities of the fact and prose builders: markup to plain text, lists, names. Pure functions."""

import html
import re
import unicodedata
from collections.abc import Iterator

_BREAK = re.compile(r"<\s*(?:br|/p|p|li|/li)\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]+>")
_SPACES = re.compile(r"[^\S\n]+")
_NOTE = re.compile(r"(?:^|[\s;,(*])note(?: \d+)?\s*(?::|-|–)", re.IGNORECASE)

_PARTICLE_WORDS = """
a al and am an at auf aux d da das de del della den der des di do dos du e ech ed el els en es et
i im in la las le les ni nad na o ob od of on or pod pri s sous sul sur the to upon v van ve von y
z
"""
PARTICLES = frozenset(_PARTICLE_WORDS.split())


def strip_markup(text: str) -> str:
    """Plain text: entities resolved, line breaks for `<br>` and `<p>`, other tags dropped, spaces single."""
    text = _TAG.sub("", _BREAK.sub("\n", html.unescape(text)))
    text = text.replace("\u200b", "").replace("\ufeff", "")
    lines = (_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def drop_notes(text: str) -> str:
    """The text up to its first note (`note: …`, `note - …`), line by line."""
    kept = []
    for line in text.split("\n"):
        match = _NOTE.search(line)
        kept.append(line[: match.start()] if match else line)
    return "\n".join(line.rstrip(" ;,") for line in kept if line.strip(" ;,"))


def split_list(text: str, separators: str = ",;\n") -> Iterator[str]:
    """The items of a list, split at separators that stand outside brackets; empty items are dropped."""
    depth, start = 0, 0
    for index, character in enumerate(text):
        if character in "([":
            depth += 1
        elif character in ")]":
            depth = max(0, depth - 1)
        elif character in separators and (depth == 0 or character == "\n"):
            depth = 0
            if item := text[start:index].strip():
                yield item
            start = index + 1
    if item := text[start:].strip():
        yield item


def drop_brackets(text: str) -> str:
    """The text without bracketed parts (nested ones too) and the spaces that they leave."""
    previous = None
    while previous != text:
        previous, text = text, re.sub(r"\s*[(\[][^()\[\]]*[)\]]", "", text)
    return _SPACES.sub(" ", re.sub(r"[(\[].*$", "", text)).strip(" ,;*")


def fold(text: str) -> str:
    """A key for comparing names: no accents, case, articles or punctuation; `Côte d'Ivoire` → `cote divoire`."""
    text = ascii_letters(text).casefold().replace("'", "").replace("`", "")
    words = re.sub(r"[^\w]+", " ", text).split()
    return " ".join(word for word in words if word not in ("the", "a", "an")) or " ".join(words)


def ascii_letters(text: str) -> str:
    """The text with accents dropped and typographic quotes and dashes made plain."""
    if text.isascii():
        return text
    text = text.translate(str.maketrans("’‘ʻʼ“”–—øØłŁđĐıßæÆ", "''''\"\"--oOlLdDisaA"))
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def is_clean_name(text: str, most_words: int = 4) -> bool:
    """Whether a text is a plain proper name: 1 to `most_words` words, capitalised but for particles, no digits."""
    if not 2 <= len(text) <= 48 or not (text[0].isupper() or text[0] in "'ʻ"):
        return False
    if re.search(r"[^\w\s'’ʻʼ.\-/&]|\d|_|--", text) or "/" in text:
        return False
    words = text.split()
    if len(words) > most_words or "-" in words:
        return False
    return all(w[0].isupper() or w[0] in "'’ʻ" or w in PARTICLES or "-" in w or "'" in w for w in words)


def slug(text: str) -> str:
    """A name for ids, cut at 60 characters: `Côte d'Ivoire` → `cote-divoire`; empty text gives `-`."""
    return "-".join(re.sub(r"[^a-z0-9]+", " ", fold(text)).split())[:60].strip("-") or "-"
