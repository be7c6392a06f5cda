"""SAELens' folders both ways: a layer's `cfg.json` beside `sae_weights.safetensors`, as SAELens 6 and later save them.

    acts = relu(z) · 1[z > threshold]    z = x W_enc + b_enc    reconstruction = acts W_dec + b_dec

takes x in the model's own units. Writing folds the layer's mean and scale into the weights, so that the outputs are the
same; the scale is put down beside them, so that reading finds it again. Reading takes the SAEs of a block's output whose
function is that, or becomes that: standard, JumpReLU, gated, TopK and BatchTopK, by SAELens old and new. It refuses by name
what would compute something else, and touches no network.
"""

import errno
import hashlib
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
from torch.nn import functional

from ghosttrack.common.engine.fingerprint import GEMMA_SCOPE_FILES, LLAMA_SCOPE_FILES, SAE_FILES
from ghosttrack.common.errors import CorruptInputError, MissingInputError, ModelMismatchError, NumericError
from ghosttrack.common.files import sha256_of
from ghosttrack.common.foreign import read_json
from ghosttrack.common.models.sae import JumpReLUSAE

CONFIG_FILE, WEIGHTS_FILE = SAE_FILES
FORMAT_VERSION = "6.0.0"
"""The first SAELens whose `cfg.json` this is; an earlier one (or none) makes SAELens drop the metadata."""
TENSORS = {
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "batchtopk": ("W_enc", "b_enc", "W_dec", "b_dec", "topk_threshold"),
    "gated": ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"),
}
"""Of each architecture that is read."""
OWN_SCALES = ("layer_norm", "constant_norm_rescale")
"""Of `normalize_activations`, what divides every state by a length of its own."""
EQUAL_NORMS = 1.001
"""Ratio of norms up to which a decoder counts as normalised."""
FACTORS = ("finetuning_scaling_factor", "scaling_factor")
"""What a tensor of factors on the latents is called, now and before; some versions saved one of ones that means nothing."""
OUTPUT_OF = re.compile(r"blocks\.(\d+)\.(?:hook_resid_post|hook_out)|(?:[^\W\d]\w*\.)+(\d+)")
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
    trained_as: str | None = None
    """sha256 of the file that was exported."""
    weights: str | None = None
    """sha256 of the weights beside this: others are another SAE, whatever `trained_as` says."""


class SaeLensMetadata(BaseModel):
    sae_lens_version: str | None = None
    model_name: str | None = None
    hook_name: str | None = Field(None, validation_alias=AliasChoices("hook_name", "hook_point"))
    hook_name_out: str | None = Field(None, validation_alias=AliasChoices("hook_name_out", "out_hook_point"))
    """Of a transcoder, what it predicts."""
    hook_head_index: int | None = Field(
        None, validation_alias=AliasChoices("hook_head_index", "hook_point_head_index")
    )
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
    activation_fn: str = Field("relu", validation_alias=AliasChoices("activation_fn", "activation_fn_str"))
    """Before version 6, where a TopK SAE was a standard one with another activation."""
    activation_fn_kwargs: dict[str, Any] = {}
    k: float | None = Field(None, gt=0)
    rescale_acts_by_decoder_norm: bool = False
    finetuning_scaling_factor: bool = False
    metadata: SaeLensMetadata

    @property
    def kind(self) -> str:
        topk = self.architecture == "standard" and self.activation_fn == "topk"
        return "topk" if topk else self.architecture

    @property
    def own_scale(self) -> str | None:
        return str(self.normalize_activations) if self.normalize_activations in OWN_SCALES else None

    @property
    def most_active(self) -> int | None:
        """Of a TopK SAE."""
        k = self.k or self.activation_fn_kwargs.get("k")
        return int(k) if k and self.kind == "topk" else None


@dataclass(frozen=True)
class Pretrained:
    """A SAE that was read, and what its folder says about it."""

    sae: JumpReLUSAE
    target_l0: float | None
    """Mean active latents a token that it was trained for or has, where the folder says so."""
    source: dict[str, str | None]
    """architecture, sae_lens_version, model_name and hook_name, as in the folder; trained_as: digest of GhostTrack's file
    that it was exported from, as long as its weights are those."""


