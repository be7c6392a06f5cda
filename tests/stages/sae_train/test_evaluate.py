"""What is measured of a SAE, against the definitions written out in numpy, in float64."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train import evaluate
from ghosttrack.stages.sae_train.evaluate import Tally, calibrated_offset, interleaved, unseen_l0
from ghosttrack.stages.sae_train.initialise import initial_parameters
from ghosttrack.stages.sae_train.stored import to_sae
from tests.stages.sae_train import spliced
from tests.stages.sae_train.synthetic import SEGMENT, layer_of, sparse_states
from tests.tiny_models import D_MODEL

N_TOKENS, PART = 900, 128
QUANTILES = {"0.05": 5, "0.25": 25, "0.5": 50, "0.75": 75, "0.95": 95}


@pytest.fixture(scope="module")
def sae() -> JumpReLUSAE:
    """Latents of every kind: some fire on most tokens, some on few, two never."""
    sae = spliced.random_sae(0)
    bias = torch.linspace(-3.0, 1.5, spliced.D_HIDDEN)
    bias[7], bias[20] = -50.0, -60.0
    return replace(sae, b_enc=bias)


@pytest.fixture(scope="module")
def states() -> Tensor:
    """[N_TOKENS, D_MODEL]; every thirtieth is a sink."""
    states = 1.5 * torch.randn(N_TOKENS, D_MODEL, generator=torch.Generator().manual_seed(2)) + 0.4
    states[::30] *= 8.0
    return states


@pytest.fixture(scope="module")
def kept() -> Tensor:
    return torch.arange(N_TOKENS) % 30 > 0


@pytest.fixture(scope="module")
def found(sae: JumpReLUSAE, states: Tensor, kept: Tensor) -> dict[str, Any]:
    tally = Tally(sae)
    for part, keep in zip(states.split(PART), kept.split(PART), strict=True):
        tally.add(part, keep)
    return tally.figures()


@pytest.fixture(scope="module")
def reference(sae: JumpReLUSAE, states: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised states and reconstructions [N_TOKENS, D_MODEL], and which latents are active, [N_TOKENS, D_HIDDEN]."""
    tensors = {name: value.double().numpy() for name, value in vars(sae).items() if isinstance(value, Tensor)}
    x = (states.double().numpy() - tensors["mean"]) * sae.scale
    z = x @ tensors["W_enc"] + tensors["b_enc"]
    active = z > tensors["threshold"]
    return x, (z * active) @ tensors["W_dec"] + tensors["b_dec"], active


def fvu(x: np.ndarray, reconstruction: np.ndarray) -> float:
    return float(((x - reconstruction) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())


def test_the_masked_fvu_leaves_out_what_the_unmasked_one_takes_in(
    found: dict[str, Any], reference: tuple[np.ndarray, ...], kept: Tensor
) -> None:
    x, reconstruction, _ = reference
    mask = kept.numpy()
    assert found["fvu"] == pytest.approx(fvu(x[mask], reconstruction[mask]), rel=1e-5)
    assert found["fvu_unmasked"] == pytest.approx(fvu(x, reconstruction), rel=1e-5)
    assert found["mse"] == pytest.approx(((x - reconstruction)[mask] ** 2).mean(), rel=1e-5)
    assert abs(found["fvu_unmasked"] - found["fvu"]) > 0.05


def test_active_latents_a_token(
    found: dict[str, Any], reference: tuple[np.ndarray, ...], kept: Tensor
) -> None:
    counts = reference[2][kept.numpy()].sum(1)
    assert found["l0"] == pytest.approx(counts.mean())
    assert found["l0_quantiles"] == pytest.approx(
        {name: np.percentile(counts, percent) for name, percent in QUANTILES.items()}, rel=1e-5
    )
    assert found["held_out_tokens"] == len(counts) == 870
    edges = found["l0_histogram"]["edges"]
    assert found["l0_histogram"]["counts"] == np.histogram(counts, np.array(edges) - 0.5)[0].tolist()
    assert (edges[0], edges[-1]) == (counts.min(), counts.max() + 1)


def test_how_often_latents_fire(
    found: dict[str, Any], reference: tuple[np.ndarray, ...], kept: Tensor
) -> None:
    rates = reference[2][kept.numpy()].mean(0)
    assert found["firing_rate_quantiles"] == pytest.approx(
        {name: np.percentile(rates, percent) for name, percent in QUANTILES.items()}, rel=1e-5
    )
    assert found["over_dense_fraction"] == pytest.approx((rates > 0.1).mean())
    assert 0.2 < found["over_dense_fraction"] < 0.9
    histogram = found["firing_rate_histogram"]
    edges = np.arange(-5, 0.01, 0.25)
    assert histogram["log10_edges"] == edges.tolist()
    assert histogram["counts"] == np.histogram(np.log10(rates[rates > 0]), edges)[0].tolist()
    never = int((rates == 0).sum())
    assert histogram["never"] == never >= 2
    assert found["dead_fraction"] == pytest.approx(never / len(rates))


@pytest.mark.parametrize(("low", "high"), [(3, 3), (0, 39), (0, 40), (12, 700)])
def test_bins_of_a_histogram_of_l0_are_whole_and_few_and_hold_every_token(low: int, high: int) -> None:
    counts = torch.randint(low, high + 1, (500,), generator=torch.Generator().manual_seed(1)).float()
    counts[:2] = torch.tensor([low, high])
    histogram = evaluate.l0_histogram(counts)
    edges = histogram["edges"]
    assert len(edges) - 1 <= evaluate.L0_BINS
    assert {b - a for a, b in itertools.pairwise(edges)} == {math.ceil((high - low + 1) / 40)}
    assert edges[0] == low <= high < edges[-1]
    assert histogram["counts"] == np.histogram(counts.numpy(), np.array(edges) - 0.5)[0].tolist()


def test_halves_take_turns_within_every_document() -> None:
    block = evaluate.BLOCK
    # a token is missing, as an outlier is
    rows = torch.tensor([row for row in range(10, 10 + 7 * block) if row != 14])
    document = torch.where(rows < 10 + 3 * block, 5, torch.where(rows < 10 + 6 * block, 8, 9))
    expected = [0] * (block - 1) + [1] * block + [0] * block  # document 5
    expected += [1] * block + [0] * block + [1] * block  # document 8
    expected += [0] * block  # document 9, of one block
    assert interleaved(rows, document).tolist() == [half == 1 for half in expected]


def test_the_unseen_half_is_counted_at_the_offset_of_the_other() -> None:
    layer = layer_of(sparse_states(2000, 24, 40, 4))
    target, document = 6.0, torch.arange(2000) // SEGMENT
    parameters = initial_parameters(layer.normalised(layer.train), 64, target, seed=0)
    second = interleaved(layer.held_out, document[layer.held_out])
    halves = [layer.held_out[~second], layer.held_out[second]]
    expected = []
    for here, other in (halves, halves[::-1]):
        parameters.offset.copy_(calibrated_offset(parameters, layer, other, target))
        acts = to_sae(parameters, layer, target).encode(layer.states[here])
        expected.append((acts > 0).sum(1).double().mean().item())
    assert unseen_l0(parameters, layer, target, document) == pytest.approx(expected, rel=1e-3)
    short = replace(layer, held_out=layer.held_out[: evaluate.BLOCK - 1])
    assert unseen_l0(parameters, short, target, document) == []
