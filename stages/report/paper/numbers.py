"""Every number of a run that a text may quote: its macro, its text, and the place in the file that it is read from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.stages.report import tables

Json = Mapping[str, Any]
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


@dataclass(frozen=True)
class Number:
    """One macro. pointer: a JSON pointer (RFC 6901) into the file."""

    macro: str
    text: str
    value: float | int | str | None
    file: File
    pointer: str


def numbers_of(report: Json, quality: Json | None) -> list[Number]:
    """The macros, in the order in which they are written. Raises ValueError if two of them would have one name."""
    found = list(_of_report(report))
    if quality is not None:
        found += _of_saes(quality)
    names = [number.macro for number in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two numbers would be called {sorted(doubled)[0]}")
    return found


def _of_report(report: Json) -> Iterator[Number]:
    def scalar(macro: str, pointer: str, digits: int = 0) -> Number:
        value = at(report, pointer)
        return Number(f"GT{macro}", _text(value, digits), value, REPORT, pointer)

    yield Number("GTrun", str(report["name"]), report["name"], REPORT, "/name")
    yield Number("GTmodel", str(report["model"]), report["model"], REPORT, "/model")
    yield Number("GTlayers", str(len(report["layers"])), len(report["layers"]), REPORT, "/layers")
    for key in ("n_questions", "n_labelled", "n_wrong", "n_right", "n_groups", "n_relations"):
        yield scalar(camel(key), f"/data/{key}")
    yield _share("prevalence", report["data"]["prevalence"], "/data/prevalence")
    yield scalar("resamples", "/resamples")
    yield _share("confidence", report["confidence"], "/confidence", 0)
    for i, split in enumerate(report["splits"]):
        where = "" if i == 0 else camel(split["split"])
        for j, method in enumerate(split["methods"]):
            for metric, figure in method["figures"].items():
                pointer = f"/splits/{i}/methods/{j}/figures/{metric}"
                yield from _figure(f"{where}{camel(method['name'])}{camel(metric)}", figure, pointer)
                if i == 0 and method["name"] == report["detector"]:
                    yield from _figure(camel(metric)[0].lower() + camel(metric)[1:], figure, pointer)
                if i == 0 and method["name"] == split["best_baseline"].get("auroc"):
                    yield from _figure(f"baseline{camel(metric)}", figure, pointer)
        for j, each in enumerate(split["comparisons"]):
            about, method, against, metric = (
                camel(each[key]) for key in ("about", "method", "against", "metric")
            )
            pointer = f"/splits/{i}/comparisons/{j}/difference"
            yield from _figure(
                f"{where}{about}{method}Over{against}{metric}", each["difference"], pointer, signed=True
            )
    if report["permutation"]:
        for key, digits in (("n", 0), ("observed", 3), ("mean", 3), ("p_value", 4)):
            yield scalar(f"permutation{camel(key)}", f"/permutation/{key}", digits)


def _of_saes(quality: Json) -> Iterator[Number]:
    shown = {"LZero": "l0", "Fvu": "fvu", "Mse": "mse", "CeRecovered": "splice/ce_recovered/mean"}
    for i, layer in enumerate(quality["layers"]):
        for key, pointer in shown.items():
            value, where = at(quality, f"/layers/{i}/{pointer}"), f"/layers/{i}/{pointer}"
            text = _text(value, 1 if key == "LZero" else 3)
            yield Number(f"GTsaeLayer{camel(str(layer['layer']))}{key}", text, value, QUALITY, where)


def _figure(name: str, figure: Json, pointer: str, signed: bool = False) -> Iterator[Number]:
    """`\\GTauroc`, `\\GTaurocLow`, `\\GTaurocHigh`, and all three at once as `\\GTaurocCI`."""
    for suffix, key in (("", "value"), ("Low", "low"), ("High", "high")):
        text = _text(figure[key], 3, signed)
        yield Number(f"GT{name}{suffix}", text, figure[key], REPORT, f"{pointer}/{key}")
    yield Number(f"GT{name}CI", latex(tables.figure(figure, signed=signed)), None, REPORT, pointer)


def _share(name: str, value: float | None, pointer: str, digits: int = 1) -> Number:
    text = latex("–") if value is None else f"{value * 100:.{digits}f}\\,\\%"
    return Number(f"GT{name}", text, value, REPORT, pointer)


def _text(value: float | None, digits: int, signed: bool = False) -> str:
    return latex(tables.number(value, digits, signed))


def at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, Sequence) else document[part]
    return document


def camel(name: str) -> str:
    """Letters only, as macros want: `tracks+logits_2` → `TracksPlusLogitsTwo`."""
    words = re.findall(r"[A-Za-z]+|\d", name.replace("+", " plus "))
    return "".join(DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:] for word in words)


SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": r"\ensuremath{-}", "–": "--", "→": r"\ensuremath{\to}", "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}",
    "×": r"\ensuremath{\times}", "…": r"\dots{}", "“": "``", "”": "''", "’": "'", "|": r"\textbar{}", '"': "''",
}  # fmt: skip


def latex(text: str) -> str:
    """Text as LaTeX shows it; what its fonts lack becomes `?`."""
    return "".join(
        SPECIAL.get(c, c if c.isascii() or "\u00a1" <= c <= "\u00ff" else "?") for c in " ".join(text.split())
    )
