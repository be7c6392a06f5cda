"""SAEs that others have trained, in whichever form they come: SAELens folders and releases, Gemma Scope, Llama Scope.

All become the one SAE class, which says what is computed; what would compute something else is refused by name. Only SAEs of
the residual stream after a block are read.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ghosttrack.common.engine.fingerprint import GEMMA_SCOPE_FILES, LLAMA_SCOPE_FILES, RELEASE_PREFIX
from ghosttrack.common.errors import ConfigError, CorruptInputError, MissingInputError, ModelMismatchError
from ghosttrack.common.foreign import read_arrays, read_json, whole
from ghosttrack.common.models import saelens
from ghosttrack.common.models.saelens import Pretrained

OTHER_PLACES = re.compile(r"-(?:att|mlp|transcoders?)(?:$|[-/])|/(?:att|mlp|transcoder|embedding)/")
"""In the names of Gemma Scope's folders, what is no residual stream after a block."""


def read(place: Path, *, layer: int, d_model: int, d_hidden: int, target_l0: float) -> Pretrained:
    """The SAE at a place, which must be of this layer and width and have at most `d_hidden` latents.

    place: `release:<release>/<SAE id>`, a folder of SAELens', Gemma Scope's or Llama Scope's form, or an .npz file.
    target_l0: what it is taken to be where the place does not say. Raises as `saelens.read`, and ConfigError for a release
    without `sae-lens`.
    """
    wanted: dict[str, Any] = {
        "layer": layer,
        "d_model": d_model,
        "d_hidden": d_hidden,
        "target_l0": target_l0,
    }
    if str(place).startswith(RELEASE_PREFIX):
        return _read_release(str(place).removeprefix(RELEASE_PREFIX), wanted)
    with whole(place, "fetch it again, or correct sae.pretrained or sae.pretrained_independent", "SAE"):
        return _read_files(place, wanted)


def _read_files(place: Path, wanted: dict[str, Any]) -> Pretrained:
    if place.suffix == ".npz" or (place / GEMMA_SCOPE_FILES[0]).is_file():
        return _read_gemma_scope(place if place.suffix == ".npz" else place / GEMMA_SCOPE_FILES[0], **wanted)
    if (place / LLAMA_SCOPE_FILES[0]).is_file():
        return _read_llama_scope(place, **wanted)
    return saelens.read(place, **wanted)


def _read_release(name: str, wanted: dict[str, Any]) -> Pretrained:
    """SAELens fetches, converts and folds it; what it saves is read like any folder of its."""
    try:
        from sae_lens import SAE
    except ImportError as error:
        raise ConfigError(
            f"sae.pretrained = release:{name} needs sae-lens; run pip install 'ghosttrack[saelens]', or name a local folder"
        ) from error
    release, _, sae_id = name.partition("/")
    try:
        sae = SAE.from_pretrained(release, sae_id)
        with tempfile.TemporaryDirectory() as folder:
            sae.save_model(folder)
            return saelens.read(Path(folder), **wanted)
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise MissingInputError(
            f"sae.pretrained: the release {release!r} has no SAE {sae_id!r} that can be had here ({text}); see SAELens' table of "
            "pretrained SAEs, and the network"
        ) from error


def _read_gemma_scope(path: Path, *, layer: int, d_model: int, d_hidden: int, target_l0: float) -> Pretrained:
    """`params.npz`: JumpReLU without b_dec at the input (Lieberum et al. 2024, arXiv:2408.05147)."""
    if OTHER_PLACES.search(path.as_posix()):
        raise ModelMismatchError(
            f"{path}: it is no SAE of the residual stream after a block; take one of a `-res` release"
        )
    if (named := re.findall(r"layer_(\d+)/", path.as_posix())) and int(named[-1]) != layer:
        raise ModelMismatchError(
            f"{path} is of layer {named[-1]}, and layer {layer} is asked for; correct sae.pretrained"
        )
    with whole(path, "fetch it again, or correct sae.pretrained", "SAE"):
        found = {
            re.sub(r"^w_", "W_", name): torch.from_numpy(array) for name, array in read_arrays(path).items()
        }
    w = _checked(path, found, d_model, d_hidden)
    l0 = re.search(r"average_l0_(\d+)", path.as_posix())
    known = float(l0[1]) if l0 else None
    sae = saelens.fitting(
        w, scale=1.0, d_hidden=d_hidden, layer=layer, target_l0=known or target_l0, path=path
    )
    return Pretrained(sae, known, {"architecture": "jumprelu", "sae_lens_version": None, "model_name": None,
                                   "hook_name": f"blocks.{layer}.hook_resid_post"})  # fmt: skip


