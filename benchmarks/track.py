"""Speed of the associators beside one Hungarian solve a layer in plain Python: `python benchmarks/track.py [--quick]`.

A sample is one position: 24 layers of 50 active latents, with decoders of 5,120 latents, 1,024 wide, that drift from layer to
layer; of the features active at a layer most go on to the next. The reference way makes the decoder cosine of every pair of
active latents in Python, a pair at a time, and hands the matrix to scipy. All ways take turns on one thread in the same run;
rates are medians over turns.

Before that, what unit `track/all` does for a question after its answer is measured at the size of SmolLM2-135M: states of 3
positions and 30 layers encoded by SAEs of 2,304 latents, the 50 strongest followed, effects, tables and trajectories written; once by
the default associator alone and once with every rung of the ladder, on two threads. `--quick` does one shard of 128 questions and
extrapolates to 3,000 in proportion. Not in it: loading the model, clusters, joining the shards' tables.

Ends with one line of JSON: how many times as many samples a second as the reference way each associator does (`kbest`:
hypotheses, K = 5); `tracking`: questions measured, seconds and processor seconds for 3,000 (`extrapolated` or not), peak memory of the process in GiB.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ghosttrack.common.config.schema import TrackingConfig
from ghosttrack.common.formats import trajectories
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.track import outputs
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.associate.hypotheses import KEPT
from ghosttrack.stages.track.association import Association, Scans, fit
from ghosttrack.stages.track.follow_states import follow_states
from ghosttrack.stages.track.readout import ReadOut
from ghosttrack.stages.track.run_tracks import QUESTIONS_A_SHARD
from ghosttrack.stages.track.trajectories import Labels, question_record

N_LAYERS, K, D_HIDDEN, D_MODEL = 24, 50, 5120, 1024
DRIFT = 0.45
"""Length of a decoder row's random step: cosines of about 0.91 from layer to layer, as measured on SAEs of a shared base."""
GOES_ON = 0.75
"""Probability that an active latent is active at the next layer, as measured on the demo's SAEs."""
FITTED, SAMPLES = 1000, 512

QUESTIONS, POSITIONS, THREADS = 3000, 3, 2
DEEP, WIDE, NARROW, VOCABULARY = 30, 2304, 576, 49152
"""Layers, latents, width and tokens of SmolLM2-135M and its SAEs."""
THRESHOLD = 1.2
"""Activation below which a latent is inactive: about 100 pass, crosstalk among them, where the demo's SAEs have 50 to 100."""
SETTINGS = TrackingConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn")
    quick = parser.parse_args().quick
    turns = 1 if quick else 5
    tracking = track_questions(QUESTIONS_A_SHARD if quick else QUESTIONS)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    decoders = drifting_decoders()
    association = fit(scans(FITTED, random), decoders, range(N_LAYERS), seed=0)
    samples = scans(SAMPLES, random)
    rates: dict[str, list[float]] = {}
    for _ in range(turns):
        rates.setdefault("reference", []).append(rate(lambda: reference(samples.of(slice(2)), decoders), 2))
        for name, key in (("nearest", "nn"), ("marginals", "bp"), ("hypotheses", "kbest")):
            rates.setdefault(key, []).append(rate(tracker(samples, association, name, decoders), SAMPLES))
    found = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in found.items():
        print(f"{name:10} {value:10.2f} samples/s  {1e3 / value:9.3f} ms a sample")
    result = {f"{name}_speedup": round(found[name] / found["reference"], 1) for name in ("nn", "bp", "kbest")}
    print(json.dumps(result | {"k": KEPT, "tracking": tracking}))


def track_questions(count: int) -> dict[str, Any]:
    """What tracking of the questions takes, by what is followed."""
    torch.set_num_threads(THREADS)
    random = np.random.default_rng(0)
    saes = [sae(layer, rows) for layer, rows in enumerate(drifting_decoders(DEEP, WIDE, NARROW))]
    decoders = [each.W_dec for each in saes]
    association = fit(seen(states(FITTED, decoders, random), saes), decoders, range(DEEP), seed=0)
    weight = torch.randn(VOCABULARY, NARROW, generator=torch.Generator().manual_seed(1))
    seconds: dict[str, float] = defaultdict(float)
    worked: dict[str, float] = defaultdict(float)  # by all threads: says more where others are on the machine
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, count, QUESTIONS_A_SHARD):
            size = min(QUESTIONS_A_SHARD, count - start)
            here = states(size * POSITIONS, decoders, random)
            for name, ladder in ((SETTINGS.associator, []), ("every_rung", SETTINGS.ladder)):
                began, busy = time.perf_counter(), time.process_time()
                track_shard(here, saes, association, ReadOut(weight, False), ladder, Path(folder))
                seconds[name] += time.perf_counter() - began
                worked[name] += time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for name, value in seconds.items():
        print(
            f"{name:10} {count / value:10.2f} questions/s  {value * QUESTIONS / count:9.1f} s for {QUESTIONS:,}"
        )
    return {
        "questions": count, "positions": POSITIONS, "layers": DEEP, "latents": WIDE, "threads": THREADS,
        "seconds_for_3000": {name: round(value * QUESTIONS / count, 1) for name, value in seconds.items()},
        "cpu_seconds_for_3000": {name: round(value * QUESTIONS / count, 1) for name, value in worked.items()},
        "extrapolated": count < QUESTIONS, "peak_gib": round(peak, 2),
    }  # fmt: skip


