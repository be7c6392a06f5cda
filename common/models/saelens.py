"""SAELens' folders both ways: a layer's `cfg.json` beside `sae_weights.safetensors`, as SAELens 6 and later save them.

    acts = relu(z) · 1[z > threshold]    z = x W_enc + b_enc    reconstruction = acts W_dec + b_dec

takes x in the model's own units. Writing folds the layer's mean and scale into the weights, so that the outputs are the
same; the scale is put down beside them, so that reading finds it again. Reading takes any JumpReLU SAE of a block's
output, refuses what would compute something else, and touches no network.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ghosttrack.common.engine.fingerprint import SAE_FILES
from ghosttrack.common.errors import CorruptInputError, MissingInputError, ModelMismatchError, NumericError
from ghosttrack.common.models.sae import JumpReLUSAE

CONFIG_FILE, WEIGHTS_FILE = SAE_FILES
FORMAT_VERSION = "6.0.0"
"""The first SAELens whose `cfg.json` this is; an earlier one (or none) makes SAELens drop the metadata."""
TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
UNSCALED = "scaling_factor"
"""A tensor that some versions save besides, all ones where it means nothing."""
OUTPUT_OF = re.compile(r"blocks\.(\d+)\.(?:hook_resid_post|hook_out)|(?:\w+\.)+(\d+)")
"""A block's output, as TransformerLens or as Hugging Face (`model.layers.7`) calls it."""
INPUT_OF = re.compile(r"blocks\.(\d+)\.(?:hook_resid_pre|hook_in)")
"""A block's input, which is the output of the block before it."""


class Own(BaseModel):
    """What GhostTrack puts down with a SAE, so that it comes back as it was."""

    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    norm_limit: float | None = Field(None, gt=0)
    """None: no state is an outlier."""
    target_l0: float | None = Field(None, gt=0)
    layer: int | None = None


class Metadata(BaseModel):
    sae_lens_version: str | None = None
    model_name: str | None = None
    hook_name: str | None = Field(None, validation_alias=AliasChoices("hook_name", "hook_point"))
    hook_head_index: int | None = None
    l0: float | None = Field(None, gt=0)
    model_from_pretrained_kwargs: dict[str, Any] | None = None
    ghosttrack: Own = Own()


class Settings(BaseModel):
    """What is looked at of a `cfg.json`, with SAELens' own defaults."""

    architecture: str = "standard"
    d_in: int
    d_sae: int
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool = "none"
    reshape_activations: str = "none"
    finetuning_scaling_factor: bool = False
    metadata: Metadata


@dataclass(frozen=True)
class Pretrained:
    """A SAE that was read, and what its folder says about it."""

    sae: JumpReLUSAE
    target_l0: float | None
    """Mean active latents a token that it was trained for or has, where the folder says so."""
    source: dict[str, str | None]
    """architecture, sae_lens_version, model_name and hook_name, as in the folder."""


