"""Seeds: one number in the configuration decides everything random."""

import random
import zlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for each purpose, so that one more draw here moves nothing there."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators and ask torch for deterministic kernels."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