def track_shard(
    here: torch.Tensor,
    saes: Sequence[JumpReLUSAE],
    association: Association,
    read_out: ReadOut,
    ladder: Sequence[Any],
    folder: Path,
) -> None:
    """As unit `track/all` does it. here: [n_questions · POSITIONS, n_layers, d_model]."""
    owner = np.stack(np.divmod(np.arange(len(here)), POSITIONS), axis=1)
    m = SETTINGS.candidates
    tokens = torch.arange(len(here) * m).reshape(-1, m) % VOCABULARY
    found = follow_states(here.half(), owner, tokens, saes, association, read_out, k=SETTINGS.top_k_features,
                          associator=SETTINGS.associator, ladder=ladder, seed=0)  # fmt: skip
    for name, columns in found.items():
        if columns:
            outputs.write_parquet(folder / f"{name}.parquet", columns)
    rows = owner.repeat(m, axis=0).astype(np.int32)
    candidates = {"question": rows[:, 0], "position": rows[:, 1], "token": tokens.flatten().numpy(),
                  "logprob": np.zeros(tokens.numel())}  # fmt: skip
    labels = Labels([""] * VOCABULARY, defaultdict(list), {})
    names = ("id", "relation", "subject", "prompt", "answer", "gold", "label", "excluded")
    generation = {**dict.fromkeys(names), "tokens": [""] * POSITIONS}
    tables = [table_of(columns) for columns in (found["tracks"], found["layers"], candidates)]
    records = (
        question_record(generation, number, *(of(number) for of in tables), SETTINGS.strongest_tracks, labels)
        for number in range(len(here) // POSITIONS)
    )
    head = {"layers": association.layers, "associator": SETTINGS.associator}
    trajectories.write(folder / "hypothesis_trajectories.json", head, records)


def table_of(columns: Any) -> Callable[[int], dict[str, Any]]:
    """A question's rows of a table."""
    starts = np.searchsorted(columns["question"], np.arange(columns["question"].max() + 2))
    return lambda number: {
        name: values[starts[number] : starts[number + 1]] for name, values in columns.items()
    }


def sae(layer: int, rows: torch.Tensor) -> JumpReLUSAE:
    return JumpReLUSAE(
        W_enc=rows.T.contiguous(), b_enc=torch.zeros(WIDE), W_dec=rows, b_dec=torch.zeros(NARROW),
        threshold=torch.full((WIDE,), THRESHOLD), mean=torch.zeros(NARROW), scale=1.0, norm_limit=float("inf"),
        layer=layer, target_l0=float(K),
    )  # fmt: skip


def states(n: int, decoders: list[torch.Tensor], random: np.random.Generator) -> torch.Tensor:
    """Sums of active latents: [n, n_layers, d_model]."""
    active = scans(n, random, len(decoders), decoders[0].shape[0])
    layers = []
    for layer, rows in enumerate(decoders):
        weights = torch.from_numpy(active.activations[:, layer])
        latents = torch.from_numpy(active.latents[:, layer])
        layers.append(
            torch.nn.functional.embedding_bag(latents, rows, per_sample_weights=weights, mode="sum")
        )
    return torch.stack(layers, dim=1)


def seen(here: torch.Tensor, saes: Sequence[JumpReLUSAE]) -> Scans:
    found = [each.top_k(here[:, place], SETTINGS.top_k_features) for place, each in enumerate(saes)]
    return Scans(
        torch.stack([latent for latent, _ in found], 1).long().numpy(),
        torch.stack([activation for _, activation in found], 1).numpy(),
    )


def drifting_decoders(
    n_layers: int = N_LAYERS, d_hidden: int = D_HIDDEN, d_model: int = D_MODEL
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(d_hidden, d_model, generator=generator), dim=1)
    decoders = [rows]
    while len(decoders) < n_layers:
        step = torch.randn(d_hidden, d_model, generator=generator) * (DRIFT / d_model**0.5)
        decoders.append(torch.nn.functional.normalize(decoders[-1] + step, dim=1))
    return decoders


def scans(n: int, random: np.random.Generator, n_layers: int = N_LAYERS, d_hidden: int = D_HIDDEN) -> Scans:
    """Features that go on or give way to others, with log-activations that wander."""
    latents = np.zeros((n, n_layers, K), dtype=np.int64)
    levels = np.zeros(latents.shape)
    for sample in range(n):
        latents[sample, 0] = random.choice(d_hidden, K, replace=False)
        levels[sample, 0] = random.normal(0.5, 0.5, K)
        for layer in range(1, n_layers):
            goes_on = random.random(K) < GOES_ON
            others = np.setdiff1d(random.choice(d_hidden, 3 * K, replace=False), latents[sample, layer - 1])
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