def write(sae: JumpReLUSAE, folder: Path, metadata: Mapping[str, Any], trained_as: str | None = None) -> None:
    """Write a layer's SAE as a folder, new or empty, that `sae_lens.SAE.load_from_disk` loads, with the same outputs.

    metadata: what else SAELens may know, such as model_name; trained_as: see `Own`. Raises OSError.
    """
    if sae.k is not None or sae.own_scale is not None:
        raise ModelMismatchError(
            "a TopK SAE, or one with a scale of each state's own, is not exported: take it from where it came from"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "it holds files already", str(folder))
    tensors = {name: tensor.float().contiguous() for name, tensor in _plain(sae).items()}
    weights = to_bytes(tensors)
    (folder / WEIGHTS_FILE).write_bytes(weights)  # safetensors' own writer leaves it unreadable to others
    limit = sae.norm_limit if math.isfinite(sae.norm_limit) else None
    own = Own(
        scale=sae.scale, norm_limit=limit, target_l0=sae.target_l0, layer=sae.layer, trained_as=trained_as,
        weights=hashlib.sha256(weights).hexdigest(),
    )  # fmt: skip
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


def export(
    file: Path, folder: Path, *, layer: int, metadata: Mapping[str, Any], trained_as: str | None
) -> None:
    """Write a published SAE of a layer as a new folder; see `write` and `JumpReLUSAE.load` for errors."""
    write(JumpReLUSAE.load(file, layer=layer), folder, metadata, trained_as or sha256_of(file))


def read(folder: Path, *, layer: int, d_model: int, d_hidden: int, target_l0: float) -> Pretrained:
    """The SAE in a SAELens folder, which must be of this layer and of these widths.

    target_l0: what it is taken to be where the folder does not say. Raises MissingInputError for a file that is not there,
    CorruptInputError for one that cannot be read or contradicts the other, NumericError for NaN or Inf, and
    ModelMismatchError for a SAE of another kind, layer or width.
    """
    path = folder / CONFIG_FILE
    settings = _read_settings(path)
    _check_kind(path, settings)
    check_place(path, settings.metadata.hook_name, layer)
    check_widths(path, settings.d_in, settings.d_sae, d_model, d_hidden)
    w = _as_jumprelu(settings, _read_weights(folder / WEIGHTS_FILE, settings))
    metadata = settings.metadata
    own, known = metadata.ghosttrack, metadata.ghosttrack.target_l0 or settings.most_active or metadata.l0
    sae = fitting(
        w, scale=own.scale, d_hidden=d_hidden, layer=layer, target_l0=known or target_l0,
        norm_limit=own.norm_limit, k=settings.most_active, own_scale=settings.own_scale, path=path,
    )  # fmt: skip
    is_own = own.weights and own.weights == sha256_of(folder / WEIGHTS_FILE)
    source = {
        "architecture": settings.architecture,
        "sae_lens_version": metadata.sae_lens_version,
        "model_name": metadata.model_name,
        "hook_name": metadata.hook_name,
        "trained_as": own.trained_as if is_own else None,
    }
    return Pretrained(sae, known, source)


def fitting(
    w: Mapping[str, Tensor],
    *,
    scale: float,
    d_hidden: int,
    layer: int,
    target_l0: float,
    path: Path,
    norm_limit: float | None = None,
    k: int | None = None,
    own_scale: str | None = None,
) -> JumpReLUSAE:
    """The SAE of weights in the model's own units, with latents that are never active up to `d_hidden`.

    w: W_enc [d_model, n], b_enc [n], W_dec [n, d_model], b_dec [d_model], threshold [n]. Raises ModelMismatchError for a TopK
    SAE whose choice of latents would change with the norms of its decoder.
    """
    norms = torch.linalg.vector_norm(w["W_dec"], dim=1)
    if k is not None and float(norms.max()) > EQUAL_NORMS * float(norms.min()):
        raise ModelMismatchError(
            f"{path}: a TopK SAE whose decoder rows have other norms each (rescale_acts_by_decoder_norm is not set), which is not "
            "read; take one with a normalised decoder"
        )
    missing = d_hidden - w["W_enc"].shape[1]
    wide = {
        "W_enc": functional.pad(w["W_enc"], (0, missing)), "b_enc": functional.pad(w["b_enc"], (0, missing)),
        "W_dec": functional.pad(w["W_dec"], (0, 0, 0, missing)),
        "threshold": functional.pad(w["threshold"].clamp(min=0), (0, missing), value=1.0),
    }  # fmt: skip
    return JumpReLUSAE(
        W_enc=wide["W_enc"] / scale, b_enc=wide["b_enc"], W_dec=wide["W_dec"] * scale, b_dec=w["b_dec"] * scale,
        threshold=wide["threshold"],  # relu(z) · 1[z > t] with t < 0 is z · 1[z > 0]
        mean=torch.zeros(w["b_dec"].shape[0]), scale=scale, norm_limit=norm_limit or math.inf, layer=layer,
        target_l0=target_l0, k=k, own_scale=own_scale,
    ).folded()  # fmt: skip


