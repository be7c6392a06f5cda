"""A layer's SAE taken from a SAELens folder, as a unit of the stage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ghosttrack.common.errors import MissingInputError, ModelMismatchError
from ghosttrack.common.models import saelens
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train.run import run
from tests.common.models.test_sae import make_sae
from tests.stages.sae_train.synthetic import config, job


def exported(folder: Path, layer: int = 2) -> JumpReLUSAE:
    sae = replace(make_sae(24, 64), layer=layer)
    saelens.write(sae, folder / f"saes/layer_{layer}", {"model_name": "gpt2"})
    return sae


def imported(folder: Path, layer: int = 2, **sae: object) -> JumpReLUSAE:
    settings = config([1, 2], sae={"pretrained": str(folder / "saes/layer_{layer}"), **sae})
    run(job(settings, f"layer_{layer}", folder, folder))
    return JumpReLUSAE.load(folder / f"layer_{layer}/out/sae_layer_{layer}_best.pt", d_model=24, layer=layer)


def test_a_layer_is_taken_as_it_was_exported(tmp_path: Path) -> None:
    sae = exported(tmp_path)
    states = 3 * torch.randn(100, 24, generator=torch.Generator().manual_seed(0))
    found = imported(tmp_path)
    assert torch.allclose(found.decode(found.encode(states)), sae.decode(sae.encode(states)), atol=1e-3)
    metrics = json.loads((tmp_path / "layer_2/out/sae_layer_2_metrics.json").read_text())
    assert metrics == {
        "layer": 2, "target_l0": 4.0, "pretrained": True,
        "source": {"architecture": "jumprelu", "sae_lens_version": "6.0.0", "model_name": "gpt2",
                   "hook_name": "blocks.2.hook_resid_post", "trained_as": None},
    }  # fmt: skip


def test_a_sae_that_was_trained_apart_goes_beside_the_layers_own(tmp_path: Path) -> None:
    exported(tmp_path)
    apart = replace(make_sae(24, 64, seed=5), layer=2)
    saelens.write(apart, tmp_path / "saes/independent_2", {})
    folders = {name: str(tmp_path / f"saes/{kind}_{{layer}}")
               for name, kind in (("pretrained", "layer"), ("pretrained_independent", "independent"))}  # fmt: skip
    run(job(config([1, 2], sae=folders), "independent_2", tmp_path, tmp_path))
    out = tmp_path / "independent_2/out"
    assert sorted(path.name for path in out.iterdir()) == [
        "sae_layer_2_independent.pt", "sae_layer_2_independent_metrics.json",
    ]  # fmt: skip
    found = JumpReLUSAE.load(out / "sae_layer_2_independent.pt", d_model=24, layer=2)
    states = 3 * torch.randn(100, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.decode(found.encode(states)), apart.decode(apart.encode(states)), atol=1e-3)


def test_widths_and_layers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    with pytest.raises(ModelMismatchError, match=r"--set sae\.d_hidden=64"):
        imported(tmp_path, d_hidden=32)
    with pytest.raises(MissingInputError, match=r"layer_1/cfg\.json"):
        imported(tmp_path, layer=1)
