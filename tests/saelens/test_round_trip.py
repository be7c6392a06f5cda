"""Against the real sae-lens: it computes what we compute, whichever of the two has saved the SAE."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ghosttrack.common.errors import ModelMismatchError
from ghosttrack.common.models import saelens
from ghosttrack.common.models.sae import JumpReLUSAE
from tests.saelens.conftest import Command

pytestmark = pytest.mark.saelens

LAYER = 3
D_MODEL, D_HIDDEN = 48, 192
"""Of the SAEs that `there.py` makes."""


def large_states(n: int, d_model: int) -> Tensor:
    """[n, d_model] as of a middle layer: far from 0, with two coordinates that are much larger than the others."""
    g = torch.Generator().manual_seed(0)
    states = 2 * torch.randn(n, d_model, generator=g) + torch.randn(d_model, generator=g)
    states[:, [7, 19]] += torch.tensor([900.0, -300.0]) + 40 * torch.randn(n, 2, generator=g)
    return states


def large_sae(states: Tensor, d_hidden: int) -> JumpReLUSAE:
    """A SAE for these states, with their mean and scale, of which about a fiftieth of the latents fire."""
    g = torch.Generator().manual_seed(1)
    d_model, mean = states.shape[1], states.mean(0)
    scale = float((d_model / (states - mean).square().sum(1).mean()).sqrt())
    return JumpReLUSAE(
        W_enc=torch.randn(d_model, d_hidden, generator=g) / d_model**0.5, b_enc=0.3 * torch.randn(d_hidden, generator=g),
        W_dec=torch.randn(d_hidden, d_model, generator=g), b_dec=torch.randn(d_model, generator=g),
        threshold=2 + 0.2 * torch.rand(d_hidden, generator=g), mean=mean, scale=scale, norm_limit=4000.0, layer=LAYER,
        target_l0=100.0,
    ).folded()  # fmt: skip


def assert_same(found: dict[str, Tensor], acts: Tensor, out: Tensor, norms: Tensor | None = None) -> None:
    """The same but for rounding, and for latents that rounding carries over their threshold.

    norms: [d_hidden], by which `acts` are larger, where decoder rows were scaled.
    """
    theirs = found["acts"] if norms is None else found["acts"] * norms
    both = (theirs > 0) & (acts > 0)
    assert both.sum() > 1000
    carried = (theirs > 0) != (acts > 0)
    assert carried.float().mean() < 1e-4
    assert torch.allclose(theirs[both], acts[both], rtol=1e-3, atol=1e-3 * float(acts.max()))
    error = (found["out"] - out).norm(dim=1) / out.norm(dim=1)
    assert error.quantile(0.99) < 1e-4
    assert error[~carried.any(1)].max() < 1e-4


@pytest.mark.parametrize(("d_model", "d_hidden"), [(1024, 5120), (64, 128)])
def test_sae_lens_computes_the_same_with_what_we_export(
    there: Command, tmp_path: Path, d_model: int, d_hidden: int
) -> None:
    states = large_states(600, d_model)
    sae = large_sae(states, d_hidden)
    saelens.write(sae, tmp_path / "sae", {"model_name": "gpt2-medium", "context_size": 512})
    torch.save(states, tmp_path / "states.pt")
    there("load", tmp_path / "sae", tmp_path / "states.pt", tmp_path / "out.pt")
    found = torch.load(tmp_path / "out.pt")
    acts = sae.encode(states)
    assert_same(found, acts, sae.decode(acts))

    again = saelens.read(tmp_path / "sae", layer=LAYER, d_model=d_model, d_hidden=d_hidden, target_l0=1).sae
    acts = again.encode(states)
    assert_same(found, acts, again.decode(acts))
    assert (again.scale, again.norm_limit, again.target_l0) == (sae.scale, 4000.0, 100.0)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("b_dec",),
        ("bfloat16",),
        ("b_dec", "bfloat16"),
        ("layer_norm",),
        ("b_dec", "layer_norm"),
        ("constant_norm_rescale",),
    ],
)
def test_we_compute_the_same_with_what_sae_lens_saves(
    there: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    states = 3 * torch.randn(500, D_MODEL, generator=torch.Generator().manual_seed(3))
    torch.save(states, tmp_path / "states.pt")
    there("save", tmp_path / "sae", tmp_path / "states.pt", tmp_path / "out.pt", *options)
    found = torch.load(tmp_path / "out.pt")
    sae = saelens.read(tmp_path / "sae", layer=LAYER, d_model=D_MODEL, d_hidden=D_HIDDEN, target_l0=5).sae
    raw = saelens.load_file(tmp_path / "sae/sae_weights.safetensors")
    acts = sae.encode(states)
    norms = raw["W_dec"].float().norm(dim=1) * sae.own_unit(states)  # ours are in the states' unit
    assert_same(found, acts, sae.decode(acts, states), norms)

    if sae.own_scale is not None:
        return
    saelens.write(replace(sae, layer=LAYER), tmp_path / "ours", {})
    there("load", tmp_path / "ours", tmp_path / "states.pt", tmp_path / "again.pt")
    assert_same(torch.load(tmp_path / "again.pt"), acts, sae.decode(acts))


def test_a_checkpoint_of_a_training_is_refused_and_its_end_is_taken(there: Command, tmp_path: Path) -> None:
    there("train", tmp_path)
    widths = {"layer": LAYER, "d_model": D_MODEL, "d_hidden": D_HIDDEN, "target_l0": 5.0}
    with pytest.raises(ModelMismatchError, match="the scale is not folded"):
        saelens.read(tmp_path / "checkpoint", **widths)  # type: ignore[arg-type]
    assert saelens.read(tmp_path / "final", **widths).sae.d_hidden == D_HIDDEN  # type: ignore[arg-type]
