"""The words that matchers know, from the data beside this module: languages.yaml, an entry a language, units.yaml and names.yaml.

In the data a text stands for its words and a list for its items.
"""

from functools import lru_cache
from typing import Any

import yaml

from ghosttrack.common.package import package_file

LANGUAGE_CODES = ("de", "fr", "es", "pt", "it", "nl")
"""Languages whose spelled numbers text2num reads, beside English."""


@lru_cache
def table(name: str) -> dict[str, Any]:
    """A table of the data, of which every scalar is a text: `no` is a word here, not False."""
    text = package_file(f"stages/track/matching/{name}.yaml").read_text(encoding="utf-8")
    result: dict[str, Any] = yaml.load(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    return result


def items(value: str | list[str]) -> list[str]:
    """The words of a text, or the items of a list."""
    return value.split() if isinstance(value, str) else value


def words(kind: str, language: str | None = None) -> list[str]:
    """All words of a kind (`not`, `yes`, `months`), of one language or of all in turn, each once."""
    languages = [table("languages")[language]] if language else table("languages").values()
    return list(dict.fromkeys(word for one in languages for word in items(one.get(kind, []))))


def either(kind: str) -> str:
    """A regular expression of any word of a kind, longer ones first."""
    return "|".join(sorted(words(kind), key=len, reverse=True))


@lru_cache
def numerals() -> dict[str, int]:
    """The value of each numeral; a language lists them by value or counts them from 0."""
    result: dict[str, int] = {}
    for one in table("languages").values():
        listed = one.get("numerals", {})
        counted = enumerate(listed.split()) if isinstance(listed, str) else listed.items()
        result |= {word: int(value) for value, called in counted for word in items(called)}
    return result


def names(kind: str) -> list[tuple[str, str]]:
    """(what it is, its name) of the units or scales of all languages."""
    return [
        (meaning, name)
        for one in table("languages").values()
        for meaning, called in one.get(kind, {}).items()
        for name in items(called)
    ]
