"""Training on states with a known sparse structure."""

import math

import pytest
import torch

from ghosttrack.common.errors import NumericError
from ghosttrack.stages.sae_train import evaluate, training
from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.evaluate import Checked
from ghosttrack.stages.sae_train.initialise import initial_parameters
from ghosttrack.stages.sae_train.jumprelu import Gradients, Parameters
from ghosttrack.stages.sae_train.normalise import LayerStates
from ghosttrack.stages.sae_train.stored import from_sae, to_sae
from ghosttrack.stages.sae_train.training import CLIP, Recipe, Training, clip_factors, rate_factor, train
from tests.stages.sae_train.synthetic import SEGMENT, layer_of, sparse_states

D_MODEL, D_HIDDEN = 48, 160


@pytest.fixture(scope="module")
def layer() -> LayerStates:
    return layer_of(sparse_states(6000, D_MODEL, 120, 8))


def new_run(
    layer: LayerStates, target: float = 16, rate: float = 3e-3, epochs: float = 4, seed: int = 0
) -> Training:
    batches = Batches([layer], 128, seed=seed)
    parameters = initial_parameters(batches.sample(4 * D_HIDDEN, seed), D_HIDDEN, target, seed=seed)

    def check(candidate: Parameters) -> Checked:
        return evaluate.fvu_at_target(candidate, [layer], [layer.held_out], target)

    return Training(parameters, batches, Recipe(batches.steps(epochs), rate, target), check)


def fit(layer: LayerStates, target: float, epochs: float = 4) -> tuple[Training, Parameters]:
    run = new_run(layer, target, epochs=epochs)
    [best] = train([run])
    return run, best


@pytest.fixture(scope="module")
def trained(layer: LayerStates) -> tuple[Training, Parameters]:
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


@pytest.fixture(scope="module")
def long_layer() -> LayerStates:
    """With so many held-out tokens that the mean of half of them is known to 2 %."""
    return layer_of(sparse_states(24_000, D_MODEL, 120, 8))


