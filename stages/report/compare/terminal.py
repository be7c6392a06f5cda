"""The comparison's plots as lines of characters, for a terminal that shows no pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.compare.facts import Interval, ModelFacts

WIDTH = 40
STEPS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"


def plots(facts: Sequence[ModelFacts]) -> list[tuple[str, list[str]]]:
    """Titled plots, of what any of the models has figures for."""
    found = [
        ("AUROC with its interval", list(_aurocs(facts))),
        ("SAEs over the depth of the model, first block to last", list(_depths(facts))),
        ("Time and storage in all", list(_costs(facts))),
    ]
    return [(title, lines) for title, lines in found if lines]


def _aurocs(facts: Sequence[ModelFacts]) -> Iterator[str]:
    """`o` stands for the value, the line for the interval; all on one axis."""
    shown = [
        (each.name, title, entry)
        for each in facts
        for key, title in (("auroc", "detector"), ("baseline", "best baseline"))
        if (entry := each.figures.get(key)) is not None and entry.value is not None
    ]
    if not shown:
        return
    ends = [end for _, _, entry in shown for end in (entry.low, entry.value, entry.high) if end is not None]
    low, high = min([*ends, 0.5]), max(ends)
    names = _aligned([f"{name}: {title}" for name, title, _ in shown])
    for name, (_, _, entry) in zip(names, shown, strict=True):
        yield f"{name}  {whisker(entry, low, high)}  {tables.figure(entry._asdict())}"
    yield f"{' ' * len(names[0])}  {tables.number(low, 2):<{WIDTH - 4}}{tables.number(high, 2)}"


def _depths(facts: Sequence[ModelFacts]) -> Iterator[str]:
    """A character a part of the depth, the height on one scale for all models."""
    for key, title in (("fvu", "FVU"), ("ce_recovered", "cross-entropy recovered"), ("l0", "L0")):
        known = {
            each.name: [
                (layer["depth"] or 0.0, value) for layer in each.sae if (value := layer[key]) is not None
            ]
            for each in facts
        }
        values = [value for pairs in known.values() for _, value in pairs]
        if not values:
            continue
        yield f"{title}, {tables.number(min(values))} to {tables.number(max(values))}"
        for name, pairs in zip(_aligned(list(known)), known.values(), strict=True):
            yield f"  {name}  {sparkline(pairs, min(values), max(values)) if pairs else 'not measured'}"


def _costs(facts: Sequence[ModelFacts]) -> Iterator[str]:
    names = _aligned([each.name for each in facts])
    for show, totals in (
        (format_seconds, [sum(each.seconds.values()) for each in facts]),
        (format_bytes, [float(sum(each.bytes.values())) for each in facts]),
    ):
        for name, total in zip(names, totals, strict=True):
            yield f"{name}  {bar(total, max(totals)):<{WIDTH}}  {show(total)}"


def _aligned(names: Sequence[str]) -> list[str]:
    return [name.ljust(max(map(len, names))) for name in names]


def bar(value: float, most: float) -> str:
    """As long as the value, in eighths of a character."""
    eighths = round(8 * WIDTH * value / most) if most > 0 else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def whisker(entry: Interval, low: float, high: float) -> str:
    """An interval on the axis from low to high."""

    def place(value: float) -> int:
        return round((value - low) / (high - low or 1.0) * (WIDTH - 1))

    cells = [" "] * WIDTH
    if entry.low is not None and entry.high is not None:
        first, last = place(entry.low), place(entry.high)
        cells[first : last + 1] = "─" * (last + 1 - first)
    if entry.value is not None:
        cells[place(entry.value)] = "o"
    return "".join(cells)


def sparkline(pairs: Sequence[tuple[float, float]], low: float, high: float) -> str:
    """Means of (depth 0 to 1, value) over equal parts of the depth, at most WIDTH of them; a space where there is none."""
    parts: list[list[float]] = [[] for _ in range(min(WIDTH, len(pairs)))]
    for depth, value in pairs:
        parts[min(int(depth * len(parts)), len(parts) - 1)].append(value)
    return "".join(
        STEPS[round((sum(part) / len(part) - low) / (high - low or 1.0) * (len(STEPS) - 1))] if part else " "
        for part in parts
    )
