"""Interventions a second: `python benchmarks/causes.py MODEL_FOLDER [--count 192]`, a snapshot such as data/cache/demo/model.

A prompt of some 60 tokens with a subject five tokens before its end, SAEs of twice the model's width with random directions. Half
of the interventions take a latent out over ten layers at the subject, half at the last token, from layers drawn at random; as
`track/causes` does it, from the layer and token of the first edit, what comes before cached, in batches. Ends with one line of
JSON: interventions a second of wall and of processor time, and the same one by one.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from ghosttrack.common.models.interventions import Bench, Edit
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.prompts import encode
from ghosttrack.common.models.sae import JumpReLUSAE

PROMPT = (
    "The capital of Austria is Vienna\nThe capital of Peru is Lima\n" * 4 + "The capital of Burkina Faso is"
)
BEFORE_END = 5
LIFE = 10


def random_sae(model: LanguageModel, layer: int) -> JumpReLUSAE:
    width = model.d_model
    random = torch.Generator().manual_seed(layer)
    decoder = torch.nn.functional.normalize(torch.randn(2 * width, width, generator=random), dim=1)
    return JumpReLUSAE(
        W_enc=decoder.T.contiguous(), b_enc=torch.zeros(2 * width), W_dec=decoder, b_dec=torch.zeros(width),
        threshold=torch.zeros(2 * width), mean=torch.zeros(width), scale=1.0, norm_limit=float("inf"), layer=layer,
        target_l0=48.0,
    ).to(model.device)  # fmt: skip


def interventions(tokens: list[int], n_layers: int, count: int) -> list[list[Edit]]:
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        place = len(tokens) - (BEFORE_END if number % 2 else 1)
        first, latent = int(random.integers(n_layers)), int(random.integers(500))
        found.append([Edit(layer, place, latent, 0.0) for layer in range(first, min(first + LIFE, n_layers))])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=192)
    options = parser.parse_args()
    model = load_language_model(options.model)
    n_layers, tokens = len(model.blocks), encode(model, PROMPT).tokens
    saes = {layer: random_sae(model, layer) for layer in range(n_layers)}
    bench = Bench(model, saes, tokens, len(tokens) - BEFORE_END)
    edits = interventions(tokens, n_layers, options.count)
    bench.run(edits[:2])
    wall, processor = time.perf_counter(), time.process_time()
    bench.run(edits)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    alone = time.perf_counter()
    for one in edits[:8]:
        bench.run([one])
    alone = time.perf_counter() - alone
    print(
        json.dumps(
            {
                "tokens": len(tokens),
                "interventions": len(edits),
                "a_second": round(len(edits) / wall, 1),
                "a_processor_second": round(len(edits) / processor, 1),
                "a_second_one_by_one": round(8 / alone, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
