"""The hand-written step against a dense float64 step through autograd."""

import pytest
import torch
from torch import Tensor

from ghosttrack.stages.sae_train.jumprelu import (
    WINDOW,
    Parameters,
    StepResult,
    kth_largest,
    product_dtype,
    training_step,
    wake_,
)

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


def step(
    parameters: Parameters, batch: Tensor, target: float, dtype: torch.dtype = torch.float32
) -> StepResult:
    """A step of one SAE; what comes of it without the dimension of the stack."""
    stack = Parameters.stacked([parameters])
    products = torch.empty(1, *batch.shape[:-1], D_HIDDEN, dtype=dtype)
    result = training_step(stack, batch.unsqueeze(0), target, products)
    parameters.offset.copy_(stack.offset[0])
    gradients = type(result.gradients)(**{name: value[0] for name, value in vars(result.gradients).items()})
    return StepResult(gradients, result.loss[0], result.active[0], result.fired[0])


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
    result = step(parameters, batch, TARGET)
    loss, gradients = dense_reference(parameters, batch)
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-5)
    for name, expected in gradients.items():
        found = getattr(result.gradients, name).double()
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), name
    assert gradients["raw_threshold"].abs().max() > 0


def test_every_batch_has_exactly_the_target_number_of_active_latents(batch: Tensor) -> None:
    for target in (1, 2.5, 5):
        parameters = make_parameters()
        result = step(parameters, batch, target)
        z = batch @ parameters.encoder.T + parameters.encoder_bias
        active = z > parameters.thresholds()
        assert float(result.active) == pytest.approx(target, rel=1e-6)
        assert int(active.sum()) == pytest.approx(target * N_TOKENS, abs=1)
        assert torch.equal(result.fired, active.any(0))


def test_negative_preactivations_never_count_as_active(batch: Tensor) -> None:
    parameters = make_parameters()
    parameters.encoder_bias -= 2.0  # hardly any latent is positive now
    result = step(parameters, batch, 20)
    z = batch @ parameters.encoder.T + parameters.encoder_bias
    assert float(result.active) == pytest.approx(float((z > 0).sum() / N_TOKENS))


def test_a_silent_batch_has_a_loss_and_finite_gradients(batch: Tensor) -> None:
    parameters = make_parameters()
    parameters.encoder_bias -= 100.0
    result = step(parameters, batch, TARGET)
    assert float(result.active) == 0
    assert all(gradient.isfinite().all() for gradient in vars(result.gradients).values())


def test_a_stack_gives_each_sae_what_it_has_alone_bit_for_bit() -> None:
    g = torch.Generator().manual_seed(7)
    batches = torch.randn(3, N_TOKENS, D_MODEL, generator=g)
    each = [make_parameters(offset) for offset in (-5.0, 0.5, 100.0)]
    for number, parameters in enumerate(each):
        parameters.encoder += 0.1 * number
        parameters.encoder_bias -= 0.3 * number
    stack = Parameters.stacked(each)
    together = training_step(stack, batches, TARGET, torch.empty(3, N_TOKENS, D_HIDDEN))
    for number, (parameters, own) in enumerate(zip(each, stack.unstacked(), strict=True)):
        alone = step(parameters, batches[number], TARGET)
        assert torch.equal(together.loss[number], alone.loss)
        assert torch.equal(together.active[number], alone.active)
        assert torch.equal(together.fired[number], alone.fired)
        assert torch.equal(own.offset, parameters.offset)
        for name, gradient in vars(together.gradients).items():
            assert torch.equal(gradient[number], getattr(alone.gradients, name)), name


def test_bfloat16_is_the_same_step_but_for_its_rounding(batch: Tensor) -> None:
    exact, parameters = step(make_parameters(), batch, TARGET), make_parameters()
    rounded = step(parameters, batch, TARGET, dtype=torch.bfloat16)
    assert float(rounded.loss) == pytest.approx(float(exact.loss), rel=0.02)
    assert not torch.equal(rounded.loss, exact.loss)
    for name, gradient in vars(rounded.gradients).items():
        assert gradient.dtype == torch.float32, name
    cosine = torch.cosine_similarity(
        rounded.gradients.encoder.view(-1), exact.gradients.encoder.view(-1), dim=0
    )
    assert cosine > 0.99


def test_the_arithmetic_is_that_of_the_processor() -> None:
    cpu = torch.device("cpu")
    assert product_dtype("float32", cpu) == torch.float32
    assert product_dtype("bfloat16", cpu) == torch.bfloat16
    has_it = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert (product_dtype("auto", cpu) == torch.bfloat16) == has_it


def test_without_the_instructions_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert product_dtype("auto", torch.device("cpu")) == torch.float32


def test_silent_latents_go_down_the_gradient_of_the_pre_activation_loss(batch: Tensor) -> None:
    """Against autograd; the encoder's own gradient is the mean of the inputs, which are centred in training."""
    each = [make_parameters(), make_parameters()]
    silent = torch.zeros(2, D_HIDDEN, dtype=torch.bool)
    silent[0, 3] = silent[1, 5] = True
    stack, sizes = Parameters.stacked(each), torch.tensor([0.1, 0.3])
    wake_(stack, silent, sizes)
    batch = batch - batch.mean(0)
    for number, (before, after) in enumerate(zip(each, stack.unstacked(), strict=True)):
        encoder = before.encoder.clone().requires_grad_()
        bias = (before.encoder_bias - 100 * silent[number]).requires_grad_()
        threshold = before.raw_threshold.clone().requires_grad_()
        (threshold - batch @ encoder.T - bias).relu().mean(0)[silent[number]].sum().backward()
        assert encoder.grad is not None
        assert float(encoder.grad.abs().max()) < 1e-5
        for name, leaf in (("encoder_bias", bias), ("raw_threshold", threshold)):
            assert leaf.grad is not None
            expected = getattr(before, name) - sizes[number] * leaf.grad
            assert torch.allclose(getattr(after, name), expected), name
        for name in ("encoder", "decoder", "decoder_bias", "offset"):
            assert torch.equal(getattr(after, name), getattr(before, name)), name


def test_kth_largest() -> None:
    values = torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0])
    for count in range(1, 5):
        assert int((values > kth_largest(values, count)).sum()) == count
    assert (values > kth_largest(values, 5)).all()
    assert (values > kth_largest(values, 50)).all()