def _as_jumprelu(settings: Settings, w: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the formula above for any architecture that is read; float64 where biases are put together."""
    kind, found = settings.kind, {name: tensor.double() for name, tensor in w.items()}
    norms = torch.linalg.vector_norm(found["W_dec"], dim=1)
    if FACTORS[0] in found:
        found["W_dec"] = found["W_dec"] * found[FACTORS[0]][:, None]
    if kind == "gated":  # the gate opens where z is above a threshold: both paths share W_enc
        found["W_enc"] = found["W_enc"] * found["r_mag"].exp()
        found["b_enc"] = found["b_mag"]
        found["threshold"] = found["b_mag"] - found["r_mag"].exp() * found["b_gate"]
    elif (
        kind == "batchtopk"
    ):  # the threshold that stands for the batch, over decoder norms where these rescale
        rescaled = norms.clamp(min=1e-12) if settings.rescale_acts_by_decoder_norm else torch.ones_like(norms)
        found["threshold"] = found["topk_threshold"] / rescaled
    elif kind != "jumprelu":
        found["threshold"] = torch.zeros_like(norms)
    if kind == "topk" and settings.rescale_acts_by_decoder_norm:
        found["W_enc"], found["b_enc"] = found["W_enc"] * norms, found["b_enc"] * norms
        found["W_dec"] = found["W_dec"] / norms.clamp(min=1e-12)[:, None]
    if settings.apply_b_dec_to_input:  # (x - b_dec) W_enc + b_enc
        found["b_enc"] = found["b_enc"] - found["b_dec"] @ found["W_enc"]
    if settings.own_scale == "layer_norm":  # takes each state's mean away
        found["W_enc"] = found["W_enc"] - found["W_enc"].mean(0)
    return {name: found[name].float() for name in TENSORS["jumprelu"]}


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
        content = _given(read_json(path))
        return Settings.model_validate(
            {**content, "metadata": {**content, **_given(content.get("metadata", {}))}}
        )
    except FileNotFoundError as error:
        raise _missing(path) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path, str(error)) from error


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without nulls, which older versions write for what they leave to the default."""
    return {name: value for name, value in settings.items() if value is not None}


def _check_kind(path: Path, settings: Settings) -> None:
    """Refuse what computes something else than the formula above. Raises ModelMismatchError."""
    metadata = settings.metadata
    if settings.kind not in TENSORS or settings.activation_fn not in ("relu", "topk"):
        raise ModelMismatchError(
            f"{path}: the architecture is {settings.architecture!r} (activation {settings.activation_fn!r}), and those that are "
            f"read are {', '.join(TENSORS)}; choose one of these"
        )
    if settings.kind == "topk" and settings.most_active is None:
        raise ModelMismatchError(f"{path}: a TopK SAE that does not say its k; save it again with SAELens")
    if settings.normalize_activations not in ("none", False, *OWN_SCALES):
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
    if metadata.hook_name_out not in (None, metadata.hook_name):
        raise ModelMismatchError(
            f"{path}: it is a transcoder, from {metadata.hook_name} to {metadata.hook_name_out}; take a SAE of the residual stream"
        )
    if (metadata.model_from_pretrained_kwargs or {}).get("center_writing_weights"):
        raise ModelMismatchError(
            f"{path}: it was trained on a model with centred weights (center_writing_weights), whose states are not "
            "those of the model itself; take a SAE of the unprocessed model"
        )


def check_place(path: Path, hook_name: str | None, layer: int) -> None:
    """Raises ModelMismatchError unless the SAE is of the output of block `layer`."""
    found = None
    name = hook_name if isinstance(hook_name, str) else ""
    if match := OUTPUT_OF.fullmatch(name):
        found = int(match[1] or match[2])
    elif match := INPUT_OF.fullmatch(name):
        found = int(match[1]) - 1
    if found != layer:
        what = "which is no block's output" if found is None or found < 0 else f"the output of block {found}"
        raise ModelMismatchError(
            f"{path}: hook_name is {hook_name!r}, {what}, and layer {layer} needs blocks.{layer}.hook_resid_post; "
            "correct sae.pretrained or sae.pretrained_independent"
        )


def check_widths(path: Path, d_in: int, d_sae: int, d_model: int, d_hidden: int) -> None:
    """Raises ModelMismatchError for a SAE of another model's width, or of more latents than there is room for."""
    if d_in != d_model:
        raise ModelMismatchError(
            f"{path}: d_in is {d_in} and model.d_model is {d_model}; take SAEs of this model"
        )
    if d_sae > d_hidden:
        raise ModelMismatchError(
            f"{path}: d_sae is {d_sae} and sae.d_hidden is {d_hidden}; give --set sae.d_hidden={d_sae}, or the widest layer's"
        )


def _read_weights(path: Path, settings: Settings) -> dict[str, Tensor]:
    """The architecture's tensors as float32, checked."""
    kind = settings.kind
    if not path.is_file():
        raise _missing(path)
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, str(error)) from error
    for name in FACTORS:
        if name in found and bool((found[name] == 1).all()):
            del found[name]
        elif name in found and settings.finetuning_scaling_factor:
            found[FACTORS[0]] = found.pop(name)
    if kind == "batchtopk" and "threshold" in found:  # as it is saved at the end of a training
        found["topk_threshold"] = found.pop("threshold")
    names = set(TENSORS[kind])
    if settings.finetuning_scaling_factor:
        names |= found.keys() & {FACTORS[0]}
    if set(found) != names:
        missing, extra = sorted(names - set(found)), sorted(set(found) - names)
        wrong = [*(f"{name} is missing" for name in missing), *(f"{name} is unknown" for name in extra)]
        raise CorruptInputError(
            f"{path}: {', '.join(wrong)}; a SAE of the kind {kind} has {', '.join(TENSORS[kind])} and nothing else"
        )
    return checked(path, found, settings.d_in, settings.d_sae)


