"""Unit `account`: read every question with its answer once more, and take apart what the lens says of the candidates and
where each tracked latent's activation came from, a shard of questions a step.

The tracked latents are those of tracks.parquet. What the SAE's other latents, its bias and its error hold is of the state
as it is read here, in the arithmetic of the model.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.files import fsync
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.file import only, write_json
from ghosttrack.common.formats.origins import ORIGINS, SHARES
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import Step, shard_name, shards_done
from ghosttrack.common.models.writes import Writes, join_writes
from ghosttrack.stages.track.account import Head, columns_of, states_apart, take_apart
from ghosttrack.stages.track.loaded import language_model_of, load_saes
from ghosttrack.stages.track.nodes import COLUMNS, Nodes
from ghosttrack.stages.track.origins import births, contributions, shares
from ghosttrack.stages.track.questions import even, questions_of
from ghosttrack.stages.track.rereading import Rereader, text_of
from ghosttrack.stages.track.run_tracks import QUESTIONS_A_SHARD, Answers

QUESTIONS_AT_A_TIME = 16
POSITIONS_A_SHARD = 4096
POSITIONS_AT_A_TIME = 256
"""What is held of one is the stream by its parts at every layer: 0.5 MB in a model of 30 layers, 576 wide."""
FILES = (ACCOUNT, ORIGINS)

Columns = dict[str, NDArray[Any]]


def run(job: Job) -> dict[str, Any]:
    questions = questions_of(job)
    positions = len(POSITIONS.read(job.input(POSITIONS), ["position"])["position"])
    long = POSITIONS_A_SHARD * len(questions) // max(positions, 1)
    size = even(len(questions), max(min(QUESTIONS_A_SHARD, long), 1))
    shards = [range(first, min(first + size, len(questions))) for first in range(0, len(questions), size)]

    def begin() -> tuple[torch.device, Step]:
        desk = _Desk(job, questions)
        return desk.model.device, lambda number: _do_shard(job, desk, number, shards[number])

    if not shards_done(job, [*map(len, shards)], "account", begin):
        return {}
    pieces = [_kept(job, number) for number in range(len(shards))]
    for number, file in enumerate(FILES):
        file.join(job.output(file), [piece[number] for piece in pieces])
    metrics = _metrics([piece[0] for piece in pieces])
    if untold := metrics["layers_untold"]:
        job.log.warning(
            f"what attention and MLP wrote cannot be told at layers {untold}{_why(job, len(shards))}; the account by tracks, "
            "other latents, bias and error holds there, and what stood in the stream before is told"
        )
    return metrics


def _do_shard(job: Job, desk: "_Desk", number: int, shard: range) -> None:
    tracked = TRACKS.read(job.input(TRACKS), COLUMNS, where=only(shard))
    parts = [desk.account(rows, tracked) for rows in batches(desk.answers.owner, shard)]
    for file, tables, kept in zip(FILES, zip(*parts, strict=True), _kept(job, number), strict=True):
        file.write(kept, _join(tables))
        fsync(kept)
    told = job.scratch(f"{shard_name(number)}.untold.json")
    write_json(told, desk.reader.untold)
    fsync(told)


def batches(owner: NDArray[np.int64], shard: range) -> Iterator[slice]:
    """Rows of owner ([n, 2], question and position, sorted) of some questions, as many as are read at a time: a long answer
    is cut."""
    first, end = np.searchsorted(owner[:, 0], [shard.start, shard.stop])
    while first < end:
        others = np.searchsorted(owner[:, 0], owner[first, 0] + QUESTIONS_AT_A_TIME)
        stop = min(first + POSITIONS_AT_A_TIME, others, end)
        yield slice(first, stop)
        first = stop


def _why(job: Job, shards: int) -> str:
    """In brackets: the first reason that a shard gives for what it could not tell."""
    files = (job.scratch(f"{shard_name(number)}.untold.json") for number in range(shards))
    reasons = (reason for file in files for reason in json.loads(file.read_bytes()).values())
    return next((f" ({reason})" for reason in reasons), "")


class _Desk:
    """What is needed to account for questions, loaded once."""

    def __init__(self, job: Job, questions: list[dict[str, Any]]) -> None:
        self._saes: list[JumpReLUSAE] = job.kept("saes", lambda: load_saes(job))
        self._layers, self._questions = job.config.layers, questions
        self.model = language_model_of(job)
        self.answers = Answers(job)
        self._k = job.config.tracking.top_k_features
        self._head, self.reader = Head.of(self.model), Rereader(self.model)
        if not self._head.norm.plain and not job.rank:
            job.log.warning(
                "the model's final norm is not gain, bias and one scale a state: by that form it is told to "
                f"{self._head.norm.error:.1%}, and what remains of the logits is in column `rest` of {ACCOUNT.name}"
            )

    @torch.inference_mode()
    def account(self, rows: slice, tracked: Columns) -> tuple[Columns, Columns]:
        """Rows of account.parquet and of origins.parquet of some positions. tracked: for `Nodes`."""
        owner = self.answers.owner[rows]
        active, previous, _, where = Nodes.of(tracked, owner, self._layers, self._k)
        writes = self._read(owner)
        held = states_apart(writes, active, self._saes, self._layers)
        account = take_apart(
            writes, held, self.answers.tokens[rows], self._layers, self._head, self.model.final_norm
        )
        given = contributions(writes, held, active, previous, self._saes, self._layers)
        of_nodes = shares(given, active.activations)[where].numpy()
        begins = previous[where].numpy() < 0
        columns = {name: of_nodes[:, number].astype(np.float16) for number, name in enumerate(SHARES)}
        return columns_of(account, owner, self._layers), {**columns, "birth": births(of_nodes, begins)}

    def _read(self, owner: NDArray[np.int64]) -> Writes:
        """Those with one prefix together."""
        parts = []
        for _, group in groupby(np.unique(owner[:, 0]), key=lambda number: self._questions[number]["prefix"]):
            texts = []
            for number in group:
                positions = owner[owner[:, 0] == number, 1]
                answer = self.answers.generations[number]["token_ids"][: max(positions[-1], 0)]
                texts.append(text_of(self.model, self._questions[number], answer, positions))
            parts.append(self.reader.writes(texts))
        return join_writes(parts)


def _kept(job: Job, number: int) -> tuple[Path, ...]:
    return tuple(job.scratch(f"{shard_name(number)}.{file.name}") for file in FILES)


def _join(tables: tuple[Columns, ...]) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _metrics(pieces: list[Any]) -> dict[str, Any]:
    """completeness: the largest relative error of any account; leader_is_emitted: share of the positions that predict at
    whose last layer the leader is the emitted token; layers_untold: those where what attention and MLP wrote is absent."""
    worst, leads, count = 0.0, 0, 0
    untold: set[int] = set()
    for piece in pieces:
        table = ACCOUNT.read(piece, ["position", "layer", "leader", "rest", "mlp"])
        worst = max(worst, float(table["rest"].max(initial=0.0)))
        last = (table["layer"] == table["layer"].max(initial=0)) & (table["position"] >= 0)
        leads, count = leads + int((table["leader"][last] == 0).sum()), count + int(last.sum())
        untold |= set(table["layer"][np.isnan(table["mlp"]).any(1)].tolist())
    return {
        "completeness_error": float(f"{worst:.3g}"),
        "leader_is_emitted": round(leads / max(count, 1), 5),
        "layers_untold": sorted(untold),
    }
