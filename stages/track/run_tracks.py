"""Units `all` and `independent`: encode the states with the SAEs and follow their latents, a shard of questions a step."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.ladder import LADDER, Associator
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.saes import INDEPENDENT_SAE
from ghosttrack.common.formats.tracks import INDEPENDENT, TRACKS
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import shard_name, shards_done
from ghosttrack.stages.track import outputs
from ghosttrack.stages.track.association import Association
from ghosttrack.stages.track.follow_states import follow_states
from ghosttrack.stages.track.loaded import language_model_of, load_saes
from ghosttrack.stages.track.questions import of_new_questions
from ghosttrack.stages.track.readout import ReadOut
from ghosttrack.stages.track.run_association import figures, fit_to_text

QUESTIONS_A_SHARD = 128
"""Not a setting: random association is drawn shard by shard."""
TABLES = {"tracks": TRACKS, "ladder": LADDER, "layers": LAYERS}
"""Of a shard, in scratch: what its rows become."""


def run(job: Job) -> dict[str, Any]:
    saes = job.kept("saes", lambda: load_saes(job))
    path = job.input(ASSOCIATION)
    association = job.kept("association", lambda: Association.load(path))
    read_out = job.kept("read-out", lambda: ReadOut.of(language_model_of(job)))
    answers = Answers(job)
    if of_new_questions(job):  # what the stored detector reads, no more
        tables = {"tracks": TRACKS, "layers": LAYERS}
        return track_all(job, saes, association, read_out, answers, tables)
    if metrics := track_all(job, saes, association, read_out, answers, TABLES, job.config.tracking.ladder):
        nodes, widest = _tables(job, answers, "tracks"), max(sae.d_hidden for sae in saes)
        path, layers = job.output(ACTIVATIONS), job.config.layers
        outputs.write_activations(path, nodes, metrics["nodes"], answers.owner, layers, widest)
    return metrics


def run_independent(job: Job) -> dict[str, Any]:
    """The same tracks of SAEs that were trained apart, for the ablation."""
    saes = load_saes(job, INDEPENDENT_SAE)
    model = language_model_of(job)
    kept, figures_kept = job.scratch("twins.pt"), job.scratch("twins.json")

    def fit_them() -> None:
        association, found, _ = fit_to_text(job, model, saes)
        association.save(kept)
        figures_kept.write_text(json.dumps(figures(found)), "utf-8")
        for file in (kept, figures_kept):
            fsync(file)

    job.once("association", fit_them)
    answers, read_out = Answers(job), ReadOut.of(model)
    metrics = track_all(job, saes, Association.load(kept), read_out, answers, {"tracks": INDEPENDENT})
    return metrics and {**metrics, "association": json.loads(figures_kept.read_text("utf-8"))}


class Answers:
    """What a unit of answers wrote. owner: int64 [n_problems, 2], question and position; states: memory-mapped."""

    def __init__(self, job: Job) -> None:
        self.generations = GENERATIONS.read(job.input(GENERATIONS))
        states = np.load(job.input(ANSWER_STATES), mmap_mode="c", allow_pickle=False)
        self.states = torch.from_numpy(states)
        positions = POSITIONS.read(job.input(POSITIONS))
        self.owner = np.stack([positions["question"], positions["position"]], axis=1).astype(np.int64)
        candidates = CANDIDATES.read(job.input(CANDIDATES), ["question", "rank", "token"])
        m = int(candidates["rank"].max()) + 1
        tokens = candidates["token"].reshape(-1, m)
        first = np.searchsorted(candidates["question"][::m], self.owner[:, 0])
        self.tokens = torch.from_numpy(tokens[first + np.maximum(self.owner[:, 1], 0)].astype(np.int64))
        """int64 [n_problems, m], the candidates that compete at each."""
        self.shards = range(0, len(self.generations), QUESTIONS_A_SHARD)
        """The first question of each."""


def track_all(
    job: Job,
    saes: list[JumpReLUSAE],
    association: Association,
    read_out: ReadOut,
    answers: Answers,
    tables: Mapping[str, Table],
    ladder: Sequence[Associator] = (),
) -> dict[str, Any]:
    """Follow the latents of all answers and publish tables of it; the metrics. tables: what to publish of TABLES, by its names.
    Where several processes do it together, each takes every so-many-th shard, and one of them gathers; empty of the others."""
    settings, layers = job.config.tracking, job.config.layers
    most = len(layers) * settings.top_k_features
    if most > np.iinfo(np.int16).max:
        raise ConfigError(
            f"{len(layers)} layers of {settings.top_k_features} latents can be {most:,} tracks, and tracks are numbered to "
            "32,767; lower tracking.top_k_features or choose fewer layers with model.layers"
        )
    starts = answers.shards

    def do(number: int) -> None:
        low, high = np.searchsorted(answers.owner[:, 0], [starts[number], starts[number] + QUESTIONS_A_SHARD])
        found = follow_states(
            answers.states[low:high], answers.owner[low:high], answers.tokens[low:high], saes, association,
            read_out, k=settings.top_k_features, associator=settings.associator, ladder=ladder,
            seed=int(generator(job.config.seed, "random association", f"tracks_{number:05}").integers(2**32)),
        )  # fmt: skip
        for name, columns in found.items():
            if columns:
                path = _piece(job, number, name)
                outputs.write_parquet(path, columns)
                fsync(path)

    sizes = [min(QUESTIONS_A_SHARD, len(answers.generations) - start) for start in starts]
    if not shards_done(job, sizes, "tracks", lambda: (torch.device("cpu"), do)):
        return {}
    for name, table in tables.items():
        table.join(job.output(table), [_piece(job, number, name) for number in range(len(starts))])
    return _metrics(job, answers)


def _piece(job: Job, shard: int, table: str) -> Path:
    return job.scratch(f"{shard_name(shard)}.{table}.parquet")


def _tables(job: Job, answers: Answers, table: str) -> Iterator[dict[str, NDArray[Any]]]:
    return (TABLES[table].read(_piece(job, number, table)) for number in range(len(answers.shards)))


def _metrics(job: Job, answers: Answers) -> dict[str, Any]:
    """Sums over the shards. left_out: by reason, what a reader of the tables might look for in vain: positions, latents, whole
    scans."""
    tracks = nodes = empty = beyond = 0
    for table in _tables(job, answers, "tracks"):
        tracks += len(np.unique((cell_of(table["question"], table["position"]) << 16) + table["track"]))
        nodes += len(table["track"])
    for table in _tables(job, answers, "layers"):
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
