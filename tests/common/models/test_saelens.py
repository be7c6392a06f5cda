"""SAELens folders without SAELens: what is written, what is read, and everything that is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ghosttrack.common.errors import CorruptInputError, MissingInputError, ModelMismatchError, NumericError
from ghosttrack.common.models import saelens
from ghosttrack.common.models.sae import JumpReLUSAE
from tests.common.models.test_sae import make_sae

D_MODEL, D_HIDDEN = 6, 20
Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


@pytest.fixture
def states() -> Tensor:
    return torch.randn(200, D_MODEL, generator=torch.Generator().manual_seed(1)) * 3


def read(folder: Path, **changes: Any) -> saelens.Pretrained:
    return saelens.read(
        folder, **{"layer": 3, "d_model": D_MODEL, "d_hidden": D_HIDDEN, "target_l0": 9.0, **changes}
    )


def foreign(
    folder: Path, change: Change = lambda settings, tensors: None, dtype: Any = torch.float32
) -> Path:
    """A folder as SAELens 6 saves one, with weights that are not ours; `change` takes (settings, tensors)."""
    g = torch.Generator().manual_seed(4)
    tensors = {
        "W_enc": torch.randn(D_MODEL, D_HIDDEN, generator=g), "b_enc": torch.randn(D_HIDDEN, generator=g),
        "W_dec": 3 * torch.randn(D_HIDDEN, D_MODEL, generator=g), "b_dec": torch.randn(D_MODEL, generator=g),
        "threshold": torch.rand(D_HIDDEN, generator=g),
    }  # fmt: skip
    settings = {
        "d_in": D_MODEL, "d_sae": D_HIDDEN, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": False,
        "normalize_activations": "none", "reshape_activations": "none", "architecture": "jumprelu",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post",
                     "hook_head_index": None},
    }  # fmt: skip
    change(settings, tensors)
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file(
        {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()},
        folder / "sae_weights.safetensors",
    )
    return folder


def by_the_formula(folder: Path, states: Tensor) -> Tensor:
    """Reconstructions of what a folder holds, in float64, by SAELens' own formula."""
    settings = json.loads((folder / "cfg.json").read_text())
    w = {name: tensor.double() for name, tensor in load_file(folder / "sae_weights.safetensors").items()}
    x, centre, length = states.double(), 0.0, torch.ones((), dtype=torch.float64)
    if settings["normalize_activations"] == "layer_norm":
        centre = x.mean(-1, keepdim=True)
        length = (x - centre).std(-1, keepdim=True)
    elif settings["normalize_activations"] == "constant_norm_rescale":
        length = x.norm(dim=-1, keepdim=True) / D_MODEL**0.5
    x = (x - centre) / length
    z = (x - w["b_dec"] if settings.get("apply_b_dec_to_input", True) else x) @ w["W_enc"] + w["b_enc"]
    factors = w.get("finetuning_scaling_factor", w.get("scaling_factor", 1))
    return ((z.relu() * (z > w["threshold"]) * factors) @ w["W_dec"] + w["b_dec"]) * length + centre


def reconstruct(sae: JumpReLUSAE, states: Tensor) -> Tensor:
    return sae.decode(sae.encode(states), states).double()


