"""Products by oneDNN: those of torch in float64, whatever the layout; models that make theirs by it say the same."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from ghosttrack.common.models import products
from ghosttrack.common.models.products import by_linear, linear

AMD, INTEL = "vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n"


@pytest.fixture(autouse=True, params=[True, False], ids=["onednn", "torch"])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mkl_is_narrow", lambda: request.param)


def _layouts() -> dict[str, tuple[Tensor, Tensor]]:
    some = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=some)

    weight = normal(256, 512)
    return {
        "plain": (normal(5, 512), weight),
        "one row": (normal(512), weight),
        "batch": (normal(3, 4, 512), weight),
        "nothing": (normal(0, 512), weight),
        "some of the columns": (normal(5, 1024)[:, ::2], weight),
        "the other way round": (normal(5, 512), normal(512, 256).T),
        "some of the rows": (normal(5, 512), normal(400, 512)[100:356]),
        "repeated": (normal(1, 512).expand(5, -1), weight),
        "turned": (normal(512, 3, 4).permute(1, 2, 0), weight),
    }


@pytest.mark.parametrize("layout", list(_layouts()))
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_is_that_of_float64_to_the_precision_of_float32(layout: str, biased: bool) -> None:
    rows, weight = _layouts()[layout]
    bias = torch.arange(256.0) if biased else None
    exact = nn.functional.linear(rows.double(), weight.double(), None if bias is None else bias.double())
    made = linear(rows, weight, bias)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_type_stays_torchs(dtype: torch.dtype) -> None:
    rows, weight = (each.to(dtype) for each in _layouts()["plain"])
    assert torch.equal(linear(rows, weight), nn.functional.linear(rows, weight))


def test_a_product_that_is_differentiated_has_its_gradient() -> None:
    rows, weight = _layouts()["plain"]
    rows.requires_grad_()
    linear(rows, weight).sum().backward()
    torch.testing.assert_close(rows.grad, weight.sum(0).expand(5, -1), rtol=1e-5, atol=1e-4)


def test_a_model_says_the_same_and_keeps_its_weights() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=256, n_layer=2, n_head=4, vocab_size=300)).eval()
    ids = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        before, known = model(ids).logits, {name: value.clone() for name, value in model.state_dict().items()}
        by_linear(model)
        after = model(ids).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, known[name]) for name, value in model.state_dict().items())
    assert model.lm_head.weight is model.transformer.wte.weight


@pytest.mark.parametrize(
    ("make", "capability", "narrow"), [(AMD, "AVX512", True), (AMD, "AVX2", False), (INTEL, "AVX512", False)]
)
def test_only_an_amd_processor_with_avx512_is_read_as_one(
    make: str, capability: str, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_text", lambda *_: make)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products.mkl_is_narrow.__wrapped__() is narrow
