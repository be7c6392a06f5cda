"""Extraction beside the bare forward pass, on the same tokens: `python benchmarks/extract.py`.

Three ways take turns: the backbone alone, with no hook and no language-model head; ours, with every layer stored; and
one pass a layer, as the upstream project did it: for each layer a forward pass of the backbone that records all hidden
states, of which that layer's are stored as float32. Of the last way, one layer in ten is run and counted tenfold.

The model is that of a finished `make demo`, or with `--shape gpt2-medium` random weights of that shape, made here. Memory
is measured in two processes of their own, which extract 50,000 and 500,000 tokens (with `--quick` 2,500 and 10,000) after
a first batch: the most that was resident, less what was before the first batch. Ends with one line of JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ghosttrack.common.formats.corpus import read_corpus
from ghosttrack.common.formats.states import DTYPES, StatesWriter, reserve
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.stages.extract.forward import batches, write_states

LENGTH, BATCH, EVERY = 256, 8, 10
SEGMENT = 64
"""Tokens of a document in the packed rows."""


def main() -> None:
    options = arguments()
    if options.memory:
        print(measure_memory(options.model, options.memory, DTYPES[options.dtype]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        if options.shape:
            options.model = folder / "model"
            make_model(options.shape, options.model)
        if not (options.model / "config.json").exists():
            sys.exit(
                f"{options.model} holds no model: run `make demo` first, or give --model or --shape gpt2-medium"
            )
        speeds = measure_speed(options.model, folder, DTYPES[options.dtype], options.quick)
        sizes = [2_500, 10_000] if options.quick else options.memory_tokens
        memory = {size: in_a_process_of_its_own(options, size) for size in sizes}
    print(
        json.dumps(
            {
                "ratio_to_bare": round(speeds["ours"] / speeds["bare"], 3),
                "ratio_to_per_layer": round(speeds["ours"] / speeds["per_layer"], 1),
                "extra_rss_mib": max(memory.values()),
                "extra_rss_mib_by_tokens": memory,
                "tokens_per_second": round(speeds["ours"], 1),
                "dtype": options.dtype,
                "model": options.shape or str(options.model),
            }
        )
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("data/cache/demo/model"), help="a model's folder")
    parser.add_argument("--shape", choices=["gpt2-medium"], help="random weights of this shape instead")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16", help="storage type of the states")
    parser.add_argument("--folder", type=Path, help="where scratch files go; 35 kB a token for 30 layers")
    parser.add_argument("--memory-tokens", type=int, nargs="+", default=[50_000, 500_000], metavar="N",
                        help="corpora for which memory is measured; half a million tokens take long")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer tokens and turns")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_model(shape: str, folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=1024, n_layer=24, n_head=16)).save_pretrained(folder)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({"<|endoftext|>": 0}))
    merges.write_text("#version: 0.2\n")
    GPT2Tokenizer(str(vocabulary), str(merges)).save_pretrained(folder)


def packed(model: LanguageModel, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Random tokens and positions, int32 [n_tokens], in documents of SEGMENT tokens."""
    tokens = torch.randint(len(model.tokenizer), (n_tokens,), dtype=torch.int32)
    return tokens, (torch.arange(n_tokens) % SEGMENT).int()


def open_files(
    folder: Path, model: LanguageModel, n_tokens: int, dtype: torch.dtype
) -> dict[int, StatesWriter]:
    folder.mkdir()
    files = {}
    for layer in range(len(model.blocks)):
        reserve(folder / f"layer_{layer}_states.pt", n_tokens, model.d_model, dtype)
        files[layer] = StatesWriter(folder / f"layer_{layer}_states.pt")
    return files


def measure_speed(snapshot: Path, folder: Path, dtype: torch.dtype, quick: bool) -> dict[str, float]:
    """Tokens a second of the three ways: medians of turns that take their places in the order anew each time."""
    model = load_language_model(snapshot)
    n_tokens = LENGTH * BATCH * (1 if quick else 2)
    tokens, positions = packed(model, n_tokens)
    plan = batches(0, n_tokens, LENGTH, BATCH)
    out = open_files(folder / "ours", model, n_tokens, dtype)
    recorded = open_files(folder / "per_layer", model, n_tokens, torch.float32)

    def inputs(start: int, rows: int, length: int) -> dict[str, Tensor]:
        ids, places = (
            t[start : start + rows * length].long().view(rows, length) for t in (tokens, positions)
        )
        return {"input_ids": ids, "position_ids": places}

    @torch.inference_mode()
    def bare() -> None:
        for batch in plan:
            model.backbone(**inputs(*batch), use_cache=False)

    def ours() -> None:
        for batch in plan:
            write_states(model, tokens, positions, batch, out)
        for file in out.values():
            file.sync()

    @torch.inference_mode()
    def per_layer() -> None:
        for layer in range(EVERY // 2, len(model.blocks), EVERY):
            for batch in plan:
                record = model.backbone(
                    **inputs(*batch), use_cache=False, output_hidden_states=True
                ).hidden_states
                recorded[layer].write(batch[0], record[layer + 1].flatten(0, 1))
            recorded[layer].sync()

    ways: dict[str, Callable[[], None]] = {"bare": bare, "ours": ours, "per_layer": per_layer}
    passes = len(range(EVERY // 2, len(model.blocks), EVERY))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    bare()
    ours()
    for turn in range(3 if quick else 9):
        names = list(ways)
        for name in names[turn % 3 :] + names[: turn % 3]:
            if name == "per_layer" and turn >= 3:
                continue
            start = time.perf_counter()
            ways[name]()
            elapsed = time.perf_counter() - start
            seconds[name].append(elapsed * len(model.blocks) / passes if name == "per_layer" else elapsed)
            print(f"{name:<10} {n_tokens / seconds[name][-1]:8.1f} tok/s", file=sys.stderr)
    return {name: n_tokens / statistics.median(values) for name, values in seconds.items()}


def measure_memory(snapshot: Path, n_tokens: int, dtype: torch.dtype) -> int:
    """MiB resident at most from reading a corpus of n_tokens to its index, less those before, when the model is loaded."""
    model = load_language_model(snapshot)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus.pt", model, n_tokens)
        for parameter in model.model.parameters():  # a mapped file's pages count once they are touched
            parameter.sum()
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
        corpus = read_corpus(folder / "corpus.pt", model.unembedding.shape[0])
        out = open_files(folder / "states", model, n_tokens, dtype)
        for batch in batches(0, n_tokens, LENGTH, BATCH):
            write_states(model, corpus.token, corpus.position, batch, out)
        torch.save(corpus.index(), folder / "index.pt")
        return round((_resident("VmHWM") - before) / 1024)


def write_corpus(path: Path, model: LanguageModel, n_tokens: int) -> None:
    """As the prepare stage writes one."""
    tokens, positions = packed(model, n_tokens)
    doc = torch.arange(n_tokens, dtype=torch.int32) // SEGMENT
    kind = torch.zeros(int(doc[-1]) + 1, dtype=torch.uint8)
    torch.save(
        {"tokens": tokens, "doc": doc, "position": positions, "doc_held_out": kind.bool(), "doc_kind": kind},
        path,
    )


def _resident(name: str) -> int:
    """kB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def in_a_process_of_its_own(options: argparse.Namespace, n_tokens: int) -> int:
    command = [sys.executable, __file__, "--model", str(options.model), "--dtype", options.dtype]
    done = subprocess.run(
        [*command, "--memory", str(n_tokens)], stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, **({"TMPDIR": str(options.folder)} if options.folder else {})},
    )  # fmt: skip
    return int(done.stdout)


if __name__ == "__main__":
    main()