def _read_llama_scope(
    folder: Path, *, layer: int, d_model: int, d_hidden: int, target_l0: float
) -> Pretrained:
    """hyperparams.json and final.safetensors: inputs scaled by their average norm (He et al. 2024, arXiv:2410.20526).

    As SAELens reads it, the threshold is in the units of the unscaled input.
    """
    path, weights = folder / LLAMA_SCOPE_FILES[0], folder / LLAMA_SCOPE_FILES[1]
    with whole(folder, "fetch it again, or correct sae.pretrained", "SAE of Llama Scope"):
        settings = read_json(path)
        kind, place = settings["act_fn"], settings["hook_point_in"]
        threshold, norm = (
            float(settings["jump_relu_threshold"]),
            float(settings["dataset_average_activation_norm"]["in"]),
        )
        tensors = load_file(weights)
    if kind != "jumprelu":
        raise ModelMismatchError(f"{path}: act_fn is {kind!r}; take the JumpReLU version of it")
    saelens.check_place(path, place, layer)
    for name, value in (
        ("hook_point_out", place), ("norm_activation", "dataset-wise"), ("apply_decoder_bias_to_pre_encoder", False)
    ):  # fmt: skip
        if settings.get(name, value) != value:
            raise ModelMismatchError(
                f"{path}: {name} is {settings[name]!r} and not {value!r}, which is not read; take a SAE of Llama Scope's release"
            )
    if missing := {f"{part}.{kind}" for part in ("encoder", "decoder") for kind in ("weight", "bias")} - set(
        tensors
    ):
        raise CorruptInputError(f"{weights} has no {sorted(missing)[0]}; fetch it again")
    scale = d_model**0.5 / norm
    bias = tensors["encoder.bias"].float()
    found = {
        "W_enc": tensors["encoder.weight"].float().T, "b_enc": bias, "W_dec": tensors["decoder.weight"].float().T,
        "b_dec": tensors["decoder.bias"].float(), "threshold": torch.full_like(bias, threshold * scale),
    }  # fmt: skip
    w = _checked(weights, found, d_model, d_hidden)
    plain = {**w, "W_enc": w["W_enc"] * scale, "W_dec": w["W_dec"] / scale, "b_dec": w["b_dec"] / scale}
    sae = saelens.fitting(plain, scale=scale, d_hidden=d_hidden, layer=layer, target_l0=target_l0, path=path)
    return Pretrained(
        sae, None, {"architecture": kind, "sae_lens_version": None, "model_name": None, "hook_name": place}
    )


def _checked(path: Path, found: dict[str, Tensor], d_model: int, d_hidden: int) -> dict[str, Tensor]:
    """The five tensors as float32. Raises where one is missing, of another shape or not finite."""
    w = {name: found[name] for name in saelens.TENSORS["jumprelu"] if name in found}
    if missing := [name for name in saelens.TENSORS["jumprelu"] if name not in w]:
        raise CorruptInputError(f"{path} has no {missing[0]}; it is no JumpReLU SAE, or not whole")
    if w["W_enc"].ndim != 2:
        raise CorruptInputError(f"{path}: W_enc is {list(w['W_enc'].shape)} and should be a matrix")
    width, latents = w["W_enc"].shape
    saelens.check_widths(path, width, latents, d_model, d_hidden)
    return saelens.checked(path, w, width, latents)
