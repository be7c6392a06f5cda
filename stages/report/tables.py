"""The figures of `final_report.json` as rows of text, shared by the Markdown file and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

FIGURES = {
    "auroc": "AUROC",
    "auroc_within_relation": "AUROC within relation",
    "auprc_wrong": "AUPRC (wrong)",
    "auprc_right": "AUPRC (right)",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "accuracy": "accuracy",
    "brier": "Brier",
    "ece": "ECE",
}


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}".replace("-", "−")


def figure(entry: Json, digits: int = 3, signed: bool = False) -> str:
    """`0.812 [0.780, 0.840]`."""
    value, low, high = (number(entry[key], digits, signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if entry["low"] is not None else value


def methods(report: Json, names: Sequence[str], digits: int = 3) -> list[list[str]]:
    """Header and a row a method, with the figures `names`."""
    header = ["method", "tracks", *(FIGURES[name] for name in names)]
    rows = [
        [
            m["name"],
            "yes" if m["kind"] == "detector" else "no",
            *(figure(m["figures"][name], digits) for name in names),
        ]
        for m in report["methods"]
    ]
    return [header, *rows]


def comparisons(report: Json) -> list[list[str]]:
    header = ["detector", "against", "figure", "difference", "verdict"]
    rows = [
        [
            c["detector"],
            c["baseline"],
            FIGURES[c["metric"]],
            figure(c["difference"], signed=True),
            c["verdict"],
        ]
        for c in report["comparisons"]
    ]
    return [header, *rows]


def expectations(report: Json) -> list[list[str]]:
    verdict = {True: "met", False: "not met", None: "unknown"}
    rows = [
        [e["metric"], e["wanted"], figure(e["found"], 1 if e["metric"] == "Active features" else 3),
         verdict[e["met"]], e["note"]]
        for e in report["expectations"]
    ]  # fmt: skip
    return [["expected", "wanted", "found", "", "note"], *rows]


def sae(report: Json) -> list[list[str]]:
    header = [
        "layer",
        "active features (L0)",
        "variance unexplained (FVU)",
        "reconstruction loss",
        "dead features",
        "cross-entropy recovered",
        "KL recovered",
        "same feature in the next layer",
    ]
    rows = [
        [str(s["layer"]), number(s["l0"], 1), number(s["fvu"]), number(s["mse"]), share(s["dead_fraction"]),
         share(s["ce_recovered"]), share(s["kl_recovered"]), share(s["next_self_match"])]
        for s in report["sae"]
    ]  # fmt: skip
    return [header, *rows]


def relations(report: Json, method: str) -> list[list[str]]:
    rows = [
        [r["relation"], f"{r['n']:,}", f"{r['n_wrong'] / r['n']:.0%}", figure(r["auroc"][method])]
        for r in report["relations"]
    ]
    return [["relation", "questions", "wrong", f"AUROC of {method}"], *rows]


def families(detection: Json, detector: str) -> list[list[str]]:
    found = detection["detectors"][detector]["families"]
    rows = [
        [name, str(entry["n_features"]), number(entry["auroc_loss"], signed=True)]
        for name, entry in sorted(found.items(), key=lambda item: -item[1]["auroc_loss"])
    ]
    return [["family", "features", "AUROC lost without it"], *rows]


def choices(detection: Json, detector: str) -> str:
    """The classifiers that the folds chose: `linear, C=0.01 (4 folds), …`."""
    chosen = [fold["chosen"] for fold in detection["detectors"][detector]["folds"]]
    return "; ".join(
        f"{name} ({chosen.count(name)} of {len(chosen)} folds)" for name in dict.fromkeys(chosen)
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and rows."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
