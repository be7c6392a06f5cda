"""Train the shared base, fine-tune one layer from it, or train one apart; the only module of this stage that touches files.

The metrics files hold what a second run would find again; how long it took goes to the manifest.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghosttrack.common.config.schema import describe_layers
from ghosttrack.common.engine.stage import Job
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.saes import (
    BASE,
    BASE_METRICS,
    INDEPENDENT_METRICS,
    INDEPENDENT_SAE,
    SAE,
    SAE_METRICS,
)
from ghosttrack.common.formats.states import INDEX, SAMPLE_INDEX, STATES, open_states
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models import pretrained
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train import evaluate
from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.checkpoint import Checkpoint
from ghosttrack.stages.sae_train.curves import tracker
from ghosttrack.stages.sae_train.identity import to_base
from ghosttrack.stages.sae_train.initialise import SAMPLES_PER_LATENT, initial_parameters
from ghosttrack.stages.sae_train.jumprelu import Parameters, StepResult, product_dtype
from ghosttrack.stages.sae_train.normalise import LayerStates, check_width, fit_layer
from ghosttrack.stages.sae_train.stored import from_sae, to_sae
from ghosttrack.stages.sae_train.training import L0_TOLERANCE, Recipe, Training, train

CHECK_SHARE = 64
"""A check of the held-out documents looks at one token for so many that are trained on, and at least LEAST."""
LEAST_CHECK_TOKENS = 512
NOTE_EVERY = 20
"""Steps between two looks at the loss: reading it makes a device wait."""


def run(job: Job) -> dict[str, Any]:
    if job.unit == "quality":
        # Late: training needs no language model.
        from ghosttrack.stages.sae_train.quality import measure_quality

        return measure_quality(job)
    if job.layer is None:
        return train_base(job)
    if job.config.sae.pretrained is not None:
        return import_layer(job, job.layer)
    [metrics] = run_together([job])
    return metrics


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
        check = partial(evaluate.fvu_at_target, layers=layers, rows=rows, target_l0=settings.target_l0)
        what = f"base of {len(layers)} layers"
        training_run = new_run(job, parameters, batches, training.base_epochs, check, what)
        parameters, timing = follow([job], [training_run], what)[0], speed(training_run)
        checked = check(parameters)
        by_layer = dict(zip(map(str, job.config.layers), checked.by_layer, strict=True))
        metrics |= {"fvu": checked.mean, "fvu_by_layer": by_layer, **history(training_run)}
    to_sae(parameters, None, settings.target_l0).save(job.output(BASE))
    BASE_METRICS.write(job.output(BASE_METRICS), metrics)
    return metrics | timing


def run_together(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The SAE of each layer, side by side: from the base or, where it is to be independent, from its own data."""
    layers = [open_layer(job, layer_of(job), read_index(job)) for job in jobs]
    runs = [layer_run(job, layer) for job, layer in zip(jobs, layers, strict=True)]
    numbers = describe_layers(layer_of(job) for job in jobs)
    best = follow(jobs, runs, f"layer{'s' * (len(jobs) > 1)} {numbers}")
    return [finish_layer(*each) for each in zip(jobs, layers, runs, best, strict=True)]


def layer_run(job: Job, layer: LayerStates) -> Training:
    settings, training = job.config.sae, job.config.sae_training
    batches = Batches([layer], training.batch_size, seed_of(job))
    parameters = from_sae(read_base(job, layer)) if has_base(job) else start(job, batches)
    epochs = training.epochs
    if is_twin(job):  # as many tokens of the layer as the base and the layer's own SAE have seen
        of_base = min(training.base_tokens_per_layer, len(layer.train))
        epochs += training.base_epochs * of_base / len(layer.train)
    rows = evaluate.thin(layer.held_out, check_tokens(batches, epochs))
    check = partial(evaluate.fvu_at_target, layers=[layer], rows=[rows], target_l0=settings.target_l0)
    name = f"layer {layer.layer} apart" if is_twin(job) else f"layer {layer.layer}"
    return new_run(job, parameters, batches, epochs, check, name)


def finish_layer(job: Job, layer: LayerStates, run: Training, best: Parameters) -> dict[str, Any]:
    """Publish the SAE of a layer with its metrics."""
    number, target = layer.layer, job.config.sae.target_l0
    best.offset.copy_(evaluate.calibrated_offset(best, layer, evaluate.thin(layer.held_out), target))
    sae = to_sae(best, layer, target)
    sae_file, metrics_file = files_of(job)
    sae.save(job.output(sae_file))

    metrics = {"layer": number, "target_l0": target, **evaluate.measure(sae, layer, run.fired())}
    unseen = evaluate.unseen_l0(best, layer, target, read_index(job)["doc"])
    metrics["l0_unseen"] = unseen
    metrics["l0_unseen_relative_error"] = max((abs(l0 / target - 1) for l0 in unseen), default=None)
    if has_base(job):
        metrics |= to_base(sae.W_dec, read_base(job, layer).W_dec)
    metrics |= history(run)
    if abs(metrics["l0"] - target) > L0_TOLERANCE * target:
        job.log.warning(
            f"layer {number}: L0 is {metrics['l0']:.1f} where {target:g} was asked for; too few latents have a "
            "positive pre-activation: raise sae.d_hidden or lower sae.target_l0"
        )
    SAE_METRICS.write(job.output(metrics_file), metrics)
    return metrics | speed(run)


