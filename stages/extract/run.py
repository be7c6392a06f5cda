"""Write every layer's states shard by shard; a killed run goes on after its last finished shard."""

import shutil
import time
from typing import Any

import torch

from common import states
from common.errors import DataError, ModelMismatchError, StorageError
from common.files import fsync
from common.language_model import load_language_model
from common.progress import format_bytes
from common.stage import Job
from stages.extract.forward import batches, plan_shards, write_states


def run(job: Job) -> dict[str, Any]:
    settings, layers = job.config.extract, job.work.layers or job.config.layers
    corpus = torch.load(job.input("prepare/corpus", "corpus.pt"), weights_only=True)
    tokens, positions = corpus["tokens"], corpus["position"]
    if not len(tokens):
        raise DataError("the corpus has no tokens; raise data.max_tokens")
    model = load_language_model(job.input_dir("prepare/model"), job.config.model.dtype)
    if int(tokens.max()) >= model.unembedding.shape[0]:
        raise ModelMismatchError(
            "corpus.pt has token ids the model does not know; it was made with another tokenizer. "
            "Run the prepare stage again"
        )
    dtype = getattr(torch, settings.dtype)
    paths = {layer: job.output(f"layer_{layer}_states.pt") for layer in layers}

    def reserve() -> None:
        needed = len(layers) * len(tokens) * model.d_model * dtype.itemsize
        free = shutil.disk_usage(job.staging).free
        if needed > free:
            raise StorageError(
                f"the hidden states need {format_bytes(needed)} and {job.staging} has {format_bytes(free)} free; "
                "lower data.max_tokens, choose fewer model.layers, or another paths.root"
            )
        for path in paths.values():
            states.reserve(path, len(tokens), model.d_model, dtype)

    job.step("reserve", reserve)
    out = {layer: states.open_for_writing(path) for layer, path in paths.items()}
    shards = plan_shards(len(tokens), settings.max_length, settings.shard_rows)
    todo = [number for number in range(len(shards)) if not job.done(_step(number))]
    done_before = len(tokens) - sum(shards[number][1] - shards[number][0] for number in todo)
    started = time.monotonic()
    with job.progress(len(tokens), "tok", f"{len(layers)} layers", initial=done_before) as progress:

        def do_shard(number: int) -> None:
            for start, rows, length in batches(*shards[number], settings.max_length, settings.batch_size):
                write_states(model, tokens, positions, start, rows, length, layers, out)
                progress.update(rows * length)
            for path in paths.values():
                fsync(path)

        for number in todo:
            job.step(_step(number), lambda number=number: do_shard(number))  # type: ignore[misc]
    elapsed = time.monotonic() - started
    documents = corpus["doc"].long()
    torch.save(
        {
            "token": tokens,
            "doc": corpus["doc"],
            "position": positions,
            "held_out": corpus["doc_held_out"][documents],
            "kind": corpus["doc_kind"][documents],
        },
        job.output(f"index_{job.unit}.pt"),
    )
    job.internal.update(batchSize=settings.batch_size, shards=len(shards), shardsDoneNow=len(todo))
    return {
        "tokens": len(tokens),
        "layers": len(layers),
        "d_model": model.d_model,
        "bytes": sum(path.stat().st_size for path in paths.values()),
        "tokens_per_second": round((len(tokens) - done_before) / elapsed, 1) if todo else None,
    }


def _step(number: int) -> str:
    return f"shard_{number:05}"
