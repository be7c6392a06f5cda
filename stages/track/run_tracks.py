"""Units `all` and `independent`: encode the states with the SAEs and follow their latents, a shard of questions a step."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.files import fsync
from ghosttrack.common.formats.answer_states import ACTIVATIONS, ANSWER_STATES
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.association import ASSOCIATION
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.cells import cell_of
from ghosttrack.common.formats.ladder import LADDER
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.tracks import INDEPENDENT, TRACKS
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import shard_name, shards_done
from ghosttrack.stages.track import outputs
from ghosttrack.stages.track.association import Association
from ghosttrack.stages.track.follow_states import follow_states
from ghosttrack.stages.track.readout import ReadOut
from ghosttrack.stages.track.run_answers import language_model_of
from ghosttrack.stages.track.run_association import figures, fit_to_text
from ghosttrack.stages.track.saes import load_saes, load_twins

QUESTIONS_A_SHARD = 128
"""Not a setting: random association is drawn shard by shard."""
TABLES = {"tracks": TRACKS, "ladder": LADDER, "layers": LAYERS}
"""Of a shard, in scratch: what its rows become."""


def run(job: Job) -> dict[str, Any]:
    saes = load_saes(job)
    association = Association.load(job.input("track/association", ASSOCIATION.name))
    read_out = ReadOut.of(language_model_of(job))
    answers = Answers(job, "track/answers")
    shards = track_all(job, saes, association, read_out, answers, job.config.tracking.ladder)
    if job.rank:
        return {}
    for name, table in TABLES.items():
        table.join(job.output(table.name), _pieces(job, shards, name))
    nodes = pq.ParquetFile(job.output(TRACKS.name)).metadata.num_rows
    outputs.write_activations(
        job.output(ACTIVATIONS.name), _tables(job, shards, "tracks"), nodes, answers.owner,
        job.config.layers, max(sae.d_hidden for sae in saes),
    )  # fmt: skip
    return _metrics(job, shards, answers)


def run_independent(job: Job) -> dict[str, Any]:
    """The same tracks of SAEs that were trained apart, for the ablation."""
    saes = load_twins(job)
    model = language_model_of(job)
    kept, figures_kept = job.scratch("twins.pt"), job.scratch("twins.json")

    def fit_them() -> None:
        association, found, _ = fit_to_text(job, model, saes)
        association.save(kept)
        figures_kept.write_text(json.dumps(figures(found)), "utf-8")
        for file in (kept, figures_kept):
            fsync(file)

    job.once("association", fit_them)
    answers = Answers(job, "track/answers")
    shards = track_all(job, saes, Association.load(kept), ReadOut.of(model), answers, [])
    if job.rank:
        return {}
    INDEPENDENT.join(job.output(INDEPENDENT.name), _pieces(job, shards, "tracks"))
    return {**_metrics(job, shards, answers), "association": json.loads(figures_kept.read_text("utf-8"))}


def run_asked(job: Job) -> dict[str, Any]:
    """Tracks of the answers to new questions: what the stored detector reads, no more."""
    saes = job.kept("saes", lambda: load_saes(job))
    association = job.kept(
        "association", lambda: Association.load(job.input("track/association", ASSOCIATION.name))
    )
    read_out = job.kept("read-out", lambda: ReadOut.of(language_model_of(job)))
    answers = Answers(job, "track/asked_answers")
    shards = track_all(job, saes, association, read_out, answers, [])
    if job.rank:
        return {}
    for name in ("tracks", "layers"):
        TABLES[name].join(job.output(TABLES[name].name), _pieces(job, shards, name))
    return _metrics(job, shards, answers)


class Answers:
    """What a unit of answers wrote. owner: int64 [n_problems, 2], question and position; states: memory-mapped."""

    def __init__(self, job: Job, unit: str) -> None:
        self.generations = GENERATIONS.read(job.input(unit, GENERATIONS.name))
        states = np.load(job.input(unit, ANSWER_STATES.name), mmap_mode="c", allow_pickle=False)
        self.states = torch.from_numpy(states)
        positions = POSITIONS.read(job.input(unit, POSITIONS.name))
        self.owner = np.stack([positions["question"], positions["position"]], axis=1).astype(np.int64)
        self.candidates = CANDIDATES.read(job.input(unit, CANDIDATES.name))
        self.m = int(self.candidates["rank"].max()) + 1
        tokens = self.candidates["token"].reshape(-1, self.m)
        first = np.searchsorted(self.candidates["question"][:: self.m], self.owner[:, 0])
        self.tokens = torch.from_numpy(tokens[first + np.maximum(self.owner[:, 1], 0)].astype(np.int64))
        """int64 [n_problems, m], the candidates that compete at each."""


def track_all(
    job: Job,
    saes: list[JumpReLUSAE],
    association: Association,
    read_out: ReadOut,
    answers: Answers,
    ladder: Sequence[Any],
) -> range:
    """Write the tables of each shard to scratch; the shards. Where several processes do it together, each takes every
    so-many-th shard, and all come back when all are done."""
    settings, layers = job.config.tracking, job.config.layers
    most = len(layers) * settings.top_k_features
    if most > np.iinfo(np.int16).max:
        raise ConfigError(
            f"{len(layers)} layers of {settings.top_k_features} latents can be {most:,} tracks, and tracks are numbered to "
            "32,767; lower tracking.top_k_features or choose fewer layers with model.layers"
        )
    starts = range(0, len(answers.generations), QUESTIONS_A_SHARD)

    def do(number: int) -> None:
        low, high = np.searchsorted(answers.owner[:, 0], [starts[number], starts[number] + QUESTIONS_A_SHARD])
        found = follow_states(
            answers.states[low:high], answers.owner[low:high], answers.tokens[low:high], saes, association,
            read_out, k=settings.top_k_features, associator=settings.associator, ladder=ladder,
            seed=int(generator(job.config.seed, "random association", f"tracks_{number:05}").integers(2**32)),
        )  # fmt: skip
        tables = {"tracks": found.nodes, "ladder": found.ladder, "layers": found.layers}
        for table, columns in tables.items():
            if columns:
                [path] = _pieces(job, [number], table)
                outputs.write_parquet(path, columns)
                fsync(path)

    sizes = [min(QUESTIONS_A_SHARD, len(answers.generations) - start) for start in starts]
    shards_done(job, sizes, "tracks", lambda: (torch.device("cpu"), do))
    return range(len(starts))


def _pieces(job: Job, shards: Iterable[int], table: str) -> list[Path]:
    return [job.scratch(f"{shard_name(number)}.{table}.parquet") for number in shards]


def _tables(job: Job, shards: range, table: str) -> Iterator[dict[str, NDArray[Any]]]:
    for piece in _pieces(job, shards, table):
        yield TABLES[table].read(piece)


def _metrics(job: Job, shards: range, answers: Answers) -> dict[str, Any]:
    """Sums over the shards. left_out: by reason, what a reader of the tables might look for in vain: positions, latents, whole
    scans."""
    tracks = nodes = empty = beyond = 0
    for table in _tables(job, shards, "tracks"):
        tracks += len(np.unique((cell_of(table["question"], table["position"]) << 16) + table["track"]))
        nodes += len(table["track"])
    for table in _tables(job, shards, "layers"):
        empty += int((table["n_active"] == 0).sum())
        beyond += int(np.maximum(table["n_active"] - job.config.tracking.top_k_features, 0).sum())
    return {
        "tracks": tracks,
        "nodes": nodes,
        "left_out": {
            "subject_not_found": sum(not line["subject_found"] for line in answers.generations),
            "empty_answer": sum(not line["token_ids"] for line in answers.generations),
            "scans_without_active_latent": empty,
            "active_beyond_top_k": beyond,
        },
    }