def import_layer(job: Job, layer: int) -> dict[str, Any]:
    """Take the layer's SAE from a folder instead of training it, with a metrics file that says where it comes from; how good it
    is, the unit `quality` measures. See `ghosttrack.common.models.pretrained.read` for errors."""
    settings, (sae_file, metrics_file) = job.config.sae, files_of(job)
    folder, d_model = settings.pretrained_folder(layer, is_twin(job)), job.config.model.d_model
    found = pretrained.read(
        folder, layer=layer, d_model=d_model, d_hidden=settings.d_hidden, target_l0=settings.target_l0
    )
    found.sae.save(job.output(sae_file))
    metrics = {"layer": layer, "target_l0": found.target_l0, "pretrained": True, "source": found.source}
    SAE_METRICS.write(job.output(metrics_file), metrics)
    return metrics


def new_run(
    job: Job,
    parameters: Parameters,
    batches: Batches,
    epochs: float,
    check: Callable[[Parameters], evaluate.Checked],
    name: str,
) -> Training:
    """A training that goes on from where an earlier process left it."""
    training, device = job.config.sae_training, parameters.encoder.device
    dtype = product_dtype(training.dtype, device)
    job.internal["arithmetic"] = str(dtype).removeprefix("torch.")
    recipe = Recipe(batches.steps(epochs), training.learning_rate, job.config.sae.target_l0, dtype)
    run = Training(parameters, batches, recipe, check, Checkpoint(job.scratch("training.pt")), name)
    if run.steps_done:
        job.log.info(f"{name}: goes on after step {run.steps_done} of {recipe.steps}")
    return run


def follow(jobs: Sequence[Job], runs: Sequence[Training], what: str) -> list[Parameters]:
    """Train with a progress line: samples a second, time left, L0, loss, dead latents, held-out FVU. The best of each.

    Layers that cannot be stacked, since one of them has less than a batch of tokens, are trained one after another.
    """
    done, config = sum(run.steps_done * run.batches.batch_size for run in runs), jobs[0].config
    folder = Path(config.paths.root) / "runs" / config.name / "curves"
    with (
        jobs[0].progress(sum(run.n_tokens for run in runs), "samples", what, initial=done) as progress,
        tracker(config.sae_training.log_with, config.name, what, folder) as log,
    ):

        def on_step(going: Sequence[Training], result: StepResult) -> None:
            progress.update(sum(run.batches.batch_size for run in going))
            if going[0].steps_done % NOTE_EVERY == 0:
                l0, loss = float(result.active.mean()), float(result.loss.mean())
                dead = 1.0 - float(torch.stack([run.fired() for run in going]).float().mean())
                checks = [run.checks[-1].fvu for run in going if run.checks]
                checked = f", held-out FVU {sum(checks) / len(checks):.3f}" if checks else ""
                progress.note(f"L0 {l0:.1f}, loss {loss:.3f}, dead {dead:.1%}{checked}")
                held_out = {"held_out_fvu": sum(checks) / len(checks)} if checks else {}
                log({"L0": l0, "loss": loss, "dead_latents": dead, **held_out}, going[0].steps_done)

        best: dict[str, Parameters] = {}
        for size in dict.fromkeys(run.batches.batch_size for run in runs):
            alike = [run for run in runs if run.batches.batch_size == size]
            best |= zip([run.name for run in alike], train(alike, on_step), strict=True)
    return [best[run.name] for run in runs]


def layer_of(job: Job) -> int:
    assert job.layer is not None
    return job.layer


def is_twin(job: Job) -> bool:
    """Whether this is the layer's second SAE, for the ablation."""
    return job.unit == f"independent_{job.layer}"


def files_of(job: Job) -> tuple[File, File]:
    """The layer's SAE and what is measured of it."""
    sae, metrics = (INDEPENDENT_SAE, INDEPENDENT_METRICS) if is_twin(job) else (SAE, SAE_METRICS)
    return sae.of(job.layer), metrics.of(job.layer)


def has_base(job: Job) -> bool:
    """Whether the layer's SAE starts from the shared base."""
    return job.config.sae.shared_base and not is_twin(job)


def read_base(job: Job, layer: LayerStates) -> JumpReLUSAE:
    path = job.input(BASE)
    return JumpReLUSAE.load(path, d_model=job.config.model.d_model).to(layer.mean.device)


def read_index(job: Job) -> dict[str, Tensor]:
    """The columns of the index beside the states that this unit reads. Raises CorruptInputError."""
    source = next(read.unit for read in job.work.reads if read.stage == "extract")
    path = job.input(SAMPLE_INDEX if source == "sample" else INDEX.of(source.removeprefix("layers_")))
    with whole(path, "run extract again", "token index"):
        index = torch.load(path, mmap=True, weights_only=True)
        return {name: index[name] for name in ("doc", "position", "held_out")}


def open_layer(job: Job, number: int, index: dict[str, Tensor]) -> LayerStates:
    """A layer's checked, memory-mapped states; batches of it go to the GPU where there is one."""
    states = open_states(job.input(STATES.of(number)))
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


def history(run: Training) -> dict[str, Any]:
    """What a second run would find again."""
    size = run.batches.batch_size
    checks = [
        {"step": step, "tokens": step * size, "held_out_fvu": fvu, "held_out_l0": l0}
        for step, fvu, l0 in run.checks
    ]
    return {"training_tokens": run.n_tokens, "checks": checks, "curve": run.curve()}


def speed(run: Training) -> dict[str, float]:
    """What it would not; for the manifest."""
    return {"seconds": run.seconds, "samples_per_second": run.n_tokens / run.seconds}
