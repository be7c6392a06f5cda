"""Tiny random models as `.gguf` files, their tokenizer inside, as llama.cpp's converter writes them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tests.tiny_models import byte_tokenizer, random_model

Weights = NDArray[np.float32]


def save_tiny_gguf(
    path: Path, architecture: str = "llama", add: Callable[[gguf.GGUFWriter], object] = lambda writer: None
) -> None:
    """The model `llama` of `tests.tiny_models`. architecture: what the file says that it is; add: writes something more."""

    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(10000.0)
        add(writer)

    save_gguf(path, random_model("llama"), architecture, more)


def save_gguf(
    path: Path, model: PreTrainedModel, architecture: str, add: Callable[[gguf.GGUFWriter], object]
) -> None:
    """add: writes the keys that not all kinds of models have."""
    config: Any = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", config.num_attention_heads))
    writer.add_vocab_size(config.vocab_size)
    words = byte_tokenizer().get_vocab()
    tokens = sorted(words, key=words.__getitem__)
    pair = tokens[:2]  # a merge that hardly any text has: there must be one
    tokens.append("".join(pair))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*tokens, *(f"<unused{i}>" for i in range(config.vocab_size - len(tokens)))])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges([" ".join(pair)])
    writer.add_eos_token_id(config.vocab_size - 1)
    writer.add_bos_token_id(config.vocab_size - 1)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds.get(architecture, gguf.MODEL_ARCH.LLAMA), config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for part, values in _as_converted(name, tensor.numpy(), config, architecture):
            own = names.get_name(part, try_suffixes=(".weight", ".bias"))
            assert own is not None, part
            writer.add_tensor(own, np.ascontiguousarray(values))
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _as_converted(
    name: str, values: Weights, config: Any, architecture: str
) -> Iterator[tuple[str, Weights]]:
    """A weight as llama.cpp's converter changes or parts it."""
    if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        yield name, _interleaved(values, heads)
    elif architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        yield name, values.T
    elif architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        yield name, values + 1
    elif name.endswith("experts.gate_up_proj"):
        for part, half in zip(("gate_proj", "up_proj"), np.split(values, 2, axis=1), strict=True):
            yield name.replace("gate_up_proj", f"{part}.weight"), half
    elif name.endswith("experts.down_proj"):
        yield f"{name}.weight", values
    else:
        yield name, values


def _interleaved(weights: Weights, heads: int) -> Weights:
    """Rows of a rotary projection in llama.cpp's order: pairs beside each other instead of halves."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weights.shape)
