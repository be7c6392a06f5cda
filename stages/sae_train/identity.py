"""Whether latent j is the same latent from layer to layer, by the directions that decoders write to.

The tracker follows latents across layers; what it can follow shows here. Decoder rows have unit norm, so that products
are cosines. They are made in chunks: d_hidden² numbers are never there at once.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ghosttrack.common.models.products import linear
from ghosttrack.stages.sae_train.evaluate import QUANTILES, quantiles

CHUNK_ROWS = 2048
RANDOM_ROWS = 256
"""Random directions whose nearest other is looked for."""


def compare(decoder: Tensor, other: Tensor) -> dict[str, Any]:
    """Each latent of one decoder beside those of another; both [d_hidden, d_model], unit rows.

    cosine: mean over latents of the cosine to the latent with the same number, and its quantiles; nearest_cosine: mean
    of the largest cosine to any; self_match: fraction of latents whose nearest is that with the same number.
    """
    own = (decoder * other).sum(1)
    best, nearest = _nearest(decoder, other)
    match = nearest == torch.arange(len(decoder), device=decoder.device)
    return {
        "cosine": float(own.mean()),
        "cosine_quantiles": quantiles(own),
        "nearest_cosine": float(best.mean()),
        "self_match": float(match.float().mean()),
    }


def to_base(decoder: Tensor, base: Tensor) -> dict[str, float]:
    """How much latent j is still the base's latent j: `cosine` and `self_match` of `compare`."""
    found = compare(decoder, base)
    return {"base_cosine": found["cosine"], "base_self_match": found["self_match"]}


def at_random(d_hidden: int, d_model: int, seed: int) -> dict[str, Any]:
    """What `compare` gives for two decoders of independent random directions.

    Own cosines have mean 0 and very nearly the normal distribution of variance 1/d_model, and a match is one chance in
    d_hidden; the nearest cosine is measured on RANDOM_ROWS seeded directions.
    """
    generator = torch.Generator().manual_seed(seed)
    other = torch.nn.functional.normalize(torch.randn(d_hidden, d_model, generator=generator), dim=1)
    few = torch.nn.functional.normalize(torch.randn(RANDOM_ROWS, d_model, generator=generator), dim=1)
    spread = torch.special.ndtri(torch.tensor(QUANTILES)) / math.sqrt(d_model)
    return {
        "cosine": 0.0,
        "cosine_quantiles": dict(zip(map("{:g}".format, QUANTILES), spread.tolist(), strict=True)),
        "nearest_cosine": float(_nearest(few, other)[0].mean()),
        "self_match": 1 / d_hidden,
    }


def report(decoders: Mapping[int, Tensor], seed: int) -> dict[str, Any]:
    """Identity over depth. decoders: layer → [d_hidden, d_model], unit rows.

    adjacent: `compare` of every layer with the next one studied; to_first: of every later layer with the first, which
    is how far latents have drifted; random: what independent random directions would give.
    """
    layers = sorted(decoders)
    first = layers[0]
    d_hidden, d_model = decoders[first].shape

    def pairs(name: str, others: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
        return [
            {"layer": one, name: other, **compare(decoders[one], decoders[other])} for one, other in others
        ]

    return {
        "adjacent": pairs("next", itertools.pairwise(layers)),
        "to_first": pairs("first", ((layer, first) for layer in layers[1:])),
        "random": at_random(d_hidden, d_model, seed),
    }


def _nearest(decoder: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Largest cosine of each row to any row of the other, and which row that is: [n] each."""
    found = [(linear(rows, other)).max(1) for rows in decoder.split(CHUNK_ROWS)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])
