"""Products of float32 matrices on a CPU. torch makes them by MKL, which on AMD's processors keeps to AVX2 where they have AVX-512,
twice as wide. oneDNN, by which torch makes those of other types, does not: 230 GFLOP/s instead of 100 on one core of a
Zen 5, in the same precision. There, large products are made by it.
"""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LARGE = 1 << 16
"""Numbers in a matrix from which a product is worth the 10 µs that the call costs. Rows do not count, so that a text is read by the same
library alone and beside others."""


@functools.cache
def mkl_is_narrow() -> bool:
    """Whether this machine's processor is one of those."""
    try:
        make = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in make


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias, as torch.nn.functional.linear has it. rows: [..., d_in]; weight: [d_out, d_in]; bias: [d_out]."""
    plain = rows.dtype == weight.dtype == torch.float32 and rows.device.type == "cpu" and rows.numel() > 0
    followed = torch.is_grad_enabled() and (rows.requires_grad or weight.requires_grad)
    if weight.numel() < LARGE or not plain or followed or not mkl_is_narrow():
        return nn.functional.linear(rows, weight, bias)
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _Conv1D(Conv1D):
    """GPT-2's, whose weight is the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.T, self.bias)


def by_linear(model: nn.Module) -> None:
    """Have a model make its products by `linear` from now on."""
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _Linear, Conv1D: _Conv1D}
    for module in model.modules():
        module.__class__ = kinds.get(type(module), type(module))
