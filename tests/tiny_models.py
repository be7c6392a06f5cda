"""Random models of a few thousand weights, one of each of many architectures, as snapshot folders."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 256
"""Tokens in use; models have some more, since the tokenizer class of Qwen2 adds one of its own."""
N_LAYERS = 3
D_MODEL = 32
WINDOW = 6
"""Tokens that the sliding-window layers of the Gemmas see."""
_COMMON = {
    "vocab_size": VOCABULARY + 8, "hidden_size": D_MODEL, "intermediate_size": 64, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW,
          "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}  # fmt: skip
_SLIDING = {**_GROUPED, "sliding_window": WINDOW}
_MIXED = {**_SLIDING, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_OLD = {"vocab_size": VOCABULARY + 8, "n_positions": 128, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 4}
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bloom": ("Bloom", {"vocab_size": VOCABULARY + 8, "hidden_size": D_MODEL, "n_layer": N_LAYERS, "n_head": 4}),
    "cohere": ("Cohere", {**_GROUPED, "logit_scale": 0.25, "pad_token_id": 0}),
    "cohere2": ("Cohere2", {**_MIXED, "logit_scale": 0.25, "pad_token_id": 0}),
    "deepseek_v3": ("DeepseekV3", {**_GROUPED, **_EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
                                   "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_group": 1,
                                   "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}),
    "falcon": ("Falcon", {**_COMMON, "alibi": False, "new_decoder_architecture": False}),
    "gemma": ("Gemma", {**_GROUPED, "head_dim": 8, "pad_token_id": 0}),
    "gemma2": ("Gemma2", _GEMMA),
    "gemma3_text": ("Gemma3Text", _GEMMA),
    "gpt2": ("GPT2", _OLD),
    "gpt_neo": ("GPTNeo", {**_COMMON, "num_layers": N_LAYERS, "num_heads": 4, "window_size": WINDOW,
                           "attention_types": [[["global", "local", "global"], 1]]}),
    "gpt_neox": ("GPTNeoX", _COMMON),
    "gpt_oss": ("GptOss", {**_MIXED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}),
    "gptj": ("GPTJ", {**_OLD, "rotary_dim": 4}),
    "granite": ("Granite", {**_GROUPED, "logits_scaling": 3.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0}),
    "llama": ("Llama", _GROUPED),
    "llama4_text": ("Llama4Text", {**_GROUPED, "head_dim": 8, "intermediate_size_mlp": 64, "attention_chunk_size": WINDOW,
                                   "num_local_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}),
    "minimax": ("MiniMax", {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 8,
                            "layer_types": ["linear_attention", "full_attention", "linear_attention"]}),
    "mistral": ("Mistral", _SLIDING),
    "mixtral": ("Mixtral", {**_SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "mpt": ("Mpt", {"vocab_size": VOCABULARY + 8, "d_model": D_MODEL, "n_layers": N_LAYERS, "n_heads": 4, "max_seq_len": 128}),
    "olmo2": ("Olmo2", {**_GROUPED, "pad_token_id": 0}),
    "olmo3": ("Olmo3", {**_MIXED, "pad_token_id": 0}),
    "opt": ("OPT", {**_COMMON, "ffn_dim": 64, "word_embed_proj_dim": D_MODEL, "pad_token_id": 0}),
    "phi": ("Phi", _COMMON),
    "phi3": ("Phi3", {**_GROUPED, "pad_token_id": 0}),
    "qwen2": ("Qwen2", _GROUPED),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 8}),
    "qwen3_moe": ("Qwen3Moe", {**_GROUPED, **_EXPERTS, "head_dim": 8, "num_experts": 4}),
    "qwen3_next": ("Qwen3Next", {**_GROUPED, **_EXPERTS, "head_dim": 8, "num_experts": 4, "shared_expert_intermediate_size": 16,
                                 "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
                                 "linear_value_head_dim": 8,
                                 "layer_types": ["linear_attention", "full_attention", "linear_attention"]}),
    "smollm3": ("SmolLM3", {**_GROUPED, "pad_token_id": 0}),
    "stablelm": ("StableLm", _GROUPED),
    "starcoder2": ("Starcoder2", _SLIDING),
}  # fmt: skip
"""Hugging Face `model_type` to the names of its classes and the sizes of a tiny one."""
TAKEN_APART = sorted({"gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "phi", "phi3", "qwen2", "qwen3"})
"""Those whose blocks are read as what attention and MLP write."""
_MODEL_CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "gemma3_text": "Gemma3ForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def bos_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and one before every text, as Llama 3 and Gemma have it."""
    backend = byte_tokenizer().backend_tokenizer
    backend.add_special_tokens(["<bos>", "<eos>"])
    bos = backend.token_to_id("<bos>")
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")


def sentence_piece_tokenizer() -> PreTrainedTokenizerFast:
    """Puts a space in front of every text that it is given, as Llama 2 and Phi-3 do; 256 tokens or fewer."""
    pieces = ["▁the", "▁of", "▁is", "▁capital", "▁one", *(chr(code) for code in range(33, 127)), "▁", "\n"]
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((piece, -3.0) for piece in pieces)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def random_model(family: str, **changes: Any) -> PreTrainedModel:
    """A model with random weights, norms and biases among them. changes: of its configuration."""
    name, settings = FAMILIES[family]
    make_config: Callable[..., Any] = getattr(transformers, f"{name}Config")
    model_class = getattr(transformers, _MODEL_CLASSES.get(family, f"{name}ForCausalLM"))
    torch.manual_seed(1)
    model = model_class(make_config(**{**settings, "bos_token_id": None, "eos_token_id": None, **changes}))
    with torch.no_grad():  # away from the initialisation, where norms are the identity
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_random_model(
    folder: Path, family: str, tokenizer: Callable[[], PreTrainedTokenizerFast] = byte_tokenizer
) -> Path:
    """Write a random model and its tokenizer to a folder."""
    random_model(family).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_large_model(folder: Path, factor: float) -> Path:
    """Write a model whose residual stream is some `factor` times as large from block 1 on."""
    model = random_model("llama")
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.down_proj").get_parameter("weight").mul_(factor)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
