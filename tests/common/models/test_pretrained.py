"""SAEs of others, in every form that is read, against the formulas of those who trained them in float64."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ghosttrack.common.engine.fingerprint import content_of_sae
from ghosttrack.common.errors import ConfigError, CorruptInputError, MissingInputError, ModelMismatchError
from ghosttrack.common.models.pretrained import read as read_pretrained
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.saelens import Pretrained

D_MODEL, LATENTS, LAYER = 6, 20, 3
Weights = dict[str, Tensor]


def read(place: Path, **changes: Any) -> Pretrained:
    return read_pretrained(
        place, **{"layer": LAYER, "d_model": D_MODEL, "d_hidden": LATENTS, "target_l0": 9.0, **changes}
    )


def weights(*names: str) -> Weights:
    g = torch.Generator().manual_seed(4)
    shapes = {"W_enc": (D_MODEL, LATENTS), "W_dec": (LATENTS, D_MODEL), "b_dec": (D_MODEL,)}
    return {
        name: torch.randn(shapes.get(name, (LATENTS,)), generator=g)
        for name in ("W_enc", "W_dec", "b_dec", *names)
    }


@pytest.fixture
def states() -> Tensor:
    return 3 * torch.randn(300, D_MODEL, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def saelens_folder(folder: Path, w: Weights, **settings: Any) -> Path:
    folder.mkdir()
    common = {"d_in": D_MODEL, "d_sae": w["W_enc"].shape[1]}
    metadata = {"sae_lens_version": "6.54.12", "hook_name": f"blocks.{LAYER}.hook_resid_post"}
    (folder / "cfg.json").write_text(json.dumps({**common, "metadata": metadata, **settings}))
    save_file(w, folder / "sae_weights.safetensors")
    return folder


def assert_same(sae: JumpReLUSAE, states: Tensor, acts: Tensor, decoder: Tensor, bias: Tensor) -> None:
    """acts [n, n_latents] in whatever scale: what each latent adds to the state must be the same, and its being active."""
    found = sae.encode(states.float())
    n = acts.shape[1]
    assert (found > 0).sum() > 100
    assert ((found[:, :n] > 0) == (acts > 0)).float().mean() > 0.999  # but for ties in float32
    assert not found[:, n:].any()
    reconstruction = acts @ decoder + bias
    torch.testing.assert_close(sae.decode(found).double(), reconstruction, rtol=1e-3, atol=1e-3)


def top(z: Tensor, k: int) -> Tensor:
    values, at = z.relu().topk(k, dim=-1)
    return torch.zeros_like(z).scatter(-1, at, values)


@pytest.mark.parametrize("at_input", [True, False])
def test_standard(tmp_path: Path, states: Tensor, at_input: bool) -> None:
    w = weights("b_enc")
    found = read(saelens_folder(tmp_path / "a", w, architecture="standard", apply_b_dec_to_input=at_input))
    d = {name: tensor.double() for name, tensor in w.items()}
    acts = ((states - at_input * d["b_dec"]) @ d["W_enc"] + d["b_enc"]).relu()
    assert_same(found.sae, states, acts, d["W_dec"], d["b_dec"])


@pytest.mark.parametrize("at_input", [True, False])
def test_gated(tmp_path: Path, states: Tensor, at_input: bool) -> None:
    w = weights("b_gate", "b_mag", "r_mag")
    found = read(saelens_folder(tmp_path / "a", w, architecture="gated", apply_b_dec_to_input=at_input))
    d = {name: tensor.double() for name, tensor in w.items()}
    x = states - at_input * d["b_dec"]
    gate = x @ d["W_enc"] + d["b_gate"] > 0
    acts = gate * (x @ (d["W_enc"] * d["r_mag"].exp()) + d["b_mag"]).relu()
    assert_same(found.sae, states, acts, d["W_dec"], d["b_dec"])


@pytest.mark.parametrize("rescaled", [True, False])
def test_topk(tmp_path: Path, states: Tensor, rescaled: bool) -> None:
    w = weights("b_enc")
    if not rescaled:
        w["W_dec"] = torch.nn.functional.normalize(w["W_dec"], dim=1)
    settings = {
        "architecture": "topk",
        "k": 4,
        "rescale_acts_by_decoder_norm": rescaled,
        "apply_b_dec_to_input": True,
    }
    found = read(saelens_folder(tmp_path / "a", w, **settings))
    assert found.target_l0 == 4
    d = {name: tensor.double() for name, tensor in w.items()}
    norms = d["W_dec"].norm(dim=1) if rescaled else torch.ones(LATENTS, dtype=torch.float64)
    z = ((states - d["b_dec"]) @ d["W_enc"] + d["b_enc"]) * norms
    assert_same(found.sae, states, top(z, 4), d["W_dec"] / norms[:, None], d["b_dec"])
    assert int((found.sae.encode(states.float()) > 0).sum(1).max()) == 4
    found.sae.save(tmp_path / "sae.pt")
    assert JumpReLUSAE.load(tmp_path / "sae.pt").k == 4


def test_topk_of_before_version_6_and_a_decoder_that_would_change_the_choice(tmp_path: Path) -> None:
    w = weights("b_enc")
    old = {
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "hook_point": f"blocks.{LAYER}.hook_resid_post",
    }
    with pytest.raises(ModelMismatchError, match="decoder rows have other norms"):
        read(saelens_folder(tmp_path / "a", w, metadata={}, **old))
    w["W_dec"] = torch.nn.functional.normalize(w["W_dec"], dim=1)
    assert read(saelens_folder(tmp_path / "b", w, metadata={}, **old)).sae.k == 5


@pytest.mark.parametrize("rescaled", [True, False])
def test_batchtopk_of_a_training(tmp_path: Path, states: Tensor, rescaled: bool) -> None:
    w = weights("b_enc") | {"topk_threshold": torch.tensor(1.5, dtype=torch.float64)}
    settings = {"architecture": "batchtopk", "k": 4.5, "rescale_acts_by_decoder_norm": rescaled}
    found = read(saelens_folder(tmp_path / "a", w, **settings, apply_b_dec_to_input=False))
    d = {name: tensor.double() for name, tensor in w.items()}
    z = states @ d["W_enc"] + d["b_enc"]
    acts = z * (z * (d["W_dec"].norm(dim=1) if rescaled else 1.0) > 1.5)
    assert_same(found.sae, states, acts, d["W_dec"], d["b_dec"])


def test_other_widths_of_layers_are_filled_with_dead_latents(tmp_path: Path, states: Tensor) -> None:
    w = weights("b_enc")
    place = saelens_folder(tmp_path / "a", w, architecture="standard", apply_b_dec_to_input=False)
    found = read(place, d_hidden=LATENTS + 12).sae
    assert found.d_hidden == LATENTS + 12
    d = {name: tensor.double() for name, tensor in w.items()}
    assert_same(found, states, (states @ d["W_enc"] + d["b_enc"]).relu(), d["W_dec"], d["b_dec"])
    with pytest.raises(ModelMismatchError, match=r"--set sae\.d_hidden=20"):
        read(place, d_hidden=12)


def gemma_scope(folder: Path, w: Weights) -> Path:
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in w.items()})
    return folder


@pytest.mark.parametrize("as_file", [True, False])
def test_gemma_scope(tmp_path: Path, states: Tensor, as_file: bool) -> None:
    w = weights("b_enc") | {"threshold": torch.rand(LATENTS) + 0.5}
    folder = gemma_scope(tmp_path / f"layer_9/gemma-scope-2b-pt-res/layer_{LAYER}/width_16k/average_l0_71", w)
    place = folder / "params.npz" if as_file else folder
    found = read(place)
    assert found.target_l0 == 71
    d = {name: tensor.double() for name, tensor in w.items()}
    z = states @ d["W_enc"] + d["b_enc"]
    assert_same(found.sae, states, z * (z > d["threshold"]), d["W_dec"], d["b_dec"])
    before = content_of_sae(place)
    gemma_scope(folder / "x", w | {"b_dec": w["b_dec"] + 1})
    assert before != content_of_sae(folder / "x")
    assert str(before).startswith("sha256:")


def test_gemma_scope_of_other_places_and_layers_is_refused(tmp_path: Path) -> None:
    w = weights("b_enc") | {"threshold": torch.rand(LATENTS)}
    for name, words in (
        ("gemma-scope-2b-pt-mlp/layer_3", "no SAE of the residual stream"),
        ("res/layer_4", "is of layer 4"),
    ):
        with pytest.raises(ModelMismatchError, match=words):
            read(gemma_scope(tmp_path / name, w))
    with pytest.raises(CorruptInputError, match=r"b_dec should be .* torch\.int16"):
        read(gemma_scope(tmp_path / "whole/layer_3", w | {"b_dec": torch.zeros(D_MODEL, dtype=torch.int16)}))
    del w["threshold"]
    with pytest.raises(CorruptInputError, match="has no threshold"):
        read(gemma_scope(tmp_path / "layer_3", w))
    with pytest.raises(MissingInputError, match=r"there is no .*none\.npz"):
        read(tmp_path / "none.npz")


def test_llama_scope(tmp_path: Path, states: Tensor) -> None:
    w = weights("b_enc")
    (tmp_path / "checkpoints").mkdir()
    settings = {"act_fn": "jumprelu", "jump_relu_threshold": 0.7, "hook_point_in": f"blocks.{LAYER}.hook_resid_post",
                "dataset_average_activation_norm": {"in": 7.0, "out": 7.0}, "d_model": D_MODEL, "d_sae": LATENTS}  # fmt: skip
    (tmp_path / "hyperparams.json").write_text(json.dumps(settings))
    names = {
        "encoder.weight": w["W_enc"].T,
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T,
        "decoder.bias": w["b_dec"],
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in names.items()},
        tmp_path / "checkpoints/final.safetensors",
    )
    d = {name: tensor.double() for name, tensor in w.items()}
    scale = D_MODEL**0.5 / 7.0
    z = scale * states @ d["W_enc"] + d["b_enc"]
    found = read(tmp_path).sae
    assert_same(found, states, z * (z > 0.7 * scale), d["W_dec"] / scale, d["b_dec"] / scale)
    assert str(content_of_sae(tmp_path)).startswith("sha256:")
    for change, words in (
        ({"act_fn": "topk"}, "take the JumpReLU"),
        ({"hook_point_in": "blocks.3.hook_mlp_out"}, "no block's"),
        ({"hook_point_out": "blocks.3.hook_mlp_out"}, "hook_point_out is 'blocks.3.hook_mlp_out'"),
        ({"norm_activation": "token-wise"}, "norm_activation is 'token-wise'"),
        ({"apply_decoder_bias_to_pre_encoder": True}, "pre_encoder is True"),
    ):
        (tmp_path / "hyperparams.json").write_text(json.dumps(settings | change))
        with pytest.raises(ModelMismatchError, match=words):
            read(tmp_path)


def test_a_release_is_what_sae_lens_saves_of_it(
    tmp_path: Path, states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sae-lens itself is read in tests/saelens; here, that it is asked for the right name, and what it saves is read."""
    w = weights("b_enc")
    asked: list[tuple[str, str]] = []

    class SAE:
        @classmethod
        def from_pretrained(cls, release: str, sae_id: str) -> "SAE":
            asked.append((release, sae_id))
            if release != "gpt2-small-res-jb":
                raise ValueError("not found")
            return cls()

        def save_model(self, folder: str) -> None:
            saelens_folder(Path(folder) / "x", w, architecture="standard", apply_b_dec_to_input=False)
            for file in (Path(folder) / "x").iterdir():
                file.rename(Path(folder) / file.name)

    place = Path("release:gpt2-small-res-jb/blocks.3.hook_resid_post")
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(ConfigError, match=r"ghosttrack\[saelens\]"):
        read(place)
    module = types.ModuleType("sae_lens")
    module.SAE = SAE  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sae_lens", module)
    d = {name: tensor.double() for name, tensor in w.items()}
    assert_same(read(place).sae, states, (states @ d["W_enc"] + d["b_enc"]).relu(), d["W_dec"], d["b_dec"])
    assert asked == [("gpt2-small-res-jb", "blocks.3.hook_resid_post")]
    assert content_of_sae(place) == str(place)
    with pytest.raises(MissingInputError, match="release 'nobody' has no SAE"):
        read(Path("release:nobody/x"))
