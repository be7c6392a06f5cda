from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ghosttrack.common.errors import CorruptInputError, ModelMismatchError, NumericError
from ghosttrack.common.models import saelens
from ghosttrack.common.models.sae import JumpReLUSAE


def make_sae(d_model: int = 6, d_hidden: int = 20, seed: int = 0) -> JumpReLUSAE:
    """Random weights with decoder rows of any norm, and thresholds that about half of the latents pass."""
    g = torch.Generator().manual_seed(seed)
    return JumpReLUSAE(
        W_enc=torch.randn(d_model, d_hidden, generator=g), b_enc=torch.randn(d_hidden, generator=g),
        W_dec=torch.randn(d_hidden, d_model, generator=g), b_dec=torch.randn(d_model, generator=g),
        threshold=torch.rand(d_hidden, generator=g), mean=torch.randn(d_model, generator=g), scale=0.37,
        norm_limit=50.0, layer=3, target_l0=4.0,
    )  # fmt: skip


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(11, 6, generator=torch.Generator().manual_seed(1)) * 3


def test_encode_and_decode_follow_the_formula(states: torch.Tensor) -> None:
    sae = make_sae()
    x, w = (
        states.double(),
        {k: getattr(sae, k).double() for k in ("W_enc", "b_enc", "W_dec", "b_dec", "mean")},
    )
    z = (x - w["mean"]) * 0.37 @ w["W_enc"] + w["b_enc"]
    acts = torch.where(z > sae.threshold.double(), z, 0.0)
    out = (acts @ w["W_dec"] + w["b_dec"]) / 0.37 + w["mean"]
    assert torch.allclose(sae.encode(states).double(), acts, atol=1e-5)
    assert torch.allclose(sae.decode(sae.encode(states)).double(), out, atol=1e-4)
    assert 0 < (acts > 0).double().mean() < 1


@pytest.mark.parametrize("own_scale", ["layer_norm", "constant_norm_rescale"])
def test_a_scale_of_each_state_s_own_makes_a_larger_state_a_larger_reconstruction(
    states: torch.Tensor, own_scale: str, tmp_path: Path
) -> None:
    sae = replace(make_sae(), own_scale=own_scale, mean=torch.zeros(6))
    sae.save(tmp_path / "sae.pt")
    sae = JumpReLUSAE.load(tmp_path / "sae.pt")
    acts = sae.encode(states)
    out = sae.decode(acts, states)
    assert torch.allclose(sae.encode(5 * states), 5 * acts, rtol=1e-3, atol=1e-3)
    assert torch.allclose(sae.decode(sae.encode(5 * states), 5 * states), 5 * out, rtol=1e-3, atol=1e-3)
    assert torch.allclose(acts @ sae.W_dec / sae.scale + sae.bias(states), out)
    with pytest.raises(ModelMismatchError, match="of layer 3 decodes only with the states"):
        sae.decode(acts)
    with pytest.raises(ModelMismatchError, match="own, is not exported"):
        saelens.write(sae, tmp_path / "folder", {})


def test_half_precision_states_are_taken(states: torch.Tensor) -> None:
    acts = make_sae().encode(states.half())
    assert acts.dtype == torch.float32
    assert torch.allclose(acts, make_sae().encode(states.half().float()))


def test_folding_keeps_the_function_and_makes_unit_rows(states: torch.Tensor) -> None:
    sae, folded = make_sae(), make_sae().folded()
    assert torch.allclose(folded.W_dec.norm(dim=1), torch.ones(20), atol=1e-6)
    assert torch.equal(sae.encode(states) > 0, folded.encode(states) > 0)
    assert torch.allclose(
        sae.decode(sae.encode(states)), folded.decode(folded.encode(states)), rtol=1e-4, atol=1e-4
    )


def test_folding_leaves_a_zero_row_alone(states: torch.Tensor) -> None:
    sae = make_sae()
    sae.W_dec[5] = 0
    assert sae.folded().W_dec[5].abs().sum() == 0
    assert sae.folded().encode(states).isfinite().all()


