"""Write every layer's states shard by shard; a killed run goes on after its last finished shard.

Where several processes do it together, each takes every so-many-th shard and writes its own rows.
"""

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate.utils import find_executable_batch_size

from ghosttrack.common.engine.costs import FLOAT
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ConfigError, NumericError, StorageError
from ghosttrack.common.formats import states
from ghosttrack.common.formats.corpus import CORPUS, Corpus, read_corpus
from ghosttrack.common.formats.states import STATES
from ghosttrack.common.maths.sampling import sampled_rows
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.steps import steps_done
from ghosttrack.stages.extract.costs import BLOCK_WIDTH
from ghosttrack.stages.extract.forward import (
    batches,
    flop_per_token,
    largest_states,
    peak_flops,
    plan_shards,
    write_states,
)

HEADERS = 0.01
"""Share of the room that the headers of files may take beyond the plan's prediction, where files are tiny."""
POSITION_ZERO = (
    "kept, as every token; position 0 begins a segment, and SAEs are not trained on it (attention sink)"
)


def run(job: Job) -> dict[str, Any]:
    settings, layers = job.config.extract, job.work.layers or job.config.layers
    model = load_language_model(job.input_dir("prepare/model"), **job.config.model.loading)
    corpus = corpus_of(job, model)
    paths = {layer: job.output(STATES.of(layer)) for layer in layers}

    def reserve() -> None:
        for leftover in job.output("").iterdir():  # of a run that was killed while it reserved
            leftover.unlink()
        dtypes = dtypes_of(job, model, corpus, layers)
        row = sum(states.row_bytes(model.d_model, dtype) for dtype in dtypes.values())
        check_room(job, len(corpus) * row)
        for layer, path in paths.items():
            states.reserve(path, len(corpus), model.d_model, dtypes[layer])

    job.once("reserve", reserve)
    shards = plan_shards(len(corpus), settings.max_length, settings.shard_rows)
    mine = [number for number in range(len(shards)) if number % job.ranks == job.rank]
    todo = [number for number in mine if not job.done(step_of(number))]
    peak = peak_flops(model.device, model.model.dtype)
    started = time.monotonic()
    with contextlib.ExitStack() as files:
        out = {layer: files.enter_context(states.StatesWriter(path)) for layer, path in paths.items()}
        forward = ForwardPass(job, model, corpus, out, settings.batch_size)
        forward.do({number: shards[number] for number in mine})
    elapsed = time.monotonic() - started
    job.once("index", lambda: torch.save(corpus.index(), job.output(f"index_{job.unit}.pt")))
    job.internal.update(
        batchSize=settings.batch_size, batchSizeUsed=forward.batch_size, shards=len(shards), shardsDoneNow=len(todo),
        positionZero=POSITION_ZERO,
    )  # fmt: skip
    done = sum(shards[number][1] - shards[number][0] for number in todo)
    flops = flop_per_token(model, max(layers), settings.max_length) * done / elapsed
    return {
        "tokens": len(corpus),
        "layers": len(layers),
        "d_model": model.d_model,
        "bytes": sum(path.stat().st_size for path in paths.values()),
        "tokens_per_second": round(done / elapsed * job.ranks, 1) if todo else None,
        "model_flop_utilisation": float(f"{flops / peak:.3g}") if todo else None,
        "gemm_flops": peak,
    }


def dtypes_of(job: Job, model: LanguageModel, corpus: Corpus, layers: list[int]) -> dict[int, torch.dtype]:
    """The storage type of each layer: the one configured, or under `auto` the one with room for what is measured."""
    settings = job.config.extract
    if settings.dtype != "auto":
        return dict.fromkeys(layers, states.DTYPES[settings.dtype])
    largest = largest_states(model, corpus.token, corpus.position, settings.max_length, layers)
    dtypes = {layer: states.roomy_dtype(number) for layer, number in largest.items()}
    if wide := [layer for layer, dtype in dtypes.items() if dtype != torch.float16]:
        job.log.info(
            f"layers {wide} are stored as bfloat16: their states reach {max(largest.values()):,.0f}, "
            "which leaves no room in float16"
        )
    return dtypes