def write(sae: JumpReLUSAE, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write a layer's SAE as a new folder that `sae_lens.SAE.load_from_disk` loads, with the same outputs.

    metadata: what else SAELens may know, such as model_name. Raises OSError.
    """
    folder.mkdir(parents=True)
    tensors = {name: tensor.float().contiguous() for name, tensor in _plain(sae).items()}
    (folder / WEIGHTS_FILE).write_bytes(
        to_bytes(tensors)
    )  # safetensors' own writer leaves it unreadable to others
    limit = sae.norm_limit if math.isfinite(sae.norm_limit) else None
    own = Own(scale=sae.scale, norm_limit=limit, target_l0=sae.target_l0, layer=sae.layer)
    settings = {
        "architecture": "jumprelu",
        "d_in": sae.d_model,
        "d_sae": sae.d_hidden,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            **metadata,
            "sae_lens_version": FORMAT_VERSION,
            "hook_name": f"blocks.{sae.layer}.hook_resid_post",
            "hook_head_index": None,
            "ghosttrack": own.model_dump(),
        },
    }
    text = json.dumps(settings, indent=1, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def export(file: Path, folder: Path, *, layer: int, metadata: Mapping[str, Any]) -> None:
    """Write a published SAE of a layer as a new folder; see `write` and `JumpReLUSAE.load` for errors."""
    write(JumpReLUSAE.load(file, layer=layer), folder, metadata)


def read(folder: Path, *, layer: int, d_model: int, d_hidden: int, target_l0: float) -> Pretrained:
    """The SAE in a SAELens folder, which must be of this layer and of these widths.

    target_l0: what it is taken to be where the folder does not say. Raises MissingInputError for a file that is not there,
    CorruptInputError for one that cannot be read or contradicts the other, NumericError for NaN or Inf, and
    ModelMismatchError for a SAE of another kind, layer or width.
    """
    path = folder / CONFIG_FILE
    settings = _read_settings(path)
    _check_kind(path, settings)
    _check_place(path, settings.metadata.hook_name, layer)
    _check_widths(path, settings, d_model, d_hidden)
    w = _read_weights(folder / WEIGHTS_FILE, d_model, d_hidden)
    if settings.apply_b_dec_to_input:  # (x - b_dec) W_enc + b_enc
        w["b_enc"] = (w["b_enc"].double() - w["b_dec"].double() @ w["W_enc"].double()).float()
    metadata = settings.metadata
    own, known = metadata.ghosttrack, metadata.ghosttrack.target_l0 or metadata.l0
    sae = JumpReLUSAE(
        W_enc=w["W_enc"] / own.scale, b_enc=w["b_enc"], W_dec=w["W_dec"] * own.scale, b_dec=w["b_dec"] * own.scale,
        threshold=w["threshold"].clamp(min=0),  # relu(z) · 1[z > t] with t < 0 is z · 1[z > 0]
        mean=torch.zeros(d_model), scale=own.scale, norm_limit=own.norm_limit or math.inf, layer=layer,
        target_l0=known or target_l0,
    ).folded()  # fmt: skip
    source = {
        "architecture": settings.architecture,
        "sae_lens_version": metadata.sae_lens_version,
        "model_name": metadata.model_name,
        "hook_name": metadata.hook_name,
    }
    return Pretrained(sae, known, source)


def _plain(sae: JumpReLUSAE) -> dict[str, Tensor]:
    """The weights of the same function without mean and scale; float64, since the mean may be far from 0."""
    encoder = sae.W_enc.double() * sae.scale
    mean = sae.mean.double()
    return {
        "W_enc": encoder,
        "b_enc": sae.b_enc.double() - mean @ encoder,
        "W_dec": sae.W_dec.double() / sae.scale,
        "b_dec": sae.b_dec.double() / sae.scale + mean,
        "threshold": sae.threshold,
    }


def _read_settings(path: Path) -> Settings:
    """`cfg.json`, checked. Before version 6 what is now in `metadata` was among the settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Settings.model_validate({**content, "metadata": {**content, **content.get("metadata", {})}})
    except FileNotFoundError as error:
        raise _missing(path) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path, str(error)) from error


def _check_kind(path: Path, settings: Settings) -> None:
    """Refuse what computes something else than the formula above. Raises ModelMismatchError."""
    metadata = settings.metadata
    if settings.architecture != "jumprelu":
        raise ModelMismatchError(
            f"{path}: the architecture is {settings.architecture!r} and must be 'jumprelu', the only one that is read; "
            "choose JumpReLU SAEs"
        )
    if settings.normalize_activations not in ("none", False):
        raise ModelMismatchError(
            f"{path}: normalize_activations is {settings.normalize_activations!r}: the scale is not folded into the "
            "weights, as in a checkpoint of a training. Take the folder that SAELens writes at the end of the training, "
            "or fold it (`sae.fold_activation_norm_scaling_factor`) and save it again"
        )
    if settings.reshape_activations != "none" or metadata.hook_head_index is not None:
        raise ModelMismatchError(
            f"{path}: it takes attention heads (reshape_activations {settings.reshape_activations!r}, "
            f"hook_head_index {metadata.hook_head_index}); take a SAE of the residual stream"
        )
    if settings.finetuning_scaling_factor:
        raise ModelMismatchError(
            f"{path}: finetuning_scaling_factor is set, which is not read; multiply the rows of W_dec by the factors "
            "and save it again"
        )
    if (metadata.model_from_pretrained_kwargs or {}).get("center_writing_weights"):
        raise ModelMismatchError(
            f"{path}: it was trained on a model with centred weights (center_writing_weights), whose states are not "
            "those of the model itself; take a SAE of the unprocessed model"
        )


