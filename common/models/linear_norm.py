"""A norm as what it is with its scale held: linear. Gain, bias and centring are found by asking, since families differ in
how they store them (Gemma's gain is 1 + weight, LayerNorm takes off the mean, RMSNorm has no bias).

    norm(x) = gain · (x - mean(x), where centred) / scale(x) + bias
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PLAIN = 1e-3
"""Relative error above which a norm is not of that form."""


@dataclass(frozen=True)
class LinearNorm:
    """gain, bias: [d_model] float32. centred: whether the mean over coordinates is taken off. error: the largest relative
    error of the form at states that it was not found from; see `plain`."""

    gain: Tensor
    bias: Tensor
    centred: bool
    error: float

    @classmethod
    @torch.inference_mode()
    def of(
        cls, norm: Callable[[Tensor], Tensor], d_model: int, device: torch.device, dtype: torch.dtype
    ) -> "LinearNorm":
        """Found by probing a norm. norm: [..., d_model] → the same shape, in `dtype`."""

        def ask(states: Tensor) -> Tensor:
            return norm(states.to(device, dtype)).float()

        # Mean 0, so that centring leaves it as it is, and no coordinate 0.
        probe = torch.ones(d_model, device=device)
        probe[1::2] = -1
        if d_model % 2:
            probe[-3:] = torch.tensor([1.0, 1.0, -2.0])
        both = ask(probe), ask(-probe)
        bias, odd = (both[0] + both[1]) / 2, (both[0] - both[1]) / 2
        gain = odd / probe * probe.square().mean().sqrt()
        ones = torch.ones(d_model, device=device)
        flat = (ask(ones) - ask(-ones)) / 2
        centred = bool(flat.abs().amax() < 0.1 * gain.abs().amax())
        found = cls(gain, bias, centred, 0.0)
        states = torch.randn(8, d_model, generator=torch.Generator().manual_seed(0)).to(device)
        states = states * torch.logspace(0, 2, 8, device=device)[:, None]
        true = ask(states)
        held = found.apply(states, found.divisor(states, true)) + bias
        error = (held - true).norm(dim=-1) / (true - bias).norm(dim=-1).clamp(min=1e-12)
        return cls(gain, bias, centred, float(error.amax()))

    def to(self, device: torch.device | str) -> "LinearNorm":
        return replace(self, gain=self.gain.to(device), bias=self.bias.to(device))

    @property
    def plain(self) -> bool:
        return self.error < PLAIN

    def divisor(self, states: Tensor, normed: Tensor) -> Tensor:
        """The scale at which the form gives what the norm gave, by least squares. states, normed: [..., d_model] → [...]."""
        linear = self._centre(states.float()) * self.gain
        given = normed.float() - self.bias
        return linear.square().sum(-1) / (linear * given).sum(-1)

    def apply(self, parts: Tensor, divisor: Tensor) -> Tensor:
        """What the norm makes of additive parts of a state [..., d_model] with its scale held at `divisor` [...]; the bias,
        which belongs to no part, is left out."""
        return self._centre(parts.float()) * self.gain / divisor[..., None]

    def _centre(self, states: Tensor) -> Tensor:
        return states - states.mean(-1, keepdim=True) if self.centred else states
