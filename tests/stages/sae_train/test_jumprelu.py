"""The hand-written step against a dense float64 step through autograd."""

import pytest
import torch
from torch import Tensor

from stages.sae_train.jumprelu import WINDOW, Parameters, kth_largest, training_step

D_MODEL, D_HIDDEN, N_TOKENS, TARGET = 10, 32, 50, 5


def make_parameters(offset: float = 0.0) -> Parameters:
    g = torch.Generator().manual_seed(0)
    return Parameters(
        encoder=torch.randn(D_HIDDEN, D_MODEL, generator=g) / 2,
        encoder_bias=torch.randn(D_HIDDEN, generator=g) / 5,
        decoder=torch.randn(D_HIDDEN, D_MODEL, generator=g),
        decoder_bias=torch.randn(D_MODEL, generator=g) / 5,
        raw_threshold=torch.rand(D_HIDDEN, generator=g) / 2,
        offset=torch.tensor(offset),
    )


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(N_TOKENS, D_MODEL, generator=torch.Generator().manual_seed(1))


class Jump(torch.autograd.Function):
    """z · 1[z > θ] with the straight-through gradient for θ, as published; dense."""

    @staticmethod
    def forward(ctx, z, theta):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(z, theta)
        return z * (z > theta)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        z, theta = ctx.saved_tensors
        kernel = ((z - theta).abs() < WINDOW / 2).to(z.dtype)
        return grad * (z > theta), (-theta / WINDOW * kernel * grad).sum(0)


def dense_reference(p: Parameters, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients in float64 at p's offset; the threshold's with the multiplier that keeps the L0."""
    names = ("encoder", "encoder_bias", "decoder", "decoder_bias")
    w = {name: getattr(p, name).double().requires_grad_() for name in names}
    # The offset is the margin of the first pair that is left out; step past it, so that rounding does not decide.
    theta = ((p.raw_threshold + p.offset).relu().double() + 1e-6).requires_grad_()
    x = batch.double()
    z = x @ w["encoder"].T + w["encoder_bias"]
    loss = ((Jump.apply(z, theta) @ w["decoder"] + w["decoder_bias"] - x) ** 2).sum() / x.numel()
    loss.backward()
    gradients = {name: w[name].grad for name in names}
    # ∂L0/∂θ by the same kernel is -density/WINDOW: the multiplier makes the total change of L0 zero.
    density = ((z.detach() - theta.detach()).abs() < WINDOW / 2).double().sum(0) / WINDOW
    assert theta.grad is not None
    gradients["raw_threshold"] = theta.grad - theta.grad.sum() / density.sum() * density
    return loss.detach(), gradients


@pytest.mark.parametrize("stale_offset", [-5.0, 0.5, 100.0])
def test_the_sparse_step_has_the_gradients_of_the_dense_one(batch: Tensor, stale_offset: float) -> None:
    parameters = make_parameters(stale_offset)
    result = training_step(parameters, batch, TARGET)
    loss, gradients = dense_reference(parameters, batch)
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-5)
    for name, expected in gradients.items():
        found = getattr(result.gradients, name).double()
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), name
    assert gradients["raw_threshold"].abs().max() > 0


def test_every_batch_has_exactly_the_target_number_of_active_latents(batch: Tensor) -> None:
    for target in (1, 2.5, 5):
        parameters = make_parameters()
        result = training_step(parameters, batch, target)
        z = batch @ parameters.encoder.T + parameters.encoder_bias
        active = z > parameters.thresholds()
        assert float(result.active) == pytest.approx(target, rel=1e-6)
        assert int(active.sum()) == pytest.approx(target * N_TOKENS, abs=1)
        assert torch.equal(result.fired, active.any(0))


def test_negative_preactivations_never_count_as_active(batch: Tensor) -> None:
    parameters = make_parameters()
    parameters.encoder_bias -= 2.0  # hardly any latent is positive now
    result = training_step(parameters, batch, 20)
    z = batch @ parameters.encoder.T + parameters.encoder_bias
    assert float(result.active) == pytest.approx(float((z > 0).sum() / N_TOKENS))


def test_a_silent_batch_has_a_loss_and_finite_gradients(batch: Tensor) -> None:
    parameters = make_parameters()
    parameters.encoder_bias -= 100.0
    result = training_step(parameters, batch, TARGET)
    assert float(result.active) == 0
    assert all(gradient.isfinite().all() for gradient in vars(result.gradients).values())


def test_a_working_buffer_changes_nothing(batch: Tensor) -> None:
    plain = training_step(make_parameters(), batch, TARGET)
    buffered = training_step(make_parameters(), batch, TARGET, buffer=torch.empty(N_TOKENS + 7, D_HIDDEN))
    assert torch.equal(plain.gradients.encoder, buffered.gradients.encoder)
    assert torch.equal(plain.gradients.raw_threshold, buffered.gradients.raw_threshold)


def test_dead_latents_are_pushed_up_and_others_are_left_alone(batch: Tensor) -> None:
    parameters = make_parameters()
    parameters.encoder_bias[3] = -100.0
    dead = torch.zeros(D_HIDDEN, dtype=torch.bool)
    dead[3] = True
    batch = batch + 0.5
    plain = training_step(parameters, batch, TARGET).gradients
    woken = training_step(parameters, batch, TARGET, dead=dead).gradients
    assert plain.encoder_bias[3] == 0
    assert woken.encoder_bias[3] < 0
    mean = batch.mean(0)
    assert torch.allclose(woken.encoder[3] / woken.encoder_bias[3], mean, rtol=1e-4)
    others = torch.arange(D_HIDDEN) != 3
    assert torch.equal(plain.encoder[others], woken.encoder[others])


def test_kth_largest() -> None:
    values = torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0])
    for count in range(1, 5):
        assert int((values > kth_largest(values, count)).sum()) == count
    assert (values > kth_largest(values, 5)).all()
    assert (values > kth_largest(values, 50)).all()