def check_room(job: Job, needed: int) -> None:
    """Raise StorageError where the disk, or `extract.max_disk_gb`, has no room for this unit's states.

    needed: their bytes. A scheduler bounds how many waves are at work; those that failed keep their states too.
    """
    settings = job.config
    limit, others = settings.extract.max_disk_gb, states_of_others(job)
    if limit is not None and others + needed > limit * 1e9 * (1 + HEADERS):
        raise StorageError(
            f"{job.unit}: its hidden states take {format_bytes(needed)}, those of others already take "
            f"{format_bytes(others)}, and extract.max_disk_gb allows {limit:g} GB; bring the others to their end first, "
            f"with `ghosttrack rerun {settings.name}` when nothing of this run is at work any more"
        )
    free = shutil.disk_usage(job.staging).free
    if needed > free:
        raise StorageError(
            f"the hidden states need {format_bytes(needed)} and {job.staging} has {format_bytes(free)} free; "
            "lower data.max_tokens or extract.layers_per_wave, take extract.dtype=int8, or another paths.root"
        )


def states_of_others(job: Job) -> int:
    """Bytes of the hidden states that other units of this configuration have, finished or in progress."""
    files = Store(job.config.paths.root).files_at(job.config.name, job.work.stage)
    return sum(
        file.stat().st_size for unit, file in files if unit != job.unit and file.name.endswith("_states.pt")
    )


def corpus_of(job: Job, model: LanguageModel) -> Corpus:
    """What this unit reads: all of the corpus, or of it the pooled sample of all layers."""
    corpus = read_corpus(job.input(CORPUS), model.unembedding.shape[0])
    if job.work.layers:
        return corpus
    length = job.config.extract.max_length
    count = sampled_rows(
        len(corpus), length, job.config.sae_training.base_tokens_per_layer, job.config.data.held_out_fraction
    )
    if count is None:
        return corpus
    rows = generator(job.config.seed, "extract").permutation(len(corpus) // length)
    return corpus.rows(torch.from_numpy(np.sort(rows[:count])), length)


@dataclass
class ForwardPass:
    """One process's way through its shards."""

    job: Job
    model: LanguageModel
    corpus: Corpus
    out: dict[int, states.StatesWriter]
    batch_size: int
    """Rows a forward pass that memory was enough for so far."""
    _clamped: set[int] = field(default_factory=set)
    """Layers whose states went beyond the type that was measured to hold them."""

    def do(self, shards: dict[int, tuple[int, int]]) -> None:
        """Do the shards that are not done, each a step. shards: number to token range.

        Where memory runs out it goes on with half the batch. Raises ConfigError where one row is too much.
        """
        sizes = {number: stop - start for number, (start, stop) in shards.items()}
        before = sum(size for number, size in sizes.items() if self.job.done(step_of(number)))
        row = sum(file.row_bytes for file in self.out.values())
        written = 0

        def go_on(batch_size: int) -> None:
            nonlocal written
            if batch_size < self.batch_size:
                self.job.log.warning(f"out of memory: {batch_size} rows a forward pass from here on")
                self.batch_size = batch_size
            do = lambda number: self._shard(number, *shards[number])  # noqa: E731
            for number in steps_done(self.job, self.model.device, list(shards), step_of, do, self._needed):
                written += sizes[number] * row
                progress.update(sizes[number])
                progress.note(f"{format_bytes(written)} written")

        what = f"{self.job.unit}, {len(self.out)} layers"
        with self.job.progress(sum(sizes.values()), "tok", what, initial=before) as progress:
            try:
                find_executable_batch_size(go_on, self.batch_size, lambda: self.batch_size // 2)()
            except RuntimeError as error:
                if "reached zero" not in str(error):
                    raise
                raise ConfigError(
                    "memory is not enough for one row of the corpus; lower extract.max_length, or take "
                    "model.dtype=bfloat16"
                ) from error

    @property
    def _needed(self) -> int:
        """Bytes of a batch, whose size was chosen for one process."""
        length = self.job.config.extract.max_length
        return FLOAT * self.batch_size * length * self.model.d_model * (len(self.out) + BLOCK_WIDTH)

    def _shard(self, number: int, start: int, stop: int) -> None:
        length = self.job.config.extract.max_length
        for batch in batches(start, stop, length, self.batch_size):
            try:
                beyond = write_states(
                    self.model, self.corpus.token, self.corpus.position, batch, self.out,
                    clamped=self.job.config.extract.dtype == "auto",
                )  # fmt: skip
            except NumericError as error:
                raise NumericError(f"shard {number}, {error}") from error
            if beyond - self._clamped:
                self.job.log.warning(
                    f"layers {sorted(beyond - self._clamped)}: states beyond float16 in shard {number}, more than {states.ROOM:g} "
                    "times what was measured, are stored as its largest number; extract.dtype=bfloat16 holds them"
                )
                self._clamped |= beyond
        with ThreadPoolExecutor(self.job.config.extract.num_workers) as threads:
            for _ in threads.map(states.StatesWriter.sync, self.out.values()):
                pass  # looked at, so that errors are raised


def step_of(shard: int) -> str:
    return f"shard_{shard:05}"
