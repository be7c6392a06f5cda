"""A tiny random Llama as a `.gguf` file, its tokenizer inside, as llama.cpp's converter writes one."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.tiny_models import byte_tokenizer, random_model

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def save_tiny_gguf(
    path: Path, architecture: str = "llama", add: Callable[[gguf.GGUFWriter], object] = lambda writer: None
) -> None:
    """The model `llama` of `tests.tiny_models`. architecture: what the file says that it is; add: writes something more."""
    model = random_model("llama")
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
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
    for name, tensor in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        values = tensor.numpy()
        for part, count in heads.items():
            if f"{part}.weight" in name:
                values = _interleaved(values, count)
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(values))
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    _, _, number, *part = stem.split(".")
    return f"blk.{number}.{NAMES['.'.join(part)]}.weight"


def _interleaved(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a rotary projection in llama.cpp's order: pairs beside each other instead of halves."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weights.shape)
