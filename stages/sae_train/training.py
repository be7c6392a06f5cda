"""The training loop: Adam, learning rate, dead latents, and the choice of the best checkpoint.

The order of the batches, the start and the arithmetic are fixed by the seed, so the same machine gives the same
bytes again, also where training was interrupted.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.errors import NumericError
from stages.sae_train.batches import Batches
from stages.sae_train.checkpoint import Checkpoint
from stages.sae_train.jumprelu import Gradients, Parameters, StepResult, normalise_rows_, training_step

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


@dataclass
class Recipe:
    """steps; learning_rate: Adam's peak; target_l0: active latents a token."""

    steps: int
    learning_rate: float
    target_l0: float


@dataclass
class Trained:
    """best: parameters at the check with the lowest held-out FVU, offset calibrated; checks: (step, FVU) of each.

    seconds: in training steps, checks left out; fired: bool [d_hidden], whether a latent fired in the last
    window of training tokens.
    """

    best: Parameters
    checks: list[tuple[int, float]]
    seconds: float
    n_tokens: int
    fired: Tensor


class Trainer:
    """Parameters under training, and all that has come of it so far; one `step` a batch."""

    def __init__(self, parameters: Parameters, recipe: Recipe, batch_size: int) -> None:
        self.parameters = parameters
        self.recipe = recipe
        self.steps_done = 0
        self.seconds = 0.0
        self.checks: list[tuple[int, float]] = []
        self.best: Parameters | None = None
        self._weights = [
            parameters.encoder, parameters.encoder_bias, parameters.decoder, parameters.decoder_bias,
        ]  # fmt: skip
        self._optimiser = torch.optim.Adam(
            [{"params": self._weights}, {"params": [parameters.raw_threshold]}],
            lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True,
        )  # fmt: skip
        d_hidden = len(parameters.raw_threshold)
        device = parameters.encoder.device
        self._buffer = torch.empty(batch_size, d_hidden, device=device)
        self._window = max(1, min(DEAD_WINDOW, recipe.steps * batch_size // 4) // batch_size)
        self._fired_at = torch.zeros(d_hidden, dtype=torch.int64, device=device)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, for `restore`. Batches are a function of seed and step alone."""
        return {
            "parameters": vars(self.parameters),
            "optimiser": self._optimiser.state_dict(),
            "fired_at": self._fired_at,
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "checks": self.checks,
            "best": self.best and vars(self.best),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        device = self._fired_at.device
        for name, value in state["parameters"].items():
            getattr(self.parameters, name).copy_(value)
        self._optimiser.load_state_dict(state["optimiser"])
        self._fired_at.copy_(state["fired_at"])
        self.steps_done, self.seconds = state["steps_done"], state["seconds"]
        self.checks = [(step, fvu) for step, fvu in state["checks"]]
        if state["best"]:
            self.best = Parameters(**{name: value.to(device) for name, value in state["best"].items()})

    def check(self, held_out_fvu: Callable[[Parameters], float]) -> None:
        """Look at the held-out documents, and keep these parameters if none were better there."""
        candidate = self.parameters.clone()
        fvu = held_out_fvu(candidate)
        if fvu < min((fvu for _, fvu in self.checks if not math.isnan(fvu)), default=math.inf):
            self.best = candidate
        self.checks.append((self.steps_done, fvu))

    def step(self, batch: Tensor) -> StepResult:
        """One update. batch: [batch_size, d_model] normalised states."""
        result = training_step(
            self.parameters, batch, self.recipe.target_l0, dead=~self.fired(), buffer=self._buffer
        )
        self.steps_done += 1
        self._fired_at.masked_fill_(result.fired, self.steps_done)
        self._update(result.gradients)
        return result

    def fired(self) -> Tensor:
        """bool [d_hidden]: fired within the last window of training tokens."""
        return self._fired_at > self.steps_done - self._window

    def _update(self, gradients: Gradients) -> None:
        found = [gradients.encoder, gradients.encoder_bias, gradients.decoder, gradients.decoder_bias]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
        torch._foreach_mul_(found, (CLIP / (norm + 1e-6)).clamp_(max=1.0))
        for weight, gradient in zip(self._weights, found, strict=True):
            weight.grad = gradient
        self.parameters.raw_threshold.grad = gradients.raw_threshold
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * rate_factor(self.steps_done - 1, self.recipe.steps)
        self._optimiser.step()
        normalise_rows_(self.parameters.decoder)


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then flat, then linear decay: the factor on the peak learning rate at a step (0-based)."""
    rising = (step + 1) / max(1.0, WARMUP * steps)
    falling = (steps - step) / max(1.0, DECAY * steps)
    return min(1.0, rising, falling)


def train(
    parameters: Parameters,
    batches: Batches,
    recipe: Recipe,
    held_out_fvu: Callable[[Parameters], float],
    on_step: Callable[[int, StepResult], None] = lambda step, result: None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train in place and return the best checkpoint.

    held_out_fvu: sets the offset for the target L0 on held-out documents and returns the FVU there;
    on_step: called after every step with the number of steps done, for the progress line; checkpoint: where
    training goes on from, and what it leaves. Raises StopRequested if a stop was asked for, NumericError where
    training diverged.
    """
    trainer = Trainer(parameters, recipe, batches.batch_size)
    if checkpoint and checkpoint.found:
        trainer.restore(checkpoint.found)
    check_at = {round(recipe.steps * number / CHECKS) for number in range(1, CHECKS + 1)}
    with torch.no_grad():
        while trainer.steps_done < recipe.steps:
            start = time.perf_counter()
            result = trainer.step(batches.batch(trainer.steps_done))
            trainer.seconds += time.perf_counter() - start
            if trainer.steps_done in check_at:
                trainer.check(held_out_fvu)
            on_step(trainer.steps_done, result)
            if checkpoint:
                checkpoint.after_step(trainer.state)
    if trainer.best is None:
        raise NumericError(
            f"training diverged (held-out FVU {trainer.checks[-1][1]}); lower sae_training.learning_rate "
            f"({recipe.learning_rate:g})"
        )
    n_tokens = recipe.steps * batches.batch_size
    return Trained(trainer.best, trainer.checks, trainer.seconds, n_tokens, trainer.fired())
