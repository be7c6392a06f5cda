"""Unit `causes`: take the tracks out on which answers hang, question by question, and measure what the model then says.

Questions are drawn at random, three of four with a wrong answer; of each the tracks of largest predicted effect go one by
one, and together in sets of rising size, each beside a control of the same size.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.files import fsync
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.maths.text import normalise
from ghosttrack.common.models.steps import Step, shard_name, shards_done
from ghosttrack.stages.track.causes import SET_SIZES, agreement_of, share
from ghosttrack.stages.track.intervening import Interventions
from ghosttrack.stages.track.outputs import columns_of

ALONE = 4
"""Of each question that are taken out alone: the strongest, and as many at random, so that figures are not of the
strongest alone."""
WRONG = 0.75
"""Share of the questions whose answers are wrong, as far as there are so many."""
QUESTIONS_A_STEP = 8


def run(job: Job) -> dict[str, Any]:
    generations = GENERATIONS.read(job.input(GENERATIONS))
    chosen = choose_questions(
        [line["label"] for line in generations], job.config.tracking.causes, job.config.seed
    )
    steps = [chosen[start : start + QUESTIONS_A_STEP] for start in range(0, len(chosen), QUESTIONS_A_STEP)]

    def begin() -> tuple[torch.device, Step]:
        desk = Interventions.open(job.input_dir("prepare/model"), job.input, job.config)
        return desk.model.device, lambda number: _do_step(job, desk, number, steps[number])

    if not shards_done(job, [*map(len, steps)], "causes", begin):
        return {}
    rows = [row for number in range(len(steps)) for row in json.loads(_kept(job, number).read_text("utf-8"))]
    table = columns_of(CAUSES, rows)
    CAUSES.write(job.output(CAUSES), table)
    return summary(table, [line["label"] for line in generations], job.config.seed)


def _kept(job: Job, number: int) -> Path:
    return job.scratch(f"{shard_name(number)}.json")


def _do_step(job: Job, desk: Interventions, number: int, questions: list[int]) -> None:
    rows = [row for question in questions for row in _taken_out(desk, question)]
    path = _kept(job, number)
    path.write_text(json.dumps(rows), "utf-8")
    fsync(path)


def choose_questions(labels: list[int | None], count: int, seed: int) -> list[int]:
    """Lines of questions, ascending; only such as have a label."""
    order = generator(seed, "causes").permutation(len(labels)).tolist()
    wrong = [number for number in order if labels[number] == 1]
    right = [number for number in order if labels[number] == 0]
    n_wrong = min(len(wrong), max(round(WRONG * count), count - len(right)))
    return sorted([*wrong[:n_wrong], *right[: count - n_wrong]])


def _taken_out(desk: Interventions, number: int) -> Iterator[dict[str, Any]]:
    """The rows of one question."""
    bench = desk.bench(number)
    effects = bench.effects()
    best = effects.strongest(max(SET_SIZES))
    others = generator(desk.config.seed, "causes", str(number)).permutation(len(effects.number))
    alone = [*best[:ALONE], *[one for one in others.tolist() if one not in best[:ALONE]][:ALONE]]
    groups = [[one] for one in alone] + [best[:size].tolist() for size in SET_SIZES if size <= len(best)]
    interventions, tracks = [], []
    for group in groups:
        tracks.append(
            [(int(bench.positions[effects.problem[one]]), int(effects.number[one])) for one in group]
        )
        interventions += [bench.without(tracks[-1]), bench.control(tracks[-1])]
    found = bench.outcomes(interventions)
    emitted = int(bench.candidates[0])
    margin = float(np.subtract(*bench.bench.logits[bench.candidates[:2]].tolist()))
    for place, (group, names) in enumerate(zip(groups, tracks, strict=True)):
        own, control = found[2 * place], found[2 * place + 1]
        row = (
            number, "track" if place < len(alone) else "set", len(group), *names[0], margin,
            float(effects.predicted[group].sum()), own.drop, control.drop,
            own.token, control.token, own.token != emitted, control.token != emitted,
            _is_right(desk, number, own.token), _is_right(desk, number, emitted),
        )  # fmt: skip
        yield dict(zip(CAUSES.names, row, strict=True))


def _is_right(desk: Interventions, number: int, token: int) -> bool:
    """Whether a right answer begins with the token's text."""
    said = normalise(desk.model.tokenizer.decode([token]))
    return bool(said) and any(
        normalise(gold).startswith(said) for gold in desk.generations[number]["aliases"]
    )


def summary(table: dict[str, NDArray[Any]], labels: list[int | None], seed: int) -> dict[str, Any]:
    """Figures for the manifest and the validation: agreement of drops with predictions, answers changed by set size."""
    tracks = table["kind"] == "track"
    wrong = np.array([labels[number] == 1 for number in table["question"].tolist()], dtype=bool)
    figures = agreement_of(table, tracks, seed)
    changed = [
        {
            "size": size,
            "wrong_answers": int(rows.sum()),
            "changed": _rounded(share(table["changed"][rows])),
            "control": _rounded(share(table["control_changed"][rows])),
            "became_right": _rounded(share(table["right"][rows & ~table["was_right"]])),
        }
        for size in SET_SIZES
        if (rows := ~tracks & wrong & (table["size"] == size)).any()
    ]
    return {
        "questions": len(np.unique(table["question"])),
        "interventions": 2 * len(tracks),
        "predicted": figures and {name: _rounded(value) for name, value in figures._asdict().items()},
        "changed": changed,
    }


def _rounded(figure: Any) -> Any:
    """A figure or several to three digits; None of none."""
    if isinstance(figure, tuple):
        return [round(each, 3) for each in figure]
    return None if figure is None else round(figure, 3)
