"""The figures of `final_report.json` as rows of text, shared by the Markdown file and the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from ghosttrack.common.errors import printable

Json = Mapping[str, Any]
Rows = list[list[str]]

FIGURES = {
    "auroc": "AUROC", "auroc_within_relation": "AUROC within relation", "auprc_wrong": "AUPRC (wrong)",
    "auprc_right": "AUPRC (right)", "precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy",
    "brier": "Brier", "brier_skill": "Brier skill", "ece_before": "ECE before calibration", "ece": "ECE", "ece_by_chance": "ECE if exact", "aurc": "AURC",
    "e_aurc": "E-AURC", "prr": "PRR", "prr_half": "PRR, half rejected", "coverage_80": "coverage at 80 %",
    "coverage_90": "coverage at 90 %",
}  # fmt: skip
TOKEN_FIGURES = {
    "token_auroc": "AUROC, token", "token_auroc_within_relation": "within relation", "token_auprc": "AUPRC, token",
    "recall_at_0.1_false_alarms": "recall at 10 % false alarms", "span_f1": "F1, span", "answer_auroc": "AUROC, answer",
}  # fmt: skip
RANKING = ("auroc", "auroc_within_relation", "auprc_wrong", "auprc_right")
DECISIONS = (
    "precision", "recall", "f1", "accuracy", "brier", "brier_skill", "ece_before", "ece", "ece_by_chance",
)  # fmt: skip
SELECTION = ("aurc", "e_aurc", "prr", "prr_half", "coverage_80", "coverage_90")
KINDS = {"detector": "sees tracks", "baseline": "no tracks", "rung": "association", "control": "control"}


def in_terminal(rows: Sequence[Sequence[RenderableType]], headed: bool = True, wrap: bool = False) -> Table:
    """A table as a terminal shows it. headed: its first row is a header; wrap: figures may, not names alone."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=headed)
    for column, title in enumerate(rows[0]):
        table.add_column(title, overflow="fold", no_wrap=column > 0 and not wrap)
    for row in rows[headed:]:
        table.add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


MOST_SHARE = 10.0


def share(value: float | None) -> str:
    """A percentage; beyond ten times the whole the digits say nothing more."""
    if value is None:
        return "–"
    if abs(value) > MOST_SHARE:
        return f"{'below −' if value < 0 else 'over '}{MOST_SHARE:,.0%}"
    return f"{value:.1%}".replace("-", "−")