def _check_place(path: Path, hook_name: str | None, layer: int) -> None:
    """Raises ModelMismatchError unless the SAE is of the output of block `layer`."""
    found = None
    if match := OUTPUT_OF.fullmatch(hook_name or ""):
        found = int(match[1] or match[2])
    elif match := INPUT_OF.fullmatch(hook_name or ""):
        found = int(match[1]) - 1
    if found != layer:
        what = "which is no block's output" if found is None or found < 0 else f"the output of block {found}"
        raise ModelMismatchError(
            f"{path}: hook_name is {hook_name!r}, {what}, and layer {layer} needs blocks.{layer}.hook_resid_post; "
            "correct sae.pretrained or sae.pretrained_independent"
        )


def _check_widths(path: Path, settings: Settings, d_model: int, d_hidden: int) -> None:
    if settings.d_in != d_model:
        raise ModelMismatchError(
            f"{path}: d_in is {settings.d_in} and model.d_model is {d_model}; take SAEs of this model"
        )
    if settings.d_sae != d_hidden:
        raise ModelMismatchError(
            f"{path}: d_sae is {settings.d_sae} and sae.d_hidden is {d_hidden}; give "
            f"--set sae.d_hidden={settings.d_sae}"
        )


def _read_weights(path: Path, d_model: int, d_hidden: int) -> dict[str, Tensor]:
    """The five tensors as float32, checked."""
    if not path.is_file():
        raise _missing(path)
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, str(error)) from error
    if UNSCALED in found and bool((found[UNSCALED] == 1).all()):
        del found[UNSCALED]
    if set(found) != set(TENSORS):
        missing, extra = sorted(set(TENSORS) - set(found)), sorted(set(found) - set(TENSORS))
        wrong = [*(f"{name} is missing" for name in missing), *(f"{name} is unknown" for name in extra)]
        raise CorruptInputError(
            f"{path}: {', '.join(wrong)}; a JumpReLU SAE has {', '.join(TENSORS)} and nothing else"
        )
    shapes = {
        "W_enc": (d_model, d_hidden), "b_enc": (d_hidden,), "W_dec": (d_hidden, d_model), "b_dec": (d_model,),
        "threshold": (d_hidden,),
    }  # fmt: skip
    for name, tensor in found.items():
        if tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point():
            raise CorruptInputError(
                f"{path}: {name} should be {list(shapes[name])} of floating-point numbers, as cfg.json says, and is "
                f"{list(tensor.shape)} {tensor.dtype}; save the SAE again with SAELens"
            )
        found[name] = tensor.float()
        if not found[name].isfinite().all():
            raise NumericError(f"{path}: {name} holds NaN or Inf; the SAE cannot be used")
    return found


def _missing(path: Path) -> MissingInputError:
    return MissingInputError(
        f"there is no {path}; a SAELens folder holds {CONFIG_FILE} and {WEIGHTS_FILE}. Correct sae.pretrained or sae.pretrained_independent, or "
        "choose the layers that there are with --set model.layers=0-5"
    )


def _unreadable(path: Path, why: str) -> CorruptInputError:
    return CorruptInputError(f"{path} cannot be read ({why}); save the SAE again with SAELens")
