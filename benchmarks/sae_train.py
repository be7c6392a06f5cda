"""SAE training beside SAELens and the dense floor, in one run: `python benchmarks/sae_train.py`.

Needs the environment that `.ci/install-saelens` makes, and starts itself anew in it. Data are sums of known directions,
1,024 wide, for 5,120 latents at 64 active a token; ours, SAELens' JumpReLU step and a matrix product take turns on the
same batches. The floor is a dense float32 step that does nothing but its products: 10·d·h FLOP a sample, at the rate of the
product measured here.

`--quality` trains on real states instead (those of a finished `make demo`: its model and corpus): neighbouring layers from
a shared base, each alone, base and layers with a float32 product, and with SAELens and dictionary-learning, which see the same
tokens as often, with the best of six settings. FVU is on held-out documents, all at the same L0: their thresholds are shifted
together to reach it, as ours are. `l0_relative_error_max` is over layers and the targets 32, 64 and 100, on held-out tokens
that had no say in the thresholds (`evaluate.unseen_l0`). Ends with one line of JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-saelens" / "bin" / "python"
try:
    import sae_lens
except ImportError:
    if not PEER.exists() or Path(sys.prefix) == PEER.parents[1]:
        sys.exit("SAELens is not here to compare with: run .ci/install-saelens first")
    os.execv(PEER, [str(PEER), *sys.argv])

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ghosttrack.common.formats.corpus import read_corpus  # noqa: E402
from ghosttrack.common.formats.states import States, StatesWriter, open_states, reserve  # noqa: E402
from ghosttrack.common.models.language_model import load_language_model  # noqa: E402
from ghosttrack.stages.extract.forward import batches as passes  # noqa: E402
from ghosttrack.stages.extract.forward import write_states  # noqa: E402
from ghosttrack.stages.sae_train import evaluate  # noqa: E402
from ghosttrack.stages.sae_train.batches import Batches  # noqa: E402
from ghosttrack.stages.sae_train.identity import compare  # noqa: E402
from ghosttrack.stages.sae_train.initialise import SAMPLES_PER_LATENT, initial_parameters  # noqa: E402
from ghosttrack.stages.sae_train.jumprelu import Parameters, product_dtype  # noqa: E402
from ghosttrack.stages.sae_train.normalise import LayerStates, fit_layer  # noqa: E402
from ghosttrack.stages.sae_train.stored import from_sae, to_sae  # noqa: E402
from ghosttrack.stages.sae_train.training import Recipe, Stack, Training, train  # noqa: E402

D_MODEL, D_HIDDEN, TARGET = 1024, 5120, 64.0
DIRECTIONS, ROWS = 8192, 32_768
BEST_DTYPE = product_dtype("auto", torch.device("cpu"))
SAME_ARITHMETIC = BEST_DTYPE is torch.float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns; fewer tokens and layers")
    parser.add_argument("--quality", action="store_true", help="what is learned, not how fast")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "data/cache/demo", help="of a finished make demo"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    found = quality(options.cache, options.quick) if options.quality else speed(options.quick)
    print(
        json.dumps(
            {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
        )
    )


# Speed


def speed(quick: bool) -> dict[str, object]:
    layer = synthetic_layer()
    product = (torch.randn(4096, D_MODEL), torch.randn(D_HIDDEN, D_MODEL))
    ways: dict[str, tuple[Callable[[], object], int]] = {"gemm": (lambda: product[0] @ product[1].T, 4096)}
    for size, steps in ((4096, 1), (128, 16)):
        ways[f"ours_b{size}"] = (repeated(our_step(layer, size), steps), size * steps)
        ways[f"saelens_b{size}"] = (repeated(peer_step(layer, size), steps), size * steps)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(6 if quick else 16):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            call, samples = ways[name]
            start = time.perf_counter()
            call()
            rate = samples / (time.perf_counter() - start)
            if turn:  # the first warms up
                rates[name].append(rate)
                print(f"{name:<15} {rate:8.0f} samples/s", file=sys.stderr)
    median = {name: statistics.median(values) for name, values in rates.items()}
    floor = median["gemm"] * 2 / 10  # the product is 2·d·h FLOP a sample
    return {
        "ratio_to_saelens_b4096": median["ours_b4096"] / median["saelens_b4096"],
        "ratio_to_saelens_b128": median["ours_b128"] / median["saelens_b128"],
        "ratio_to_floor_b4096": median["ours_b4096"] / floor,
        "samples_per_second": {name: round(value) for name, value in median.items() if name != "gemm"}
        | {"floor": round(floor)},
        "gemm_gflops": round(median["gemm"] * 2 * D_MODEL * D_HIDDEN / 1e9),
        "dtype": str(BEST_DTYPE).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "sae_lens": sae_lens.__version__,
    }


def synthetic_layer() -> LayerStates:
    """Each state is 64 of 8,192 directions and a little noise."""
    directions = torch.nn.functional.normalize(torch.randn(DIRECTIONS, D_MODEL))
    states = torch.empty(ROWS, D_MODEL, dtype=torch.float16)
    for part in states.split(4096):
        chosen = torch.randint(DIRECTIONS, (len(part), 64))
        weights = torch.zeros(len(part), DIRECTIONS).scatter_(1, chosen, torch.rand(len(part), 64) + 0.5)
        part.copy_(weights @ directions + 0.02 * torch.randn(len(part), D_MODEL))
    position = torch.arange(ROWS) % 64
    return fit_layer(0, States(states), position, torch.arange(ROWS) // 64 % 10 == 0)


def our_step(layer: LayerStates, size: int) -> Callable[[], object]:
    batches = Batches([layer], size, seed=0)
    parameters = initial_parameters(layer.normalised(layer.train[: 2 * D_HIDDEN]), D_HIDDEN, TARGET, seed=0)
    # As far from its end as a long training is, so that no check falls into the turns.
    run = Training(
        parameters, batches, Recipe(1_000_000, 1e-4, TARGET, BEST_DTYPE), lambda _: evaluate.Checked([], 0, 0)
    )
    stack = Stack([run])

    def step() -> None:
        with torch.no_grad():
            stack.step()

    return step


def peer_step(layer: LayerStates, size: int) -> Callable[[], object]:
    batches = Batches([layer], size, seed=0)
    ready = [batches.batch(number) for number in range(4)]  # reading is not counted against it
    trainer = peer_trainer(cycle(ready), D_MODEL, D_HIDDEN, size, 1_000_000, 1e-4, {})

    def step() -> None:
        trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1

    return step


def repeated(step: Callable[[], object], times: int) -> Callable[[], object]:
    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def cycle(items: list[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from items


def peer_trainer(
    data: Iterator[Tensor], d_model: int, d_hidden: int, size: int, steps: int, rate: float,
    settings: dict[str, object],
) -> "sae_lens.SAETrainer":  # fmt: skip
    """SAELens' own trainer of a JumpReLU SAE, with its quadratic pull towards the target L0 unless told otherwise."""
    from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, SAETrainer
    from sae_lens.config import SAETrainerConfig

    chosen = {
        "jumprelu_sparsity_loss_mode": "quadratic", "target_l0": TARGET, "normalize_activations": "none",
        "apply_b_dec_to_input": False, "pre_act_loss_coefficient": 3e-6, **settings,
    }  # fmt: skip
    sae = JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(d_in=d_model, d_sae=d_hidden, **chosen))
    recipe = SAETrainerConfig(
        total_training_samples=steps * size, train_batch_size_samples=size, lr=rate,
        lr_end=rate / 10, lr_warm_up_steps=max(1, steps // 20), lr_decay_steps=max(1, steps * 3 // 10),
    )  # fmt: skip
    return SAETrainer(recipe, sae, data)


# Quality

LENGTH, BATCH = 256, 8
LATENTS, TRAIN_BATCH, RATE, SEED = 2304, 512, 1e-3, 0
PEER_SETTINGS: list[tuple[float, dict[str, object]]] = [
    (rate, settings)
    for rate in (1e-3, 3e-3)
    for settings in (
        {"l0_coefficient": 0.03, "jumprelu_bandwidth": 0.3, "jumprelu_init_threshold": 0.3},
        {"l0_coefficient": 1.0, "jumprelu_bandwidth": 0.3, "jumprelu_init_threshold": 0.3},
        {
            "jumprelu_sparsity_loss_mode": "tanh", "l0_coefficient": 2.0, "jumprelu_bandwidth": 2.0,
            "jumprelu_init_threshold": 0.1, "jumprelu_ste_to_input": True,
        },
    )
]  # fmt: skip
"""Learning rate and the rest, for SAELens: its defaults and presets, brought to this scale of data."""
OTHER_SETTINGS = [
    (rate, bandwidth, penalty)
    for rate in (1e-3, 3e-3, 1e-2)
    for bandwidth, penalty in ((1e-3, 1.0), (1e-2, 1.0))
]
"""Learning rate, bandwidth and sparsity penalty for dictionary-learning: its defaults, and more for so short a training."""


def quality(cache: Path, quick: bool) -> dict[str, object]:
    numbers = [12, 13] if quick else [10, 11, 12, 13, 14]
    tokens = 10_240 if quick else 40_960
    base_epochs, epochs = 1, 2
    with tempfile.TemporaryDirectory() as scratch:
        layers, document = extract(cache, numbers, tokens, Path(scratch))
        starts = {target: trained(layers, base_epochs, target) for target in (32.0, 100.0, TARGET)}
        # Where the product is in float32 anyway, there is nothing to compare.
        exact_start = None if SAME_ARITHMETIC else trained(layers, base_epochs, TARGET, torch.float32)
        fvu: dict[str, list[float]] = {name: [] for name in ("ours", "float32", "alone", "saelens")}
        l0_errors, dead, decoders = [], [], []
        for layer in layers:
            for target, start in starts.items():
                run = training(layer, epochs, target, replace_start=start)
                [best] = train([run])
                unseen = evaluate.unseen_l0(best, layer, target, document)
                l0_errors += [abs(l0 / target - 1) for l0 in unseen]
                found = measured(best, run, layer, target)
                dead.append(float(found["dead_fraction"]))
                if target == TARGET:
                    fvu["ours"].append(float(found["fvu"]))
                    decoders.append(to_sae(best, layer, target).W_dec)
            if exact_start:
                exact = training(layer, epochs, TARGET, replace_start=exact_start, dtype=torch.float32)
                fvu["float32"].append(float(measured(train([exact])[0], exact, layer, TARGET)["fvu"]))
            alone = training(layer, base_epochs + epochs, TARGET)
            fvu["alone"].append(float(measured(train([alone])[0], alone, layer, TARGET)["fvu"]))
            note(layer.layer, fvu)
        other, other_version = dictionary_learning()
        peers: dict[str, tuple[Callable[..., Any], list[Any]]] = {"saelens": (saelens_sae, PEER_SETTINGS)}
        if other:
            peers["dictionary_learning"] = (partial(dictionary_learning_sae, other), OTHER_SETTINGS)
        settings: dict[str, Any] = {}
        for name, (way, tried) in peers.items():  # at its best on the first layer
            seen = base_epochs + epochs
            settings[name] = min(tried, key=lambda some: peer_fvu(name, way, layers[0], seen, some))
            fvu[name] = [peer_fvu(name, way, layer, seen, settings[name]) for layer in layers]
    mean = {name: statistics.mean(values) for name, values in fvu.items() if values}
    return {
        "fvu_ratio_to_saelens": mean["ours"] / mean["saelens"],
        **({"fvu_ratio_to_dictionary_learning": mean["ours"] / mean["dictionary_learning"]} if other else {}),
        "dictionary_learning": other_version,
        "fvu_ratio_to_independent": mean["ours"] / mean["alone"],
        "fvu_ratio_to_float32": mean["ours"] / mean["float32"]
        if exact_start
        else "skipped: no bfloat16 instructions here, so that ours is float32",
        "l0_relative_error_max": max(l0_errors),
        "self_match_min": min(float(compare(one, other)["self_match"]) for one, other in pairwise(decoders)),
        "dead_max": max(dead),
        "fvu": {name: round(value, 4) for name, value in mean.items()},
        "settings": settings,
        "layers": numbers,
        "tokens": tokens,
        "dtype": str(BEST_DTYPE).removeprefix("torch."),
    }


def extract(cache: Path, numbers: list[int], tokens: int, folder: Path) -> tuple[list[LayerStates], Tensor]:
    """States of the corpus' first tokens, and the document of each."""
    model = load_language_model(cache / "model")
    corpus = read_corpus(cache / "corpus" / "corpus.pt", model.unembedding.shape[0])
    tokens = min(tokens, len(corpus.token) // LENGTH * LENGTH)
    out = {}
    for number in numbers:
        reserve(folder / f"{number}.pt", tokens, model.d_model, torch.float16)
        out[number] = StatesWriter(folder / f"{number}.pt")
    with torch.inference_mode():
        for batch in passes(0, tokens, LENGTH, BATCH):
            write_states(model, corpus.token, corpus.position, batch, out)
    index = {name: column[:tokens] for name, column in corpus.index().items()}
    layers = [
        fit_layer(number, open_states(folder / f"{number}.pt"), index["position"], index["held_out"])
        for number in numbers
    ]
    return layers, index["doc"]


def training(
    layer: LayerStates, epochs: float, target: float, *, replace_start: Parameters | None = None,
    dtype: torch.dtype = BEST_DTYPE,
) -> Training:  # fmt: skip
    """Of one layer, from a start or from its own data."""
    batches = Batches([layer], TRAIN_BATCH, SEED)
    sample = batches.sample(SAMPLES_PER_LATENT * LATENTS, SEED)
    start = replace_start.clone() if replace_start else initial_parameters(sample, LATENTS, target, SEED)
    rows = evaluate.thin(layer.held_out, 2048)
    return Training(
        start, batches, Recipe(batches.steps(epochs), RATE, target, dtype),
        lambda candidate: evaluate.fvu_at_target(candidate, [layer], [rows], target),
    )  # fmt: skip


def trained(
    layers: list[LayerStates], epochs: float, target: float, dtype: torch.dtype = BEST_DTYPE
) -> Parameters:
    """The base of all layers, as the layers start from it."""
    batches = Batches(layers, TRAIN_BATCH, SEED)
    start = initial_parameters(batches.sample(SAMPLES_PER_LATENT * LATENTS, SEED), LATENTS, target, SEED)
    rows = [evaluate.thin(layer.held_out, 512) for layer in layers]
    run = Training(
        start, batches, Recipe(batches.steps(epochs), RATE, target, dtype),
        lambda candidate: evaluate.fvu_at_target(candidate, layers, rows, target),
    )  # fmt: skip
    [best] = train([run])
    return from_sae(to_sae(best, None, target))


def measured(best: Parameters, run: Training, layer: LayerStates, target: float) -> dict[str, object]:
    best.offset.copy_(evaluate.calibrated_offset(best, layer, evaluate.thin(layer.held_out), target))
    return evaluate.measure(to_sae(best, layer, target), layer, run.fired())


def peer_fvu(
    name: str, way: Callable[..., Any], layer: LayerStates, epochs: float, settings: tuple[Any, ...]
) -> float:
    """Held-out FVU of another library's SAE at exactly the target L0, after as many tokens, drawn as ours are.

    way: what trains it, on batches, for so many steps, with these settings.
    """
    batches = Batches([layer], TRAIN_BATCH, SEED)
    sae = way(batches, batches.steps(epochs), layer.states.shape[1], *settings)
    with torch.no_grad():
        parameters = Parameters(
            encoder=sae.W_enc.T.contiguous(), encoder_bias=sae.b_enc.clone(), decoder=sae.W_dec.clone(),
            decoder_bias=sae.b_dec.clone(), raw_threshold=sae.threshold.clamp(min=0.0), offset=torch.zeros(()),
        )  # fmt: skip
        rows = evaluate.thin(layer.held_out)
        own = evaluate.active_margins(parameters, layer.normalised(rows), parameters.offset)
        found = evaluate.fvu_at_target(parameters, [layer], [rows], TARGET)
    print(
        f"layer {layer.layer}, {name} with {settings}: L0 {len(own) / len(rows):.0f} by itself; "
        f"FVU {found.mean:.4f} at {found.l0:.1f}",
        file=sys.stderr,
    )
    return found.mean


def saelens_sae(batches: Batches, steps: int, d_model: int, rate: float, settings: dict[str, object]) -> Any:
    data = (batches.batch(number) for number in range(steps))
    sae = peer_trainer(data, d_model, LATENTS, TRAIN_BATCH, steps, rate, settings).fit()
    sae.fold_W_dec_norm()
    return sae


def dictionary_learning() -> tuple[Any, str]:
    """The JumpReLU trainer of the package dictionary-learning and its version; or None, and why it is not here.

    The package imports nnsight for its own way of reading states, and that wants torchvision and diffusers; the trainer
    wants torch and einops alone, so that an empty module does in nnsight's place.
    """
    stand_in = ModuleType("nnsight")
    stand_in.LanguageModel = None  # type: ignore[attr-defined]
    sys.modules["nnsight"] = stand_in
    try:
        from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    except ImportError as error:
        return None, f"not installed: {error}"
    finally:
        del sys.modules["nnsight"]
    return JumpReluTrainer, version("dictionary-learning")


def dictionary_learning_sae(
    trainer: Any, batches: Batches, steps: int, d_model: int, rate: float, bandwidth: float, penalty: float
) -> Any:
    """Its own training loop reads states at E‖x‖² = 1, and scales the SAE back at the end; so does this."""
    training = trainer(
        steps=steps, activation_dim=d_model, dict_size=LATENTS, layer=0, lm_name="", lr=rate, bandwidth=bandwidth,
        sparsity_penalty=penalty, warmup_steps=steps // 20, sparsity_warmup_steps=steps // 20,
        decay_start=steps * 7 // 10, target_l0=TARGET,
    )  # fmt: skip
    for number in range(steps):
        training.update(number, batches.batch(number) / d_model**0.5)
    training.ae.scale_biases(d_model**0.5)
    return training.ae


def note(layer: int, fvu: dict[str, list[float]]) -> None:
    latest = ", ".join(f"{name} {values[-1]:.4f}" for name, values in fvu.items() if values)
    print(f"layer {layer}: FVU {latest}", file=sys.stderr)


if __name__ == "__main__":
    main()