@pytest.mark.parametrize("k", [1, 3, 30])
def test_top_k_finds_the_strongest_of_each_row(states: torch.Tensor, k: int) -> None:
    sae = make_sae()
    latent, activation = sae.top_k(states, k)
    assert latent.shape == activation.shape == (11, k)
    assert (latent.dtype, activation.dtype) == (torch.int32, torch.float32)
    for row, acts in enumerate(sae.encode(states)):
        active = sorted(((a, j) for j, a in enumerate(acts.tolist()) if a > 0), reverse=True)[:k]
        found = list(zip(activation[row].tolist(), latent[row].tolist(), strict=True))
        assert found[: len(active)] == active
        assert found[len(active) :] == [(0.0, 0)] * (k - len(active))


def test_top_k_of_no_states() -> None:
    latent, activation = make_sae().top_k(torch.empty(0, 6), 4)
    assert latent.shape == activation.shape == (0, 4)


def test_outliers_are_told_by_norm() -> None:
    states = torch.zeros(2, 6)
    states[1, 0] = 51.0
    assert make_sae().is_outlier(states).tolist() == [False, True]


def test_a_saved_sae_comes_back_the_same(tmp_path: Path, states: torch.Tensor) -> None:
    make_sae().save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert (content["d_model"], content["d_hidden"], content["layer"]) == (6, 20, 3)
    assert (content["target_l0"], content["version"]) == (4.0, 1)
    loaded = JumpReLUSAE.load(tmp_path / "a.pt", d_model=6, layer=3)
    assert torch.equal(loaded.encode(states), make_sae().encode(states))
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again" / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "again" / "a.pt").read_bytes()


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(ModelMismatchError, match=r"width 6 .* width 7"):
        make_sae().encode(torch.zeros(2, 7))


def test_a_sae_for_another_model_or_layer_is_refused(tmp_path: Path) -> None:
    make_sae().save(tmp_path / "a.pt")
    with pytest.raises(ModelMismatchError, match="width 6"):
        JumpReLUSAE.load(tmp_path / "a.pt", d_model=8)
    with pytest.raises(ModelMismatchError, match="layer 3"):
        JumpReLUSAE.load(tmp_path / "a.pt", layer=4)


def change(path: Path, **entries: object) -> None:
    torch.save(torch.load(path, weights_only=True) | entries, path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    make_sae().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptInputError, match=r"a\.pt"):
        JumpReLUSAE.load(path)
    path.write_bytes(b"no torch file")
    with pytest.raises(CorruptInputError, match=r"a\.pt"):
        JumpReLUSAE.load(path)
    torch.save({"states": torch.zeros(2)}, path)
    with pytest.raises(CorruptInputError, match="not a ghosttrack"):
        JumpReLUSAE.load(path)


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ({"version": 99}, CorruptInputError, "version 99"),
        ({"threshold": torch.zeros(19)}, CorruptInputError, r"threshold should be \[20\]"),
        ({"W_dec": torch.zeros(20, 6).half()}, CorruptInputError, "float16"),
        ({"b_dec": None}, CorruptInputError, "NoneType"),
        ({"layer": torch.zeros(2)}, CorruptInputError, "layer is a Tensor"),
        ({"scale": [1.0]}, CorruptInputError, "scale is a list"),
        ({"mean": torch.full((6,), float("nan"))}, NumericError, "mean holds NaN"),
    ],
)
def test_files_with_wrong_content_are_refused(
    tmp_path: Path, entries: dict[str, object], error: type[Exception], words: str
) -> None:
    make_sae().save(tmp_path / "a.pt")
    change(tmp_path / "a.pt", **entries)
    with pytest.raises(error, match=words):
        JumpReLUSAE.load(tmp_path / "a.pt")


def test_a_file_without_a_tensor_is_refused(tmp_path: Path) -> None:
    make_sae().save(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["threshold"]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CorruptInputError, match="no 'threshold'"):
        JumpReLUSAE.load(tmp_path / "a.pt")