@pytest.mark.parametrize("target", [4, 8, 16, 32])
def test_held_out_l0_is_the_target_for_any_target(long_layer: LayerStates, target: int) -> None:
    """With nothing changed but the target; also on tokens that had no say in the thresholds."""
    layer = long_layer
    run, best = fit(layer, target, epochs=0.5)
    sae = to_sae(best, layer, target)
    l0 = (sae.encode(layer.states[layer.held_out]) > 0).sum(1).float().mean()
    assert float(l0) == pytest.approx(target, rel=0.02)
    assert [check.l0 for check in run.checks] == [pytest.approx(target, rel=0.02)] * 4
    unseen = evaluate.unseen_l0(best, layer, target, torch.arange(len(layer.states)) // SEGMENT)
    assert unseen == [pytest.approx(target, rel=0.05)] * 2


def test_it_learns_and_beats_principal_components(
    layer: LayerStates, trained: tuple[Training, Parameters]
) -> None:
    fvus = [check.fvu for check in trained[0].checks]
    assert fvus[-1] < fvus[0] < 0.5
    x = layer.normalised(layer.held_out)
    variance = torch.linalg.svdvals(x - x.mean(0)) ** 2
    principal = float(variance[16:].sum() / variance.sum())  # 16 numbers a token, as the SAE has
    assert fvus[-1] < principal


def test_measured_figures_agree_with_their_definitions(
    layer: LayerStates, trained: tuple[Training, Parameters]
) -> None:
    run, best = trained
    sae = to_sae(best, layer, 16)
    found = evaluate.measure(sae, layer, run.fired())
    states = layer.states[layer.held_out].double()
    reconstruction = sae.decode(sae.encode(states)).double()
    error = (states - reconstruction).square().sum()
    assert found["fvu"] == pytest.approx(float(error / (states - states.mean(0)).square().sum()), rel=1e-3)
    assert found["mse"] == pytest.approx(float(error) * layer.scale**2 / states.numel(), rel=1e-3)
    assert found["fvu"] == pytest.approx(run.checks[-1].fvu, rel=1e-2)
    silent = ~run.fired() & ~(sae.encode(layer.states[layer.held_out]) > 0).any(0)
    assert found["dead_fraction"] == pytest.approx(float(silent.float().mean()))
    assert found["held_out_tokens"] == len(layer.held_out)


def test_training_twice_gives_the_same_numbers(layer: LayerStates) -> None:
    (first, best), (second, again) = fit(layer, 16, epochs=1), fit(layer, 16, epochs=1)
    assert_same(best, again)
    assert first.checks == second.checks


def assert_same(one: Parameters, other: Parameters) -> None:
    for name, value in vars(one).items():
        assert torch.equal(value, getattr(other, name)), name


def test_layers_that_train_as_a_stack_come_to_what_they_would_come_to_alone() -> None:
    """Also where one has more tokens, and so more steps, than another."""
    layers = [
        layer_of(sparse_states(n, D_MODEL, 120, 8, seed=n), number)
        for number, n in enumerate((1400, 2000, 1400))
    ]
    alone, together = ([new_run(layer, epochs=2, seed=1) for layer in layers] for _ in range(2))
    best_alone = [best for run in alone for best in train([run])]
    best_together = train(together)
    assert len({run.recipe.steps for run in together}) == 2
    for one, other, best, also in zip(alone, together, best_alone, best_together, strict=True):
        assert_same(best, also)
        assert_same(one.parameters, other.parameters)
        assert one.checks == other.checks
        assert one.curve() == other.curve()
        assert torch.equal(one.fired_at, other.fired_at)


def test_latents_that_start_far_below_their_thresholds_are_woken(
    layer: LayerStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead() -> float:
        run = new_run(layer)
        run.parameters.encoder_bias[:40] -= 2.0
        [best] = train([run])
        return float(evaluate.measure(to_sae(best, layer, 16), layer, run.fired())["dead_fraction"])

    assert dead() == 0
    monkeypatch.setattr(training, "WAKING", 0.0)
    assert dead() > 0.05


def test_the_curve_is_that_of_the_training(trained: tuple[Training, Parameters]) -> None:
    run, _ = trained
    curve = run.curve()
    assert curve["tokens"][-1] == run.n_tokens
    assert len(curve["tokens"]) == len(curve["loss"]) == min(200, run.recipe.steps)
    assert curve["l0"] == [pytest.approx(16, rel=0.02)] * len(curve["l0"])
    assert curve["loss"][-1] < curve["loss"][0]
    assert curve["dead_fraction"][-1] == pytest.approx(1 - float(run.fired().float().mean()), abs=0.02)


def test_gradients_are_clipped_without_the_thresholds_and_each_sae_by_itself() -> None:
    def gradients(scale: float) -> Gradients:
        return Gradients(
            torch.full((2, 3, 4), 0.1), torch.zeros(2, 3), torch.zeros(2, 3, 4), torch.zeros(2, 4),
            torch.full((2, 3), scale),
        )  # fmt: skip

    found = gradients(1e6)
    found.decoder[1] = 5.0
    factors = clip_factors(found)
    assert factors[0] == 1.0
    norm = (12 * 0.1**2 + 12 * 5.0**2) ** 0.5
    assert float(factors[1]) == pytest.approx(CLIP / norm, rel=1e-5)


def test_going_on_from_a_stored_sae_starts_where_it_was(
    layer: LayerStates, trained: tuple[Training, Parameters]
) -> None:
    run, best = trained
    again = from_sae(to_sae(best, None, 16))
    fvu = evaluate.fvu_at_target(again, [layer], [layer.held_out], 16).mean
    assert fvu == pytest.approx(run.checks[-1].fvu, rel=1e-3)


def scripted(layer: LayerStates, answers: list[tuple[float, float]]) -> tuple[Training, list[Parameters]]:
    """A run whose checks find these FVUs and L0s, and the candidates that they were asked about."""
    batches = Batches([layer], 128, seed=0)
    parameters = initial_parameters(batches.sample(640, 0), D_HIDDEN, 16, seed=0)
    left, seen = iter(answers), []

    def check(candidate: Parameters) -> Checked:
        seen.append(candidate)
        fvu, l0 = next(left)
        return Checked([fvu], fvu, l0)

    return Training(parameters, batches, Recipe(8, 1e-3, 16), check), seen


def test_the_best_check_is_returned(layer: LayerStates) -> None:
    run, seen = scripted(layer, [(0.5, 16), (0.2, 16), (0.3, 16), (math.nan, 16)])
    [best] = train([run])
    assert best is seen[1]
    assert [check.step for check in run.checks] == [2, 4, 6, 8]


def test_a_better_reconstruction_with_another_l0_is_not_the_best(layer: LayerStates) -> None:
    run, seen = scripted(layer, [(0.1, 30), (0.5, 16.5), (0.4, 15.5), (0.2, 10)])
    [best] = train([run])
    assert best is seen[2]
    run, seen = scripted(layer, [(0.3, 30), (0.2, 30), (0.4, 10), (math.nan, 10)])
    [best] = train([run])
    assert best is seen[1]


def test_divergence_is_an_error_that_says_what_to_change(layer: LayerStates) -> None:
    run, _ = scripted(layer, [(math.nan, 16)] * 4)
    with pytest.raises(NumericError, match=r"the SAE: .* lower sae_training\.learning_rate"):
        train([run])


def test_the_learning_rate_rises_and_ends_near_zero() -> None:
    factors = [rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert factors[500] == 1.0
    assert 0 < factors[-1] < 0.01
    assert rate_factor(0, 1) == 1.0
