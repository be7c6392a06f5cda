"""Training on states with a known sparse structure."""

import math

import pytest
import torch

from common.errors import NumericError
from stages.sae_train import evaluate
from stages.sae_train.batches import Batches
from stages.sae_train.initialise import initial_parameters
from stages.sae_train.jumprelu import Parameters
from stages.sae_train.normalise import LayerStates
from stages.sae_train.run import from_sae, to_sae
from stages.sae_train.training import Recipe, Trained, rate_factor, train
from tests.stages.sae_train.synthetic import layer_of, sparse_states

D_MODEL, D_HIDDEN = 48, 160


@pytest.fixture(scope="module")
def layer() -> LayerStates:
    return layer_of(sparse_states(6000, D_MODEL, 120, 8))


def fit(layer: LayerStates, target: float, rate: float = 3e-3, epochs: float = 4) -> Trained:
    batches = Batches([layer], 128, seed=0)
    parameters = initial_parameters(batches.sample(4 * D_HIDDEN, 0), D_HIDDEN, target, seed=0)

    def held_out_fvu(candidate: Parameters) -> float:
        return evaluate.fvu_at_target(candidate, [layer], [layer.held_out], target).mean

    return train(parameters, batches, Recipe(batches.steps(epochs), rate, target), held_out_fvu)


@pytest.fixture(scope="module")
def trained(layer: LayerStates) -> Trained:
    return fit(layer, 16)


def test_the_start_is_made_of_distinct_unit_directions(layer: LayerStates) -> None:
    sample = layer.normalised(layer.train[:100])  # fewer than latents
    decoder = initial_parameters(sample, D_HIDDEN, 16, seed=0).decoder
    assert torch.allclose(decoder.norm(dim=1), torch.ones(D_HIDDEN), atol=1e-5)
    cosine = decoder @ decoder.T - torch.eye(D_HIDDEN)
    assert cosine.max() < 0.99


def test_the_start_reconstructs_better_than_the_mean_does(layer: LayerStates) -> None:
    parameters = initial_parameters(layer.normalised(layer.train), D_HIDDEN, 16, seed=0)
    assert evaluate.fvu_at_target(parameters, [layer], [layer.held_out], 16).mean < 0.9


@pytest.mark.parametrize("target", [16, 32])
def test_held_out_l0_is_the_target_for_any_target(layer: LayerStates, target: int) -> None:
    trained = fit(layer, target, epochs=2)
    sae = to_sae(trained.best, layer, target)
    l0 = (sae.encode(layer.states[layer.held_out]) > 0).sum(1).float().mean()
    assert float(l0) == pytest.approx(target, rel=0.02)
    document = torch.arange(len(layer.states)) // 40
    for unseen in evaluate.unseen_l0(trained.best, layer, target, document):
        assert unseen == pytest.approx(target, rel=0.1)


def test_it_learns_and_beats_principal_components(layer: LayerStates, trained: Trained) -> None:
    fvus = [fvu for _, fvu in trained.checks]
    assert fvus[-1] < fvus[0] < 0.5
    x = layer.normalised(layer.held_out)
    variance = torch.linalg.svdvals(x - x.mean(0)) ** 2
    principal = float(variance[16:].sum() / variance.sum())  # 16 numbers a token, as the SAE has
    assert fvus[-1] < principal


def test_measured_figures_agree_with_their_definitions(layer: LayerStates, trained: Trained) -> None:
    sae = to_sae(trained.best, layer, 16)
    found = evaluate.measure(sae, layer, trained.fired)
    states = layer.states[layer.held_out].double()
    reconstruction = sae.decode(sae.encode(states)).double()
    error = (states - reconstruction).square().sum()
    assert found["fvu"] == pytest.approx(float(error / (states - states.mean(0)).square().sum()), rel=1e-3)
    assert found["mse"] == pytest.approx(float(error) * layer.scale**2 / states.numel(), rel=1e-3)
    assert found["fvu"] == pytest.approx(trained.checks[-1][1], rel=1e-2)
    silent = ~trained.fired & ~(sae.encode(layer.states[layer.held_out]) > 0).any(0)
    assert found["dead_fraction"] == pytest.approx(float(silent.float().mean()))
    assert found["held_out_tokens"] == len(layer.held_out)


def test_training_twice_gives_the_same_numbers(layer: LayerStates) -> None:
    first, second = fit(layer, 16, epochs=1), fit(layer, 16, epochs=1)
    for name, value in vars(first.best).items():
        assert torch.equal(value, getattr(second.best, name)), name
    assert first.checks == second.checks


def test_going_on_from_a_stored_sae_starts_where_it_was(layer: LayerStates, trained: Trained) -> None:
    again = from_sae(to_sae(trained.best, None, 16))
    fvu = evaluate.fvu_at_target(again, [layer], [layer.held_out], 16).mean
    assert fvu == pytest.approx(trained.checks[-1][1], rel=1e-3)


def test_the_best_check_is_returned(layer: LayerStates) -> None:
    batches = Batches([layer], 128, seed=0)
    parameters = initial_parameters(batches.sample(640, 0), D_HIDDEN, 16, seed=0)
    answers = iter([0.5, 0.2, 0.3, math.nan])
    seen: list[Parameters] = []

    def scripted(candidate: Parameters) -> float:
        seen.append(candidate)
        return next(answers)

    trained = train(parameters, batches, Recipe(8, 1e-3, 16), scripted)
    assert trained.best is seen[1]
    assert [step for step, _ in trained.checks] == [2, 4, 6, 8]


def test_divergence_is_an_error_that_says_what_to_change(layer: LayerStates) -> None:
    batches = Batches([layer], 128, seed=0)
    parameters = initial_parameters(batches.sample(640, 0), D_HIDDEN, 16, seed=0)
    with pytest.raises(NumericError, match=r"lower sae_training\.learning_rate"):
        train(parameters, batches, Recipe(4, 1e-3, 16), lambda candidate: math.nan)


def test_identity_is_whole_for_the_base_itself_and_broken_by_a_shuffle() -> None:
    base = torch.nn.functional.normalize(torch.randn(50, 30, generator=torch.Generator().manual_seed(0)))
    assert evaluate.identity(base, base) == {"base_cosine": pytest.approx(1), "base_self_match": 1.0}
    assert evaluate.identity(base.roll(1, 0), base)["base_self_match"] == 0.0


def test_the_learning_rate_rises_and_ends_near_zero() -> None:
    factors = [rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert factors[500] == 1.0
    assert 0 < factors[-1] < 0.01
    assert rate_factor(0, 1) == 1.0
