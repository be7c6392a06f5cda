"""Rotary positions of a GGUF file that are scaled: what transformers leaves out when it reads the file's configuration.

Llama 3.1 and later (a tensor of factors on the frequencies), Gemma 3 of 4B and more (linear), models for long texts (YaRN,
LongRoPE). Without it such a model reads every position but the first otherwise than it was trained to. Names: the GGUF
specification; meaning: `transformers.modeling_rope_utils`.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from ghosttrack.common.errors import ModelSourceError

FREQUENCIES, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""The same in all of them, and not in the file: held against the factors that are."""


def scale_positions(config: Any, reader: Any) -> None:
    """Put a file's scaling into the configuration that was read from it. reader: a `gguf.GGUFReader`.

    Raises ModelSourceError for a kind of scaling that is not known.
    """
    rotary = getattr(config, "rope_parameters", None) or {}
    rotary = rotary.get("full_attention", rotary)
    if rotary.get("rope_type") == "default" and (found := _scaling(reader, config)):
        rotary.update(found)


def check_positions(model: nn.Module, reader: Any) -> None:
    """Raises ModelSourceError unless the model's frequencies are divided by the file's factors."""
    config: Any = model.config
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") != "llama3":
        return
    factors = _tensors(reader)[FREQUENCIES]
    at = torch.arange(len(factors), dtype=torch.float64) / len(factors)
    expected = rotary["rope_theta"] ** -at / torch.from_numpy(factors).double()
    for name, values in model.named_buffers():
        if name.endswith("inv_freq") and not torch.allclose(values.double(), expected, rtol=1e-3):
            raise _unknown(f"the factors of its {FREQUENCIES} are not those of Llama 3")


def _scaling(reader: Any, config: Any) -> dict[str, Any] | None:
    tensors = _tensors(reader)
    if FREQUENCIES in tensors and (tensors[FREQUENCIES] != 1).any():
        return {"rope_type": "llama3", "factor": float(tensors[FREQUENCIES].max()), **LLAMA_3}
    kind, original = _field(reader, "scaling.type"), _field(reader, "scaling.original_context_length")
    if LONG in tensors:
        of_length = {"short_factor": tensors[SHORT].tolist(), "long_factor": tensors[LONG].tolist()}
        if hasattr(config, "original_max_position_embeddings"):  # of Phi-3, which has it twice
            original = config.original_max_position_embeddings = (
                original or config.original_max_position_embeddings
            )
        factor = config.max_position_embeddings / original
        return {
            "rope_type": "longrope",
            "factor": factor,
            "original_max_position_embeddings": original,
            **of_length,
        }
    if kind in (None, "none"):
        return None
    factor = _field(reader, "scaling.factor")
    if kind == "linear" and factor:
        return {"rope_type": kind, "factor": factor}
    if kind == "yarn" and factor and original:
        return {"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}
    raise _unknown(f"rope.scaling.type is {kind!r}, with the factor {factor} and the length {original}")


def _field(reader: Any, name: str) -> Any:
    architecture = reader.fields["general.architecture"].contents()
    field = reader.fields.get(f"{architecture}.rope.{name}")
    return None if field is None else field.contents()


def _tensors(reader: Any) -> dict[str, np.ndarray]:
    """Those of positions."""
    return {
        tensor.name: np.array(tensor.data, np.float32)
        for tensor in reader.tensors
        if tensor.name in (FREQUENCIES, SHORT, LONG)
    }


def _unknown(what: str) -> ModelSourceError:
    return ModelSourceError(
        f"the positions of this GGUF file are scaled in a way that is not known ({what}); give the folder with the model's config.json "
        "and safetensors that it was made from"
    )