def checked(path: Path, found: Mapping[str, Tensor], d_in: int, d_sae: int) -> dict[str, Tensor]:
    """Tensors as float32. Raises CorruptInputError for one of another shape or type, NumericError for NaN or Inf."""
    of_other_shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, d_sae),
        "W_dec": (d_sae, d_in),
        "b_dec": (d_in,),
    }
    whole = {}
    for name, tensor in found.items():
        shape = of_other_shapes.get(name, (d_sae,))
        scalar = name == "topk_threshold" and not tensor.ndim
        if not (tensor.shape == shape or scalar) or not tensor.is_floating_point():
            raise CorruptInputError(
                f"{path}: {name} should be {list(shape)} of floating-point numbers and is {list(tensor.shape)} {tensor.dtype}; "
                "fetch the SAE again, or save it again with SAELens"
            )
        whole[name] = tensor.float().contiguous()
        if not whole[name].isfinite().all():
            raise NumericError(f"{path}: {name} holds NaN or Inf; the SAE cannot be used")
    return whole


def _missing(path: Path) -> MissingInputError:
    return MissingInputError(
        f"there is no {path}; a folder of SAELens holds {CONFIG_FILE} and {WEIGHTS_FILE}, one of Gemma Scope {GEMMA_SCOPE_FILES[0]}, one of "
        f"Llama Scope {' and '.join(LLAMA_SCOPE_FILES)}. Correct sae.pretrained or sae.pretrained_independent, or "
        "choose the layers that there are with --set model.layers=0-5"
    )


def _unreadable(path: Path, why: str) -> CorruptInputError:
    return CorruptInputError(f"{path} cannot be read ({why}); save the SAE again with SAELens")
