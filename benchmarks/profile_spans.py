"""Spans of profiles drawn at random, to be checked by hand: what the model said, how it was labelled, and by which right answers.

    python benchmarks/profile_spans.py results/smollm2-135m-profiles data/cache/smollm2-135m-profiles > spans.csv

The column `verdict` is for the reader: `right` or `wrong` as the claim is, `undecided` where the world does not say, `no claim`
where the span is not what it was taken for. benchmarks/profile_spans.csv is one such draw, with verdicts.
"""

import csv
import json
import sys
from pathlib import Path

import click
import numpy as np

COLUMNS = ("id", "relation", "before", "span", "label", "gold", "verdict")
BEFORE = 60
SHOWN = 6


@click.command()
@click.argument("results", type=click.Path(exists=True, path_type=Path))
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=100)
@click.option("--seed", default=0)
def draw(results: Path, data: Path, count: int, seed: int) -> None:
    """Write `count` spans of a run as CSV."""
    answers = _lines(results / "tracking" / "generations.jsonl")
    facts = {question["id"]: question["facts"] for question in _lines(data / "questions" / "questions.jsonl")}
    spans = [(answer, claim) for answer in answers for claim in answer["claims"]]
    chosen = np.random.default_rng(seed).permutation(len(spans))[:count]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place in sorted(chosen.tolist()):
        answer, (start, end, label, relation) = spans[place]
        text, golds = answer["answer"], facts[answer["id"]][relation]
        before = " ".join(text[max(start - BEFORE, 0) : start].split())
        shown = ("; ".join(golds[:SHOWN]) or "none") + ("; …" if len(golds) > SHOWN else "")
        writer.writerow(
            [answer["id"], relation, before, text[start:end], "wrong" if label else "right", shown, ""]
        )


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    draw()
