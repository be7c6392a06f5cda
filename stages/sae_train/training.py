"""The training loop: Adam, learning rate, dead latents, and the choice of the best checkpoint.

Nothing here knows of files. The order of the batches, the start and the arithmetic are fixed by the seed, so
the same machine gives the same bytes again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import NumericError
from stages.sae_train.batches import Batches
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
    """Parameters under training; one `step` a batch."""

    def __init__(self, parameters: Parameters, recipe: Recipe, batch_size: int) -> None:
        self.parameters = parameters
        self.recipe = recipe
        self.steps_done = 0
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
) -> Trained:
    """Train in place and return the best checkpoint.

    held_out_fvu: sets the offset for the target L0 on held-out documents and returns the FVU there;
    on_step: called after every step with the number of steps done, for the progress line.
    """
    trainer = Trainer(parameters, recipe, batches.batch_size)
    check_at = {round(recipe.steps * number / CHECKS) for number in range(1, CHECKS + 1)}
    best, best_fvu = parameters, float("inf")
    checks: list[tuple[int, float]] = []
    seconds = 0.0
    with torch.no_grad():
        for step in range(recipe.steps):
            start = time.perf_counter()
            result = trainer.step(batches.batch(step))
            seconds += time.perf_counter() - start
            on_step(step + 1, result)
            if step + 1 in check_at:
                candidate = parameters.clone()
                fvu = held_out_fvu(candidate)
                checks.append((step + 1, fvu))
                if fvu < best_fvu:
                    best, best_fvu = candidate, fvu
    if best_fvu == float("inf"):
        raise NumericError(
            f"training diverged (held-out FVU {checks[-1][1]}); lower sae_training.learning_rate "
            f"({recipe.learning_rate:g})"
        )
    return Trained(best, checks, seconds, recipe.steps * batches.batch_size, trainer.fired())