def figure(entry: Json, digits: int = 3, signed: bool = False) -> str:
    """`0.812 [0.780, 0.840]`."""
    value, low, high = (number(entry[key], digits, signed) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if entry["low"] is not None else value


def lead(comparison: Json) -> str:
    """`+0.031 [+0.010, +0.052], better`."""
    return f"{figure(comparison['difference'], signed=True)}, {comparison['verdict']}"


def leads(split: Json, about: str, method: str, metric: str) -> list[Json]:
    """The comparisons of a method, in the figure `metric`."""
    wanted = (about, method, metric)
    return [
        each for each in split["comparisons"] if (each["about"], each["method"], each["metric"]) == wanted
    ]


def titles(report: Json) -> dict[str, str]:
    """Method → what it is called."""
    return {card["name"]: card["title"] for card in report["methods"]}


def methods(report: Json, split: Json, names: Sequence[str], digits: int = 3) -> Rows:
    """Header and a row a detector or baseline, with the figures `names`."""
    called = titles(report)
    rows = [
        [called[m["name"]], KINDS[m["kind"]], *(figure(m["figures"][name], digits) for name in names)]
        for m in split["methods"]
        if m["kind"] in ("detector", "baseline")
    ]
    return [["method", "", *(FIGURES[name] for name in names)], *rows]


def main_methods(report: Json, names: Sequence[str], digits: int = 3) -> Rows:
    """The same of the main methods on the main split."""
    grouped = report["splits"][0]
    main = [method for method in grouped["methods"] if method["name"] in report["main_methods"]]
    return methods(report, {**grouped, "methods": main}, names, digits)


ASKED_OF = (
    ("grouped", "auroc", "all questions"),
    ("grouped", "auroc_within_relation", "within a relation"),
    ("relations", "auroc", "relations held out"),
    ("test", "auroc", "frozen test"),
)
"""What the finding in short is of: split, metric, and what that is called."""


def finding(report: Json) -> Rows:
    """Header and a row a question: the main detector, the best single method without tracks, and their paired difference."""
    called, rows = titles(report), []
    for name, metric, where in ASKED_OF:
        for split in (each for each in report["splits"] if each["split"] == name):
            figures = {method["name"]: method["figures"] for method in split["methods"]}
            for each in leads(split, "detector", report["detector"], metric):
                own, best = (figure(figures[each[side]][metric]) for side in ("method", "against"))
                rows.append([where, own, f"{best}, {called[each['against']]}", lead(each)])
    return [["AUROC", "detector", "best single method without tracks", "difference"], *rows]


def comparisons(report: Json, split: Json, about: str) -> Rows:
    """Header and a row a pair of methods, pooled and within relation side by side."""
    called = titles(report)
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for each in split["comparisons"]:
        if each["about"] == about:
            # The best baseline may be another one within relations: then it has a row of its own.
            pairs.setdefault((each["method"], each["against"]), {})[each["metric"]] = lead(each)
    rows = [
        [called[method], called[against], *(row.get(metric, "–") for metric in RANKING[:2])]
        for (method, against), row in pairs.items()
    ]
    return [["method", "against", "AUROC", "AUROC within relation"], *rows]


def ladder(report: Json, split: Json) -> Rows:
    """Header and a row a rung: its AUROC, and what it gains over random and over no association."""
    rung_of = {card["name"]: card["rung"] for card in report["methods"] if card["kind"] == "rung"}
    gained = {
        (each["method"], rung_of.get(each["against"]), each["metric"]): lead(each)
        for each in split["comparisons"]
        if each["about"] == "association"
    }
    figures = {m["name"]: m["figures"] for m in split["methods"] if m["kind"] == "rung"}
    metrics, nulls = RANKING[:2], ("random", "none")
    rows = [
        [titles(report)[name], *(figure(figures[name][metric]) for metric in metrics),
         *(gained.get((name, null, metric), "") for metric in metrics for null in nulls)]
        for name in rung_of if name in figures
    ]  # fmt: skip
    header = [
        "association", "AUROC", "AUROC within relation", "over random", "over none", "over random, within relation",
        "over none, within relation",
    ]  # fmt: skip
    return [header, *rows]


def splits(report: Json) -> Rows:
    """Header and a row a split: the main detector, the best baseline there, and the difference."""
    rows = []
    for split in report["splits"]:
        figures = {m["name"]: m["figures"] for m in split["methods"]}
        detector, best = report["detector"], split["best_baseline"].get("auroc")
        gained = [lead(each) for each in leads(split, "detector", detector, "auroc")]
        own = [
            figure(figures[detector][name]) if detector in figures else "not scored"
            for name in (*RANKING[:2], "f1")
        ]
        against = f"{titles(report)[best]}: {figure(figures[best]['auroc'])}" if best else "–"
        counts = [split["title"], f"{split['n']:,}", f"{split['prevalence']:.0%}"]
        rows.append([*counts, *own, against, *(gained[:1] or ["–"])])
    header = [
        "split", "questions", "wrong", "AUROC", "AUROC within relation", "F1", "best baseline", "difference",
    ]  # fmt: skip
    return [header, *rows]


TRANSFERRED = ("full", "anchor", "logprob_sum")
"""What a transferred detector stands beside: everything of one prompt, and what nothing is fitted for."""


def transfers(report: Json) -> Rows:
    """Header and a row a detector that scored these questions: this configuration's own, then the others'."""
    called, detector = titles(report), report["detector"]
    shown = list(dict.fromkeys(name for name in (detector, *TRANSFERRED) if name in called))
    rows = []
    for split in report["splits"]:
        if split["split"] != "grouped" and not split.get("origin"):
            continue
        found = {method["name"]: method["figures"] for method in split["methods"]}
        wanted = [*((name, "auroc") for name in shown), *((name, RANKING[1]) for name in shown[:1])]
        cells = [figure(found[name][metric]) if name in found else "–" for name, metric in wanted]
        rows.append([split.get("origin") or report["name"], report["name"], f"{split['n']:,}", *cells])
    header = ["from", "to", "questions", *(called[name] for name in shown), "within relation"]
    return [header, *rows]


def expectations(report: Json) -> Rows:
    verdict, rows = {True: "met", False: "not met", None: "unknown"}, []
    for each in report["expectations"]:
        found = figure(each["found"], 1 if each["metric"].startswith("Active") else 3)
        rows.append(
            [each["metric"], each["wanted"], found, verdict[each["met"]], each["source"], each["note"]]
        )
    return [["expected", "wanted", "found", "", "whose", "note"], *rows]


def tokens(metrics: Json) -> Rows:
    """A row a method of token_metrics.json, the best token AUROC first."""
    shown = {name: title for name, title in TOKEN_FIGURES.items() if name in metrics["methods"]["detector"]}

    def row(name: str, of: Json) -> list[str]:
        lead = metrics["detector_less"].get(name)
        cells = [triple(of[each]) for each in shown]
        return [name.replace("_", " "), *cells, triple(lead["token_auroc"], signed=True) if lead else "–"]

    best = sorted(metrics["methods"].items(), key=lambda item: -(item[1]["token_auroc"][0] or 0))
    return [["method", *shown.values(), "detector over it"], *(row(name, of) for name, of in best)]


def triple(values: Sequence[float | None], signed: bool = False) -> str:
    return figure(dict(zip(("value", "low", "high"), values, strict=True)), signed=signed)


def early_warning(report: Json, most: int = 12) -> Rows:
    """Header and at most `most` rows, evenly chosen."""
    points = report["early_warning"]
    step = -(-len(points) // most)
    signals = {card["name"]: " + ".join(card["signals"]) for card in report["methods"]}
    rows = []
    for point in points[::-1][::step][::-1]:
        seen = "prompt alone" if point["before_answer"] else "prompt and answer"
        figures = (figure(point[metric]) for metric in RANKING[:2])
        rows.append([seen, signals[point["method"]], f"{point['depth']:.0%}", *figures])
    return [["seen", "signals", "depth", "AUROC", "AUROC within relation"], *rows]


def error_types(report: Json) -> Rows:
    rows = [
        [e["name"].replace("_", " "), f"{e['n']:,} ({e['share']:.0%})", figure(e["auroc"]), figure(e["baseline_auroc"]),
         figure(e["found"]), e["description"]]
        for e in report["error_types"]
    ]  # fmt: skip
    header = [
        "type", "wrong answers", "AUROC", "AUROC of the best baseline", "share called wrong", "what it is",
    ]  # fmt: skip
    return [header, *rows]


def data(report: Json) -> Rows:
    """The data card."""
    card = report["data"]
    wrong = "" if card["prevalence"] is None else f" ({card['prevalence']:.1%})"
    largest = f" (questions in the largest: {card['largest_group']:,})"
    return [
        ["questions", f"{card['n_questions']:,}"],
        *([["worked examples, not asked", f"{card['n_examples']:,}"]] if card.get("n_examples") else []),
        ["with a label", f"{card['n_labelled']:,}"],
        ["answered wrong", f"{card['n_wrong']:,}{wrong}"],
        ["answered right", f"{card['n_right']:,}"],
        *([f"left out: {reason}", f"{count:,}"] for reason, count in card["excluded"].items()),
        *([["left out without a reason", f"{card['unexplained']:,}"]] if card["unexplained"] else []),
        ["groups that never cross a fold", f"{card['n_groups']:,}{largest}"],
        ["relations", f"{card['n_relations']:,}"],
    ]


def sae(report: Json) -> Rows:
    header = [
        "layer", "active latents (L0)", "variance unexplained (FVU)", "reconstruction loss", "dead latents",
        "cross-entropy recovered", "KL recovered", "same latent in the next layer",
    ]  # fmt: skip
    rows = [
        [str(s["layer"]), number(s["l0"], 1), number(s["fvu"]), number(s["mse"]), share(s["dead_fraction"]),
         share(s["ce_recovered"]), share(s["kl_recovered"]), share(s["next_self_match"])]
        for s in report["sae"]
    ]  # fmt: skip
    return [header, *rows]


def relations(report: Json) -> Rows:
    shown = []
    if report["splits"]:
        best = report["splits"][0]["best_baseline"].get("auroc")
        shown = [report["detector"], *([best] if best else [])]
    rows = []
    for each in report["relations"]:
        aurocs = (figure(each["auroc"][name]) for name in shown)
        rows.append([each["relation"], f"{each['n']:,}", f"{each['n_wrong'] / each['n']:.0%}", *aurocs])
    header = ["relation", "questions", "wrong", *(f"AUROC of {titles(report)[name]}" for name in shown)]
    return [header, *rows]


def matchers(reports: Sequence[Json]) -> Rows:
    """Header and a row a matcher: what it says against the labels, and of how many answers it differs from each other one."""
    names = [report["name"] for report in reports]
    rows = [
        [
            f"`{report['name']}`", f"{report['n']:,}", f"{report['n_wrong']:,}", f"{report['wrong_where_label_is_right']:,}",
            f"{report['right_where_label_is_wrong']:,}",
            *("–" if name == report["name"] else f"{report['differs'].get(name, 0):,}" for name in names),
        ]
        for report in reports
    ]  # fmt: skip
    header = ["matcher", "answers", "wrong", "wrong, label right", "right, label wrong"]
    return [[*header, *(f"differs from `{name}`" for name in names)], *rows]