def test_what_is_written_computes_the_same(tmp_path: Path, states: Tensor) -> None:
    sae = make_sae()
    saelens.write(sae, tmp_path / "a", {"model_name": "gpt2"})
    assert torch.allclose(by_the_formula(tmp_path / "a", states), reconstruct(sae, states), atol=1e-4)
    settings = json.loads((tmp_path / "a/cfg.json").read_text())
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()}
    assert len(modes) == 1, "the weights can be read by whoever can read cfg.json"
    assert settings["metadata"]["model_name"] == "gpt2"
    assert settings["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert (settings["d_in"], settings["d_sae"], settings["architecture"]) == (D_MODEL, D_HIDDEN, "jumprelu")


def test_where_it_comes_from_is_known_as_long_as_the_weights_are_those(tmp_path: Path) -> None:
    saelens.write(make_sae(), tmp_path / "a", {}, trained_as="abc")
    assert read(tmp_path / "a").source["trained_as"] == "abc"
    weights = load_file(tmp_path / "a/sae_weights.safetensors")
    save_file({**weights, "b_dec": weights["b_dec"] + 1}, tmp_path / "a/sae_weights.safetensors")
    assert read(tmp_path / "a").source["trained_as"] is None


@pytest.mark.parametrize("norm_limit", [50.0, math.inf])
def test_what_was_written_comes_back_as_it_was(tmp_path: Path, states: Tensor, norm_limit: float) -> None:
    sae = replace(make_sae().folded(), norm_limit=norm_limit)
    saelens.write(sae, tmp_path / "a", {})
    found = read(tmp_path / "a")
    again = found.sae
    assert (again.scale, again.norm_limit, again.layer) == (sae.scale, norm_limit, 3)
    assert again.target_l0 == found.target_l0 == sae.target_l0
    assert torch.allclose(again.encode(states), sae.encode(states), atol=1e-4)
    assert torch.allclose(reconstruct(again, states), reconstruct(sae, states), atol=1e-4)
    assert torch.allclose(again.W_dec, sae.W_dec, atol=1e-6)


def leave_default(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del settings["apply_b_dec_to_input"]


def with_b_dec(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    settings["apply_b_dec_to_input"] = True


def negative_thresholds(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["threshold"] -= 0.5


def needless_scaling_factor(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["scaling_factor"] = torch.ones(D_HIDDEN)


def factors(name: str) -> Change:
    def change(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        settings["finetuning_scaling_factor"] = True
        tensors[name] = 0.5 + torch.rand(D_HIDDEN, generator=torch.Generator().manual_seed(2))

    return change


def own_scale(kind: str) -> Change:
    def change(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        settings |= {"normalize_activations": kind, "apply_b_dec_to_input": True}

    return change


def before_version_6(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    settings |= {**settings.pop("metadata"), "sae_lens_version": "5.11.0", "normalize_activations": False}


def with_nulls(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    before_version_6(settings, tensors)
    names = (
        "activation_fn_kwargs",
        "normalize_activations",
        "reshape_activations",
        "finetuning_scaling_factor",
        "metadata",
    )
    settings |= {
        **dict.fromkeys(names),
        "dtype": "torch.float32",
        "prepend_bos": True,
        "hook_layer": 3,
        "expansion_factor": 4,
    }


@pytest.mark.parametrize(
    "change",
    [lambda settings, tensors: None, leave_default, with_b_dec, negative_thresholds, needless_scaling_factor,
     factors("scaling_factor"), factors("finetuning_scaling_factor"), before_version_6, with_nulls, own_scale("layer_norm"),
     own_scale("constant_norm_rescale")],
)  # fmt: skip
def test_a_sae_of_saelens_computes_the_same(tmp_path: Path, states: Tensor, change: Change) -> None:
    found = read(foreign(tmp_path / "a", change))
    sae = found.sae
    assert torch.allclose(reconstruct(sae, states), by_the_formula(tmp_path / "a", states), atol=1e-3)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(D_HIDDEN), atol=1e-5)
    assert (sae.scale, sae.norm_limit, sae.target_l0, found.target_l0) == (1.0, math.inf, 9.0, None)
    assert found.source["model_name"] == "gpt2"
    assert found.source["trained_as"] is None
    assert found.source["architecture"] == "jumprelu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_taken(tmp_path: Path, states: Tensor, dtype: torch.dtype) -> None:
    sae = read(foreign(tmp_path / "a", dtype=dtype)).sae
    assert sae.W_enc.dtype == torch.float32
    assert torch.allclose(reconstruct(sae, states), by_the_formula(tmp_path / "a", states), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["blocks.3.hook_resid_post", "blocks.4.hook_resid_pre", "blocks.3.hook_out", "transformer.h.3", "model.layers.3"],
)  # fmt: skip
def test_all_names_of_a_block_s_output_are_known(tmp_path: Path, name: str) -> None:
    folder = foreign(tmp_path / "a", lambda settings, _: settings["metadata"].update(hook_name=name))
    assert read(folder).source["hook_name"] == name


def test_the_folder_s_own_l0_is_the_target(tmp_path: Path) -> None:
    found = read(foreign(tmp_path / "a", lambda settings, _: settings["metadata"].update(l0=33.5)))
    assert found.target_l0 == found.sae.target_l0 == 33.5


def setting(**changes: Any) -> Change:
    return lambda settings, _: settings.update(changes)


def of_metadata(**changes: Any) -> Change:
    return lambda settings, _: settings["metadata"].update(changes)


def tensor(name: str, value: Tensor | None) -> Change:
    def change(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return change


BAD: dict[str, tuple[Change, type[Exception], str]] = {
    "architecture": (setting(architecture="matching_pursuit"), ModelMismatchError,
                     r"cfg\.json: the architecture is 'matching_pursuit' .*read are jumprelu, standard, .*choose one"),
    "activation": (setting(activation_fn_str="tanh-relu", architecture="standard"), ModelMismatchError, "'tanh-relu'"),
    "no k": (setting(architecture="topk"), ModelMismatchError, "does not say its k"),
    "no architecture": (lambda s, _: s.pop("architecture"), CorruptInputError, "threshold is unknown"),
    "unfolded": (setting(normalize_activations="expected_average_only_in"), ModelMismatchError,
                 "'expected_average_only_in': the scale is not folded .*at the end of the training"),
    "unfolded before 6": (setting(normalize_activations=True), ModelMismatchError, "is True: the scale"),
    "heads": (setting(reshape_activations="hook_z"), ModelMismatchError, "'hook_z'.*residual stream"),
    "head": (of_metadata(hook_head_index=2), ModelMismatchError, "hook_head_index 2"),
    "old head": (setting(hook_point_head_index=2, metadata={"hook_point": "blocks.3.attn.hook_q"}), ModelMismatchError,
                 "hook_head_index 2"),
    "transcoder": (of_metadata(hook_name_out="blocks.3.hook_mlp_out"), ModelMismatchError, "it is a transcoder"),
    "expert": (of_metadata(hook_name="model.layers.1.mlp.experts.3"), ModelMismatchError, "no block's output"),
    "centred": (of_metadata(model_from_pretrained_kwargs={"center_writing_weights": True}), ModelMismatchError,
                "unprocessed model"),
    "layer": (of_metadata(hook_name="blocks.5.hook_resid_post"), ModelMismatchError,
              r"the output of block 5, and layer 3 needs blocks\.3\.hook_resid_post"),
    "input of the same block": (of_metadata(hook_name="blocks.3.hook_resid_pre"), ModelMismatchError, "of block 2"),
    "embedding": (of_metadata(hook_name="blocks.0.hook_resid_pre"), ModelMismatchError, "no block's output"),
    "mlp": (of_metadata(hook_name="blocks.3.hook_mlp_out"), ModelMismatchError, "no block's output"),
    "no hook": (lambda s, _: s["metadata"].pop("hook_name"), ModelMismatchError, "None, which is no block's"),
    "other model": (setting(d_in=8), ModelMismatchError, "d_in is 8 and model.d_model is 6"),
    "other size": (setting(d_sae=24), ModelMismatchError, "--set sae.d_hidden=24"),
    "no width": (lambda s, _: s.pop("d_sae"), CorruptInputError, "d_sae: Field required"),
    "metadata": (setting(metadata="none"), CorruptInputError, r"cfg\.json cannot be read"),
    "scale": (of_metadata(ghosttrack={"scale": 0}), CorruptInputError, r"ghosttrack\.scale"),
    "shape": (tensor("W_enc", torch.zeros(D_HIDDEN, D_MODEL)), CorruptInputError,
              r"W_enc should be \[6, 20\].* and is \[20, 6\]"),
    "type": (tensor("b_enc", torch.zeros(D_HIDDEN, dtype=torch.int32)), CorruptInputError, "int32"),
    "missing": (tensor("threshold", None), CorruptInputError, "threshold is missing"),
    "extra": (tensor("W_skip", torch.zeros(2)), CorruptInputError, "W_skip is unknown"),
    "scaling factor": (tensor("scaling_factor", torch.full((D_HIDDEN,), 2.0)), CorruptInputError,
                       "scaling_factor is unknown"),
    "nan": (tensor("b_dec", torch.full((D_MODEL,), math.nan)), NumericError, "b_dec holds NaN or Inf"),
    "inf": (tensor("threshold", torch.full((D_HIDDEN,), math.inf)), NumericError, "threshold holds NaN or Inf"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_would_compute_something_else_is_refused(tmp_path: Path, case: str) -> None:
    change, error, words = BAD[case]
    with pytest.raises(error, match=words):
        read(foreign(tmp_path / "a", change))


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (foreign(tmp_path / "a") / name).unlink()
    with pytest.raises(MissingInputError, match=rf"there is no .*{name}.*Correct sae\.pretrained"):
        read(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "content"),
    [("cfg.json", b'{"d_in": 6,'), ("cfg.json", b"[]"), ("cfg.json", b"\xff"), ("sae_weights.safetensors", b"no tensors")],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (foreign(tmp_path / "a") / name).write_bytes(content)
    with pytest.raises(CorruptInputError, match=rf"{name} cannot be read.*save the SAE again"):
        read(tmp_path / "a")


def test_a_folder_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    saelens.write(make_sae(), tmp_path / "a", {})
    with pytest.raises(FileExistsError):
        saelens.write(make_sae(), tmp_path / "a", {})
