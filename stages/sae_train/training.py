"""The training loop: Adam, learning rate, dead latents, and the choice of the best checkpoint.

Several SAEs train side by side, as a stack that steps together; each comes to what it would come to alone. The order
of the batches, the start and the arithmetic are fixed by the seed, so the same machine gives the same bytes again,
also where training was interrupted, or the SAEs are stacked otherwise than before.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ghosttrack.common.engine import stop
from ghosttrack.common.errors import CorruptInputError, NumericError
from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.checkpoint import Checkpoint
from ghosttrack.stages.sae_train.evaluate import Checked
from ghosttrack.stages.sae_train.jumprelu import (
    Gradients,
    Parameters,
    StepResult,
    normalise_rows_,
    training_step,
    wake_,
)

WARMUP = 0.05
"""Fraction of the steps over which the learning rate rises."""
DECAY = 0.3
"""Fraction of the steps, at the end, over which it falls to 0."""
CLIP = 1.0
"""Largest norm of the gradient of weights and biases; thresholds are left out."""
CHECKS = 4
"""Times that the held-out documents are looked at."""
DEAD_WINDOW = 1_000_000
"""A latent that has not fired for so many training tokens (or a quarter of a shorter run) is dead."""
REST = 1 / 4
"""Fraction of that window after which a silent latent begins to be woken."""
WAKING = 1.0
"""How far it would be moved towards its threshold in a whole window; pre-activations have a spread near 1."""
L0_TOLERANCE = 0.05
"""How far from the target, relatively, the held-out L0 may be."""
CURVE_POINTS = 200
"""Points of a loss curve that are kept; each is a mean over steps."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam knows of a parameter."""


@dataclass
class Recipe:
    """steps; learning_rate: Adam's peak; target_l0: active latents a token; dtype: of the encoder's product."""

    steps: int
    learning_rate: float
    target_l0: float
    dtype: torch.dtype = torch.float32


class Check(NamedTuple):
    """A look at the held-out documents after so many steps."""

    step: int
    fvu: float
    l0: float


