"""Extraction beside the bare forward pass, on the same tokens, in turn: `python benchmarks/extract.py`.

Needs a finished `make demo` (its model snapshot and corpus). Three ways take turns: the backbone alone
with no hook and no language-model head; ours, with every layer stored as float16; and one pass a layer,
of which one layer in ten is run and counted tenfold. Ends with one line of JSON: ratios of tokens a second.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from common import states
from common.language_model import load_language_model
from stages.extract.forward import batches, write_states

LENGTH, BATCH, EVERY = 256, 8, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("data/cache/demo"))
    parser.add_argument("--quick", action="store_true", help="fewer tokens and turns")
    options = parser.parse_args()
    model = load_language_model(options.cache / "model")
    corpus = torch.load(options.cache / "corpus/corpus.pt", weights_only=True)
    n_tokens = LENGTH * BATCH * (1 if options.quick else 4)
    tokens, positions = corpus["tokens"][:n_tokens], corpus["position"][:n_tokens]
    layers = list(range(len(model.blocks)))
    plan = batches(0, n_tokens, LENGTH, BATCH)

    with tempfile.TemporaryDirectory() as folder:
        paths = {layer: Path(folder) / f"layer_{layer}_states.pt" for layer in layers}
        for path in paths.values():
            states.reserve(path, n_tokens, model.d_model, torch.float16)
        out = {layer: states.open_for_writing(path) for layer, path in paths.items()}

        @torch.inference_mode()
        def bare() -> None:
            for start, rows, length in plan:
                ids, places = (
                    t[start : start + rows * length].long().view(rows, length) for t in (tokens, positions)
                )
                model.backbone(input_ids=ids, position_ids=places, use_cache=False)

        def ours() -> None:
            for start, rows, length in plan:
                write_states(model, tokens, positions, start, rows, length, layers, out)

        def per_layer() -> None:
            for layer in layers[EVERY // 2 :: EVERY]:
                for start, rows, length in plan:
                    write_states(model, tokens, positions, start, rows, length, [layer], out)

        ways = {"bare": bare, "ours": ours, "per_layer": per_layer}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        bare()
        for _ in range(3 if options.quick else 5):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append((time.perf_counter() - start) * (EVERY if name == "per_layer" else 1))
    ratios = {
        name: statistics.median(
            other / mine for other, mine in zip(seconds[name], seconds["ours"], strict=True)
        )
        for name in ("bare", "per_layer")
    }
    print(
        json.dumps(
            {
                "ratio_to_bare": round(ratios["bare"], 3),
                "ratio_to_per_layer": round(ratios["per_layer"], 2),
                "tokens_per_second": round(n_tokens / statistics.median(seconds["ours"]), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
