"""The sparse autoencoder as it is used and stored: JumpReLU, with the normalisation of its layer.

Training is `stages/sae_train`; nothing here learns. A SAE takes block outputs in the model's own units and
normalises them itself: less the layer's mean, times its scale, so that E‖x‖² = d_model. Decoder rows have
unit norm in normalised units (their norms are folded into encoder and thresholds), so that activations are
comparable between latents and between layers.

    z = ((state - mean) · scale) W_enc + b_enc        acts = z · 1[z > threshold]
    reconstruction = (acts W_dec + b_dec) / scale + mean

A TopK SAE that was trained elsewhere keeps only the `k` largest of these activations of a state. One that was trained on states
divided by a length of their own (`own_scale`) has biases and thresholds in that unit, r: b_enc, threshold and b_dec stand for r times
themselves. Its activations are in the state's unit, as those of the others, and so linear in it while r is held.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ghosttrack.common.errors import CorruptInputError, ModelMismatchError, NumericError
from ghosttrack.common.foreign import whole
from ghosttrack.common.models.products import linear

FORMAT = "ghosttrack.jumprelu_sae"
VERSION = 1
LAYER_NORM_EPSILON = 1e-5
"""Of SAELens; it divides by the deviation and this, and multiplies by the deviation alone, which is the same but for 1e-5."""
CHUNK_ROWS = 4096
"""Rows encoded at a time where only a summary of the activations is kept."""


@dataclass
class JumpReLUSAE:
    """A trained SAE of one layer, or the shared base (layer None; mean 0, scale 1: normalised inputs).

    All tensors float32.
    """

    W_enc: Tensor
    """[d_model, d_hidden]"""
    b_enc: Tensor
    """[d_hidden]"""
    W_dec: Tensor
    """[d_hidden, d_model], rows of unit norm (a latent that never came alive may have a zero row)"""
    b_dec: Tensor
    """[d_model], normalised units"""
    threshold: Tensor
    """[d_hidden], at least 0, linear (not its logarithm)"""
    mean: Tensor
    """[d_model], of the layer's training states"""
    scale: float
    norm_limit: float
    """Norm above which a state is an outlier (an attention sink), in the model's units; not trained on."""
    layer: int | None
    target_l0: float
    k: int | None = None
    """Most active latents of a state (TopK); None: no bound."""
    own_scale: str | None = None
    """What a state is divided by before it is encoded: `layer_norm` (its standard deviation, when its mean is gone, which comes back
    after decoding) or `constant_norm_rescale` (its norm, over √d_model); None: nothing."""

    def __repr__(self) -> str:
        """In a line, without its weights."""
        return f"<SAE{self._of_layer()}: {self.d_model} wide, {self.d_hidden} latents, {self.target_l0} active of a token>"

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_hidden(self) -> int:
        return self.W_enc.shape[1]

    def normalise(self, states: Tensor) -> Tensor:
        """States as the encoder takes them. states: [..., d_model], any float type, the model's units → float32,
        E‖x‖² = d_model."""
        if states.shape[-1] != self.d_model:
            raise ModelMismatchError(
                f"the SAE{self._of_layer()} takes states of width {self.d_model} and was given width "
                f"{states.shape[-1]}; it was trained for another model"
            )
        return (states.to(self.W_enc.dtype) - self.mean) * self.scale

    def encode(self, states: Tensor) -> Tensor:
        """What is active in states. states: [..., d_model], the model's units → activations [..., d_hidden] float32,
        0 where inactive."""
        own = self.own_unit(states)
        preactivations = linear(self.normalise(states), self.W_enc.T) + own * self.b_enc
        acts = preactivations * (preactivations > own * self.threshold)
        if self.k is None or self.k >= self.d_hidden:
            return acts
        values, latents = acts.topk(self.k, dim=-1)
        return torch.zeros_like(acts).scatter_(-1, latents, values)

    def decode(self, acts: Tensor, states: Tensor | None = None) -> Tensor:
        """States as activations make them again. acts: [..., d_hidden] → reconstruction [..., d_model] float32, the
        model's units.

        states: [..., d_model], those that were encoded; a SAE with a scale of each state's own needs them.
        """
        return linear(acts, self.W_dec.T) / self.scale + self.bias(states)

    def own_unit(self, states: Tensor) -> Tensor | float:
        """The unit of biases and thresholds at each state, [..., 1]; 1 for all, where states have no scale of their own."""
        if self.own_scale == "layer_norm":
            return states.float().std(-1, keepdim=True) + LAYER_NORM_EPSILON
        if self.own_scale == "constant_norm_rescale":
            return torch.linalg.vector_norm(states.float(), dim=-1, keepdim=True) / self.d_model**0.5
        return 1.0

    def bias(self, states: Tensor | None = None) -> Tensor:
        """What a reconstruction is without latents, [d_model], or [..., d_model] of states with a scale of their own."""
        if self.own_scale is None:
            return self.b_dec / self.scale + self.mean
        if states is None:
            raise ModelMismatchError(f"the SAE{self._of_layer()} decodes only with the states at hand")
        centre = states.float().mean(-1, keepdim=True) if self.own_scale == "layer_norm" else 0.0
        return self.own_unit(states) * self.b_dec / self.scale + centre

    def top_k(self, states: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k strongest active latents of each state, strongest first.

        states: [n, d_model], the model's units. Returns (latent int32 [n, k], activation float32 [n, k]); where
        fewer than k latents are active, the rest of the row is latent 0 with activation 0.
        """
        parts = [strongest(self.encode(rows), k) for rows in states.split(CHUNK_ROWS)]
        latent, activation = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return latent, activation

    def is_outlier(self, states: Tensor) -> Tensor:
        """Whether each state [..., d_model] has a norm that the SAE was not trained on: bool [...]."""
        return torch.linalg.vector_norm(states.float(), dim=-1) >= self.norm_limit

    def folded(self) -> "JumpReLUSAE":
        """The same function with decoder rows of unit norm; what the norms were moves to encoder and threshold."""
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        norms = torch.where(norms > 0, norms, 1.0)
        return replace(
            self, W_enc=self.W_enc * norms, b_enc=self.b_enc * norms, W_dec=self.W_dec / norms[:, None],
            threshold=self.threshold * norms,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> "JumpReLUSAE":
        tensors = {
            f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write a plain dictionary that `torch.load(path, weights_only=True)` reads."""
        content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for field in fields(self):
            value = getattr(self, field.name)
            content[field.name] = value.detach().cpu().contiguous() if isinstance(value, Tensor) else value
        content |= {"d_model": self.d_model, "d_hidden": self.d_hidden}
        torch.save(content, path)

    @classmethod
    def load(cls, path: Path, *, d_model: int | None = None, layer: int | None = None) -> "JumpReLUSAE":
        """Read a SAE file and check it whole.

        d_model, layer: what the caller needs it for. Raises CorruptInputError for a file that is no SAE,
        NumericError for NaN or Inf in it, ModelMismatchError for one of another width or layer.
        """
        with whole(path, "train it again with `ghosttrack run`", ".pt file"):
            sae = _from_content(path, torch.load(path, map_location="cpu", weights_only=True))
        if d_model is not None and sae.d_model != d_model:
            raise ModelMismatchError(
                f"{path} is for states of width {sae.d_model}; the model's d_model is {d_model}"
            )
        if layer is not None and sae.layer != layer:
            raise ModelMismatchError(f"{path} is the SAE of layer {sae.layer}, not of layer {layer}")
        return sae

    def _of_layer(self) -> str:
        return "" if self.layer is None else f" of layer {self.layer}"


def strongest(acts: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k strongest active latents of each row of activations [n, d_hidden]; see `JumpReLUSAE.top_k`."""
    found = min(k, acts.shape[1])
    values, indices = acts.topk(found, dim=-1)
    latent = functional.pad(indices.to(torch.int32) * (values > 0), (0, k - found))
    return latent, functional.pad(values, (0, k - found))


def _from_content(path: Path, content: Any) -> JumpReLUSAE:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CorruptInputError(f"{path} is not a {FORMAT} file; give one that `sae_train` wrote")
    if content.get("version") != VERSION:
        raise CorruptInputError(
            f"{path} has format version {content.get('version')!r}, this program reads {VERSION}; "
            "train it again with `ghosttrack run`"
        )
    content = {"k": None, "own_scale": None} | content  # files of before there were such SAEs
    names = [field.name for field in fields(JumpReLUSAE)]
    if missing := [name for name in [*names, "d_model", "d_hidden"] if name not in content]:
        raise CorruptInputError(f"{path} has no {missing[0]!r}; train it again with `ghosttrack run`")
    d_model, d_hidden = content["d_model"], content["d_hidden"]
    tensors = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "mean")
    for name in {*names, "d_model", "d_hidden"} - {*tensors}:
        if not isinstance(content[name], (int, float, str, type(None))):
            raise CorruptInputError(f"{path}: {name} is a {type(content[name]).__name__} and no number")
    shapes = {
        "W_enc": (d_model, d_hidden), "b_enc": (d_hidden,), "W_dec": (d_hidden, d_model), "b_dec": (d_model,),
        "threshold": (d_hidden,), "mean": (d_model,),
    }  # fmt: skip
    for name, shape in shapes.items():
        tensor = content[name]
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            is_tensor = isinstance(tensor, Tensor)
            found = f"{list(tensor.shape)} {tensor.dtype}" if is_tensor else type(tensor).__name__
            raise CorruptInputError(f"{path}: {name} should be {list(shape)} torch.float32 and is {found}")
        if not tensor.isfinite().all():
            raise NumericError(f"{path}: {name} holds NaN or Inf; train it again with `ghosttrack run`")
    return JumpReLUSAE(**{name: content[name] for name in names})
