"""Speed of the associators beside one Hungarian solve a layer in plain Python: `python benchmarks/track.py [--quick]`.

A sample is one position: 24 layers of 50 active latents, with decoders of 5,120 latents, 1,024 wide, that drift from layer to
layer; of the features active at a layer most go on to the next. The reference way makes the decoder cosine of every pair of
active latents in Python, a pair at a time, and hands the matrix to scipy. All ways take turns on one thread in the same run;
rates are medians over turns. Ends with one line of JSON: how many times as many samples a second as the reference way each
associator does (`kbest`: hypotheses, K = 5).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from stages.track.associate.follow import follow
from stages.track.associate.hypotheses import KEPT
from stages.track.association import Association, Scans, fit

N_LAYERS, K, D_HIDDEN, D_MODEL = 24, 50, 5120, 1024
DRIFT = 0.45
"""Length of a decoder row's random step: cosines of about 0.91 from layer to layer, as measured on SAEs of a shared base."""
GOES_ON = 0.75
"""Probability that an active latent is active at the next layer, as measured on the demo's SAEs."""
FITTED, SAMPLES = 1000, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn")
    turns = 1 if parser.parse_args().quick else 5
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    decoders = drifting_decoders()
    association = fit(scans(FITTED, random), decoders, range(N_LAYERS), seed=0)
    samples = scans(SAMPLES, random)
    rates: dict[str, list[float]] = {}
    for _ in range(turns):
        rates.setdefault("reference", []).append(rate(lambda: reference(samples.part(0, 2), decoders), 2))
        for name, key in (("nearest", "nn"), ("marginals", "bp"), ("hypotheses", "kbest")):
            rates.setdefault(key, []).append(rate(tracker(samples, association, name, decoders), SAMPLES))
    found = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in found.items():
        print(f"{name:10} {value:10.2f} samples/s  {1e3 / value:9.3f} ms a sample")
    result = {f"{name}_speedup": round(found[name] / found["reference"], 1) for name in ("nn", "bp", "kbest")}
    print(json.dumps(result | {"k": KEPT}))


def drifting_decoders() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(D_HIDDEN, D_MODEL, generator=generator), dim=1)
    decoders = [rows]
    while len(decoders) < N_LAYERS:
        step = torch.randn(D_HIDDEN, D_MODEL, generator=generator) * (DRIFT / D_MODEL**0.5)
        decoders.append(torch.nn.functional.normalize(decoders[-1] + step, dim=1))
    return decoders


def scans(n: int, random: np.random.Generator) -> Scans:
    """Features that go on or give way to others, with log-activations that wander."""
    latents = np.zeros((n, N_LAYERS, K), dtype=np.int64)
    levels = np.zeros(latents.shape)
    for sample in range(n):
        latents[sample, 0] = random.choice(D_HIDDEN, K, replace=False)
        levels[sample, 0] = random.normal(0.5, 0.5, K)
        for layer in range(1, N_LAYERS):
            goes_on = random.random(K) < GOES_ON
            others = np.setdiff1d(random.choice(D_HIDDEN, 3 * K, replace=False), latents[sample, layer - 1])
            latents[sample, layer] = np.where(goes_on, latents[sample, layer - 1], others[:K])
            wander = levels[sample, layer - 1] + random.normal(0, 0.2, K)
            levels[sample, layer] = np.where(goes_on, wander, random.normal(0.5, 0.5, K))
    order = np.argsort(-levels, axis=2)
    return Scans(
        np.take_along_axis(latents, order, 2), np.exp(np.take_along_axis(levels, order, 2)).astype(np.float32)
    )


def reference(samples: Scans, decoders: list[torch.Tensor]) -> None:
    """One assignment a layer over cosines made pair by pair."""
    rows = [decoder.numpy() for decoder in decoders]
    for latents in samples.latents:
        for layer in range(1, N_LAYERS):
            cost = np.zeros((K, K))
            for i, earlier in enumerate(latents[layer - 1]):
                for j, later in enumerate(latents[layer]):
                    u, v = rows[layer - 1][earlier], rows[layer][later]
                    cost[i, j] = 1 - np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v))
            linear_sum_assignment(cost)


def tracker(
    samples: Scans, association: Association, name: str, decoders: list[torch.Tensor]
) -> Callable[[], object]:
    return lambda: follow(samples, association, name, decoders, seed=0)  # type: ignore[arg-type]


def rate(call: Callable[[], object], samples: int) -> float:
    """Samples a second."""
    start = time.perf_counter()
    call()
    return samples / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
