"""Train the shared base, or fine-tune one layer from it; the only module of this stage that touches files.

The metrics files hold what a second run would find again; how long it took goes to the manifest.
"""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.contract import Read
from common.errors import CorruptInputError
from common.sae import JumpReLUSAE
from common.seeds import generator
from common.stage import Job
from common.states import open_states
from stages.sae_train import evaluate
from stages.sae_train.batches import Batches
from stages.sae_train.checkpoint import Checkpoint
from stages.sae_train.initialise import SAMPLES_PER_LATENT, initial_parameters
from stages.sae_train.jumprelu import Parameters, StepResult
from stages.sae_train.normalise import LayerStates, check_width, fit_layer
from stages.sae_train.training import Recipe, Trained, train

CHECK_SHARE = 64
"""A check of the held-out documents looks at one token for so many that are trained on, and at least LEAST."""
LEAST_CHECK_TOKENS = 512
NOTE_EVERY = 20
"""Steps between two looks at the loss: reading it makes a device wait."""
L0_TOLERANCE = 0.05


def run(job: Job) -> dict[str, Any]:
    return train_base(job) if job.layer is None else train_layer(job, job.layer)


def train_base(job: Job) -> dict[str, Any]:
    """One SAE for all layers, each normalised by itself; only its start where layers are independent."""
    settings, training = job.config.sae, job.config.sae_training
    index = read_index(job)
    layers = [open_layer(job, layer, index) for layer in job.config.layers]
    batches = Batches(layers, training.batch_size, seed_of(job), training.base_tokens_per_layer)
    parameters = start(job, batches)
    metrics: dict[str, Any] = {"trained": settings.shared_base, "layers": job.config.layers}
    timing: dict[str, float] = {}
    if settings.shared_base:
        each = -(-check_tokens(batches, training.base_epochs) // len(layers))
        rows = [evaluate.thin(layer.held_out, each) for layer in layers]

        def held_out_fvu(candidate: Parameters) -> float:
            return evaluate.fvu_at_target(candidate, layers, rows, settings.target_l0).mean

        recipe = Recipe(batches.steps(training.base_epochs), training.learning_rate, settings.target_l0)
        trained = follow(job, parameters, batches, recipe, held_out_fvu, f"base of {len(layers)} layers")
        parameters, timing = trained.best, speed(trained)
        checked = evaluate.fvu_at_target(parameters, layers, rows, settings.target_l0)
        by_layer = dict(zip(map(str, job.config.layers), checked.by_layer, strict=True))
        metrics |= {"fvu": checked.mean, "fvu_by_layer": by_layer, **history(trained)}
    to_sae(parameters, None, settings.target_l0).save(job.output("sae_base.pt"))
    write_json(job.output("base_metrics.json"), metrics)
    return metrics | timing


def train_layer(job: Job, number: int) -> dict[str, Any]:
    """The SAE of one layer, from the base or, where layers are independent, from its own data."""
    settings, training = job.config.sae, job.config.sae_training
    target = settings.target_l0
    index = read_index(job)
    layer = open_layer(job, number, index)
    batches = Batches([layer], training.batch_size, seed_of(job))
    base = JumpReLUSAE.load(job.input("sae_train/base", "sae_base.pt"), d_model=job.config.model.d_model)
    base = base.to(layer.mean.device)
    parameters = from_sae(base) if settings.shared_base else start(job, batches)
    rows = evaluate.thin(layer.held_out, check_tokens(batches, training.epochs))

    def held_out_fvu(candidate: Parameters) -> float:
        return evaluate.fvu_at_target(candidate, [layer], [rows], target).mean

    recipe = Recipe(batches.steps(training.epochs), training.learning_rate, target)
    trained = follow(job, parameters, batches, recipe, held_out_fvu, f"layer {number}")
    best = trained.best
    best.offset.copy_(evaluate.calibrated_offset(best, layer, evaluate.thin(layer.held_out), target))
    sae = to_sae(best, layer, target)
    sae.save(job.output(f"sae_layer_{number}_best.pt"))

    metrics = {"layer": number, "target_l0": target, **evaluate.measure(sae, layer, trained.fired)}
    metrics["l0_unseen"] = evaluate.unseen_l0(best, layer, target, index["doc"])
    if settings.shared_base:
        metrics |= evaluate.identity(sae.W_dec, base.W_dec)
    metrics |= history(trained)
    if abs(metrics["l0"] - target) > L0_TOLERANCE * target:
        job.log.warning(
            f"layer {number}: L0 is {metrics['l0']:.1f} where {target:g} was asked for; too few latents have a "
            "positive pre-activation: raise sae.d_hidden or lower sae.target_l0"
        )
    write_json(job.output(f"sae_layer_{number}_metrics.json"), metrics)
    return metrics | speed(trained)


def follow(
    job: Job,
    parameters: Parameters,
    batches: Batches,
    recipe: Recipe,
    held_out_fvu: Callable[[Parameters], float],
    what: str,
) -> Trained:
    """Train with a progress line: samples a second, time left, L0, loss, held-out FVU."""
    checked = ""
    checkpoint = Checkpoint(job.scratch("training.pt"))
    done = checkpoint.found["steps_done"] if checkpoint.found else 0
    if done:
        job.log.info(f"{what}: goes on after step {done} of {recipe.steps}")
    samples = recipe.steps * batches.batch_size
    with job.progress(samples, "samples", what, initial=done * batches.batch_size) as progress:

        def on_step(step: int, result: StepResult) -> None:
            progress.update(batches.batch_size)
            if step % NOTE_EVERY == 0:
                progress.note(f"L0 {float(result.active):.1f}, loss {float(result.loss):.3f}{checked}")

        def check(candidate: Parameters) -> float:
            nonlocal checked
            fvu = held_out_fvu(candidate)
            checked = f", held-out FVU {fvu:.3f}"
            return fvu

        return train(parameters, batches, recipe, check, on_step, checkpoint)


def read_index(job: Job) -> dict[str, Tensor]:
    """The columns of the index beside the states that this unit reads. Raises CorruptInputError."""
    source = states_source(job)
    path = job.input(source.name, f"index_{source.unit}.pt")
    try:
        index = torch.load(path, mmap=True, weights_only=True)
        return {name: index[name] for name in ("doc", "position", "held_out")}
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise CorruptInputError(f"{path} is not a token index ({error}); run extract again") from error


def states_source(job: Job) -> Read:
    """The unit whose states this one reads: a wave of layers, or a sample of all of them."""
    return next(read for read in job.work.reads if read.stage == "extract")


def open_layer(job: Job, number: int, index: dict[str, Tensor]) -> LayerStates:
    """A layer's checked, memory-mapped states; batches of it go to the GPU where there is one."""
    states = open_states(job.input(states_source(job).name, f"layer_{number}_states.pt"))
    check_width(number, states, job.config.model.d_model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return fit_layer(number, states, index["position"], index["held_out"], device)


def start(job: Job, batches: Batches) -> Parameters:
    settings, seed = job.config.sae, seed_of(job)
    sample = batches.sample(SAMPLES_PER_LATENT * settings.d_hidden, seed)
    return initial_parameters(sample, settings.d_hidden, settings.target_l0, seed)


def seed_of(job: Job) -> int:
    return int(generator(job.config.seed, "sae_train", job.unit).integers(2**31))


def check_tokens(batches: Batches, epochs: float) -> int:
    """Held-out tokens for one check on the way."""
    return max(LEAST_CHECK_TOKENS, round(epochs * batches.n_tokens / CHECK_SHARE))


def to_sae(parameters: Parameters, layer: LayerStates | None, target_l0: float) -> JumpReLUSAE:
    """The inference form; without a layer, for inputs that are normalised already."""
    d_model = len(parameters.decoder_bias)
    return JumpReLUSAE(
        W_enc=parameters.encoder.T.contiguous(), b_enc=parameters.encoder_bias, W_dec=parameters.decoder,
        b_dec=parameters.decoder_bias, threshold=parameters.thresholds(),
        mean=layer.mean if layer else parameters.decoder_bias.new_zeros(d_model),
        scale=layer.scale if layer else 1.0,
        norm_limit=layer.norm_limit if layer else math.inf,
        layer=layer.layer if layer else None, target_l0=target_l0,
    ).folded()  # fmt: skip


def from_sae(sae: JumpReLUSAE) -> Parameters:
    """Parameters to go on from; what was learned of the thresholds stays in them, the offset starts at 0."""
    return Parameters(
        encoder=sae.W_enc.T.contiguous(), encoder_bias=sae.b_enc.clone(), decoder=sae.W_dec.clone(),
        decoder_bias=sae.b_dec.clone(), raw_threshold=sae.threshold.clone(), offset=sae.b_enc.new_zeros(()),
    )  # fmt: skip


def history(trained: Trained) -> dict[str, Any]:
    """What a second run would find again."""
    return {
        "training_tokens": trained.n_tokens,
        "checks": [{"step": step, "held_out_fvu": fvu} for step, fvu in trained.checks],
    }


def speed(trained: Trained) -> dict[str, float]:
    """What it would not; for the manifest."""
    return {
        "seconds": trained.seconds,
        "samples_per_second": trained.n_tokens / trained.seconds,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
