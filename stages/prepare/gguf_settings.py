"""What a GGUF file says of its model, and transformers leaves out when it reads the file's configuration.

Rotary positions that are scaled: Llama 3.1 and later (a tensor of factors on the frequencies), Gemma 3 of 4B and more (linear), models
for long texts (YaRN, LongRoPE); those of a part of each head; sliding windows, the scale and caps of scores and logits, biases,
sizes. Without them such a model computes something else than it was trained to. Names: the GGUF specification; meaning:
`transformers.modeling_rope_utils`, and for what is in no file the rules of llama.cpp.
"""

from typing import Any

import numpy as np
import torch
from tokenizers import decoders, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from ghosttrack.common.errors import ModelSourceError
from ghosttrack.stages.prepare.tokenizer import plain

FREQUENCIES, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""The same in all of them, and not in the file: held against the factors that are."""
EPSILON = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
NAMES = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_epsilon": EPSILON,
    "attention.layer_norm_rms_epsilon": EPSILON,
}
"""A file's key to what configurations call it, of which each has one at most."""
TOKENIZER = "tokenizer.ggml."
WINDOW = "attention.sliding_window"
ARITHMETIC = (
    WINDOW,
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
)
"""Keys whose last part is what configurations call it, and without which a model is another one. 0 is none, 1 no scale."""
LARGE = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the Gemmas of 27B, the only ones that scale scores by another width than a head's, which no file says (llama.cpp's rule)."""


def complete(config: Any, reader: Any) -> Any:
    """The configuration of a file with what was left out of it. reader: a `gguf.GGUFReader`.

    Raises ModelSourceError for what a model of this kind has no place for, and for a part of a file.
    """
    if (parts := _field(reader, "count", "split.") or 1) > 1:
        raise ModelSourceError(
            f"this GGUF file is one of {parts} parts of a model; join them (`llama-gguf-split --merge`) and name the file that it makes"
        )
    if isinstance(config, MistralConfig):  # of llama.cpp's kind "llama"; with a window it becomes one again
        config = LlamaConfig.from_dict(config.to_dict() | {"model_type": "llama"})
    for token in ("bos_token_id", "eos_token_id"):
        if _field(reader, token, TOKENIZER) is None and _field(reader, "model", TOKENIZER) != "llama":
            setattr(config, token, None)  # the class's own is a token of another vocabulary
    known: Any = GGUF_CONFIG_MAPPING.get(config.model_type.removesuffix("_text"), {})
    for key, names in NAMES.items():
        value = _field(reader, key)
        name = next((name for name in names if hasattr(config, name)), None)
        if (
            isinstance(value, (bool, int, float))
            and name
            and not hasattr(type(config), known.get(key) or "-")
        ):
            setattr(config, name, value)  # known under no name of this kind's
    for key in ARITHMETIC:
        name, value = key.rpartition(".")[2], _field(reader, key)
        if not value or (value == 1 and name.endswith("scale")):
            if value == 0 and hasattr(config, name):
                setattr(config, name, None)
        elif hasattr(config, name):
            setattr(config, name, value)
        elif not isinstance(config, LlamaConfig) or key != WINDOW:
            raise _unknown(f"{key} is {value}, and transformers' {config.model_type} has none")
    tensors = {tensor.name.partition(".")[2].partition(".")[2] for tensor in reader.tensors}
    for name, tensor in (("attention_bias", "attn_q.bias"), ("mlp_bias", "ffn_up.bias")):
        if hasattr(config, name) and tensor in tensors:
            setattr(config, name, True)
    _set_layers(config, reader)
    _set_score_scale(config, reader)
    _set_positions(config, reader)
    return config


def spaced(tokenizer: Any, reader: Any) -> Any:
    """The tokenizer of a file; without a space before every text where the file says so, and transformers puts one there."""
    backend = tokenizer.backend_tokenizer
    if _field(reader, "add_space_prefix", TOKENIZER) is not False or not isinstance(
        backend.pre_tokenizer, pre_tokenizers.Metaspace
    ):
        return tokenizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return plain(tokenizer, backend)


def completed(model: PreTrainedModel, reader: Any) -> PreTrainedModel:
    """The model that was loaded, with all its end tokens and the window that Llama's class has no place for.

    Raises ModelSourceError for a file with weights that are not in it, or with factors on its positions' frequencies that are.
    """
    _check_weights(model, reader)
    _check_positions(model, reader)
    ends = {_field(reader, f"{kind}_token_id", TOKENIZER) for kind in ("eos", "eot", "eom")} - {None}
    if model.generation_config is not None and len(ends) > 1:
        model.generation_config.eos_token_id = sorted(ends)  # of a text, a turn, a message
    window = _field(reader, WINDOW)
    if not window or not isinstance(model, LlamaForCausalLM):
        return model
    config = model.config.to_dict() | {"model_type": "mistral", "sliding_window": window}
    with torch.device("meta"):
        windowed = MistralForCausalLM(MistralConfig.from_dict(config))
    windowed.load_state_dict(model.state_dict(), assign=True)
    windowed.tie_weights()
    windowed.model.rotary_emb = model.model.rotary_emb
    windowed.generation_config = model.generation_config
    return windowed


def _check_weights(model: PreTrainedModel, reader: Any) -> None:
    """Raises ModelSourceError for weights of the file that have no place in the model."""
    architecture = _field(reader, "general.architecture", "")
    if architecture in GGUF_CONFIG_ARCHS:  # read in another way, which tells of those itself
        return
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    places = get_gguf_hf_weights_map(model, processor)
    names = [
        tensor.name
        for tensor in reader.tensors
        if tensor.name not in (FREQUENCIES, SHORT, LONG)
        and not {tensor.name, tensor.name.removesuffix(".weight")} & places.keys()
    ]
    if names:
        more = f" and {len(names) - 1} more weights are" if names[1:] else " is"
        raise _unknown(f"{names[0]}{more} not in transformers' {type(model).__name__}")


def _set_layers(config: Any, reader: Any) -> None:
    """Which layers have a window, where their configuration says it of each."""
    kinds = getattr(config, "layer_types", None)
    pattern = _field(reader, "attention.sliding_window_pattern")
    if kinds and pattern is not None:
        near = pattern if isinstance(pattern, list) else [(i + 1) % pattern for i in range(len(kinds))]
        config.layer_types = kinds = [
            "sliding_attention" if is_near else "full_attention" for is_near in near
        ]
    window = _field(reader, WINDOW)
    if window and hasattr(config, "use_sliding_window"):
        config.use_sliding_window = True
    if kinds and window and "sliding_attention" not in kinds:
        raise _unknown(f"{WINDOW} is {window}, and no key says in which layers")


def _set_score_scale(config: Any, reader: Any) -> None:
    scale = _field(reader, "attention.scale")
    if not hasattr(config, "query_pre_attn_scalar"):
        if scale and abs(scale * config.head_dim**0.5 - 1) > 1e-3:
            raise _unknown(f"attention.scale is {scale}, and transformers' {config.model_type} has none")
    elif scale:
        config.query_pre_attn_scalar = scale**-2
    elif config.num_hidden_layers == LARGE.get(config.model_type):
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
    else:
        config.query_pre_attn_scalar = config.head_dim


def _set_positions(config: Any, reader: Any) -> None:
    both = getattr(config, "rope_parameters", None) or {}
    rotary, near = both.get("full_attention", both), both.get("sliding_attention")
    if not rotary:
        return
    if base := _field(reader, "rope.freq_base"):
        rotary["rope_theta"] = base
    if near and (base := _field(reader, "rope.freq_base_swa")):
        near["rope_theta"] = base
    if "partial_rotary_factor" in rotary and (width := _field(reader, "rope.dimension_count")):
        of_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        rotary["partial_rotary_factor"] = width / of_head
    if rotary.get("rope_type") == "default" and (found := _scaling(reader, config)):
        rotary.update(found)


def _check_positions(model: nn.Module, reader: Any) -> None:
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
    kind = _field(reader, "rope.scaling.type")
    original = _field(reader, "rope.scaling.original_context_length")
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
    factor = _field(reader, "rope.scaling.factor")
    if kind == "linear" and factor:
        return {"rope_type": kind, "factor": factor}
    if kind == "yarn" and factor and original:
        return {"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}
    raise _unknown(f"rope.scaling.type is {kind!r}, with the factor {factor} and the length {original}")


def _field(reader: Any, name: str, of: str | None = None) -> Any:
    """The value of a key, None where there is none. of: what it begins with instead of the file's architecture."""
    if of is None:
        of = f"{reader.fields['general.architecture'].contents()}."
    field = reader.fields.get(f"{of}{name}")
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
        f"this GGUF file asks for what would not be computed ({what}); give the folder with the model's config.json and safetensors that "
        "it was made from"
    )