@dataclass
class Training:
    """The training of one SAE: what it is to do, and all that has come of it so far.

    check: sets the offset for the target L0 on held-out documents and measures the FVU there.
    """

    parameters: Parameters
    batches: Batches
    recipe: Recipe
    check: Callable[[Parameters], Checked]
    checkpoint: Checkpoint | None = None
    name: str = "the SAE"
    steps_done: int = 0
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    best: Parameters | None = None
    """Parameters at the best check, offset calibrated."""
    fired_at: Tensor = field(init=False)
    """[d_hidden] int64, the last step at which a latent fired."""
    curves: Tensor = field(init=False)
    """[3, steps] float32: loss, active latents a token and fraction of dead latents of each step."""
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Adam's, by parameter; empty before the first step."""

    def __post_init__(self) -> None:
        raw = self.parameters.raw_threshold
        self.fired_at = torch.zeros(len(raw), dtype=torch.int64, device=raw.device)
        self.curves = torch.zeros(3, self.recipe.steps, device=raw.device)
        if self.checkpoint and self.checkpoint.found is not None:
            self._restore(self.checkpoint)

    @property
    def finished(self) -> bool:
        return self.steps_done >= self.recipe.steps

    @property
    def n_tokens(self) -> int:
        return self.recipe.steps * self.batches.batch_size

    @property
    def window(self) -> int:
        """Steps without firing after which a latent is dead."""
        return max(1, min(DEAD_WINDOW, self.n_tokens // 4) // self.batches.batch_size)

    def fired(self) -> Tensor:
        """bool [d_hidden]: fired within the last window of training tokens."""
        return self.fired_at > self.steps_done - self.window

    def silent(self) -> Tensor:
        """bool [d_hidden]: has not fired for so long that it is to be woken."""
        return self.fired_at <= self.steps_done - max(1, round(REST * self.window))

    def after_step(self, loss: Tensor, active: Tensor, fired: Tensor) -> None:
        """Note what a step did. loss, active: scalars; fired: bool [d_hidden]."""
        self.steps_done += 1
        self.fired_at.masked_fill_(fired, self.steps_done)
        dead = 1.0 - self.fired().float().mean()
        self.curves[:, self.steps_done - 1] = torch.stack([loss, active, dead])
        if self.steps_done in {round(self.recipe.steps * n / CHECKS) for n in range(1, CHECKS + 1)}:
            self._look()

    def curve(self) -> dict[str, list[float]]:
        """Training tokens seen, and loss, l0 and dead_fraction: means over equal stretches of the steps."""
        stretches = self.curves[:, : self.steps_done].tensor_split(min(CURVE_POINTS, self.steps_done), dim=1)
        ends = torch.tensor([part.shape[1] for part in stretches]).cumsum(0) * self.batches.batch_size
        means = torch.stack([part.mean(1) for part in stretches], dim=1)
        names = ("loss", "l0", "dead_fraction")
        return {"tokens": ends.tolist(), **dict(zip(names, means.tolist(), strict=True))}

    def state(self) -> dict[str, Any]:
        """All that the next step depends on. Batches are a function of seed and step alone."""
        return {
            "training": self.identity(),
            # A view would be saved with all that it is a view of.
            "parameters": {name: value.clone() for name, value in vars(self.parameters).items()},
            "moments": self.moments,
            "fired_at": self.fired_at,
            "curves": self.curves,
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "checks": [tuple(check) for check in self.checks],
            "best": self.best and vars(self.best),
        }

    def identity(self) -> dict[str, Any]:
        """What makes it this training and no other, the states themselves aside."""
        d_hidden, d_model = self.parameters.encoder.shape
        return {
            **vars(self.recipe), "dtype": str(self.recipe.dtype), "d_model": d_model, "d_hidden": d_hidden,
            "tokens": self.batches.n_tokens, "batch_size": self.batches.batch_size, "seed": self.batches.seed,
        }  # fmt: skip

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there. Raises CorruptInputError where it is of another training, or something else altogether."""
        try:
            known = dict(checkpoint.found)["training"]
            differences = [
                f"{name} {known[name]} there, {own} here"
                for name, own in self.identity().items()
                if known[name] != own
            ]
            if not differences:
                self._take(checkpoint.found)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CorruptInputError(
                f"{checkpoint.path} does not hold what a checkpoint of this version holds "
                f"({type(error).__name__}: {error}); remove it to begin anew"
            ) from error
        if differences:
            raise CorruptInputError(
                f"{checkpoint.path} is a checkpoint of another training ({'; '.join(differences)}); "
                "remove it to begin anew"
            )

    def _take(self, state: dict[str, Any]) -> None:
        for name, value in state["parameters"].items():
            getattr(self.parameters, name).copy_(value)
        device = self.fired_at.device
        self.moments = {
            name: {key: value.to(device) for key, value in known.items()}
            for name, known in state["moments"].items()
        }
        self.fired_at.copy_(state["fired_at"])
        self.curves.copy_(state["curves"])
        self.steps_done, self.seconds = int(state["steps_done"]), float(state["seconds"])
        self.checks = [Check(*check) for check in state["checks"]]
        if state["best"]:
            self.best = Parameters(**{name: value.to(device) for name, value in state["best"].items()})

    def _look(self) -> None:
        """Look at the held-out documents, and keep these parameters if none were better at the target L0 there."""
        candidate = self.parameters.clone()
        found = self.check(candidate)
        now = Check(self.steps_done, found.mean, found.l0)
        if not math.isnan(now.fvu) and self._badness(now) < min(
            map(self._badness, self.checks), default=(True, math.inf)
        ):
            self.best = candidate
        self.checks.append(now)

    def _badness(self, check: Check) -> tuple[bool, float]:
        """To sort by: first whether the target L0 was missed, then the FVU."""
        missed = abs(check.l0 - self.recipe.target_l0) > L0_TOLERANCE * self.recipe.target_l0
        return missed, math.inf if math.isnan(check.fvu) else check.fvu


class Stack:
    """Runs that step together: their parameters become views of stacked ones, under one fused optimiser."""

    def __init__(self, runs: Sequence[Training]) -> None:
        self.runs = list(runs)
        self.stack = Parameters.stacked([run.parameters for run in runs])
        for run, parameters in zip(runs, self.stack.unstacked(), strict=True):
            run.parameters = parameters
        groups = []
        for run in runs:
            learned = {name: value for name, value in vars(run.parameters).items() if name != "offset"}
            thresholds = learned.pop("raw_threshold")
            groups += [{"params": list(learned.values())}, {"params": [thresholds]}]
        self._optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.999), fused=True)
        for run in runs:
            for name, known in run.moments.items():
                self._optimiser.state[getattr(run.parameters, name)] = known
        n_saes, d_hidden = self.stack.raw_threshold.shape
        self._products = torch.empty(
            n_saes, runs[0].batches.batch_size, d_hidden, device=self.stack.encoder.device,
            dtype=runs[0].recipe.dtype,
        )  # fmt: skip

    def step(self) -> StepResult:
        """One update of each, on a batch of its own."""
        start = time.perf_counter()
        batch = torch.stack([run.batches.batch(run.steps_done) for run in self.runs])
        silent = torch.stack([run.silent() for run in self.runs])
        result = training_step(self.stack, batch, self.runs[0].recipe.target_l0, self._products)
        self._update(result.gradients)
        sizes = silent.new_tensor([WAKING / run.window for run in self.runs], dtype=torch.float32)
        wake_(self.stack, silent & ~result.fired, sizes)
        seconds = (time.perf_counter() - start) / len(self.runs)
        for run, *found in zip(self.runs, result.loss, result.active, result.fired, strict=True):
            run.seconds += seconds
            run.after_step(*found)
        return result

    def _update(self, gradients: Gradients) -> None:
        clip = clip_factors(gradients)
        for name, gradient in vars(gradients).items():
            if name != "raw_threshold":
                gradient.mul_(clip.view(-1, *[1] * (gradient.dim() - 1)))
            for run, own in zip(self.runs, gradient, strict=True):
                getattr(run.parameters, name).grad = own
        rates = [
            run.recipe.learning_rate * rate_factor(run.steps_done, run.recipe.steps) for run in self.runs
        ]
        for group, rate in zip(
            self._optimiser.param_groups, [r for r in rates for _ in range(2)], strict=True
        ):
            group["lr"] = rate
        self._optimiser.step()
        normalise_rows_(self.stack.decoder)
        for run in self.runs:
            if not run.moments:
                run.moments = {
                    name: {key: self._optimiser.state[value][key] for key in MOMENTS}
                    for name, value in vars(run.parameters).items()
                    if name != "offset"
                }


def clip_factors(gradients: Gradients) -> Tensor:
    """What each SAE's gradient is to be multiplied by so that its norm, thresholds left out, is at most CLIP: [n_saes]."""
    norms = [
        torch.linalg.vector_norm(gradient, dim=-1).view(len(gradient), -1)
        for name, gradient in vars(gradients).items()
        if name != "raw_threshold"
    ]
    total = torch.linalg.vector_norm(torch.cat(norms, dim=1), dim=1)
    return (CLIP / (total + 1e-6)).clamp_(max=1.0)


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then flat, then linear decay: the factor on the peak learning rate at a step (0-based)."""
    rising = (step + 1) / max(1.0, WARMUP * steps)
    falling = (steps - step) / max(1.0, DECAY * steps)
    return min(1.0, rising, falling)


def train(
    runs: Sequence[Training],
    on_step: Callable[[Sequence[Training], StepResult], None] = lambda runs, result: None,
) -> list[Parameters]:
    """Bring every run to its end, as one stack, and give the best of each; the longer ones go on without the others.

    All have the same shapes, batch size, target L0 and dtype. on_step: called after every step with those that
    took it, for the progress line. Raises StopRequested if a stop was asked for, NumericError where training diverged.
    """
    with torch.no_grad():
        while going := [run for run in runs if not run.finished]:
            stack = Stack(going)
            while not any(run.finished for run in going):
                result = stack.step()
                on_step(going, result)
                save(going)
    return [_best(run) for run in runs]


def _best(run: Training) -> Parameters:
    if run.best is None:
        raise NumericError(
            f"{run.name}: training diverged (held-out FVU {run.checks[-1].fvu}); lower "
            f"sae_training.learning_rate ({run.recipe.learning_rate:g})"
        )
    return run.best


def save(runs: Sequence[Training]) -> None:
    """Save what is due, and everything before a stop. Raises StopRequested."""
    stopping = stop.requested()
    for run in runs:
        if run.checkpoint and (stopping or run.checkpoint.due):
            run.checkpoint.save(run.state())
    if stopping:
        stop.check()
