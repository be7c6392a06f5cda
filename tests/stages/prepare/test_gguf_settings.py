"""GGUF files against the models that they were made from, and scaled positions as transformers computes them for a folder."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaTokenizer

from ghosttrack.common.errors import ModelSourceError
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.prepare import snapshot
from ghosttrack.stages.prepare.gguf_settings import TOKENIZER, spaced
from ghosttrack.stages.prepare.snapshot import check_source, load_source
from tests.tiny_gguf import save_gguf, save_tiny_gguf
from tests.tiny_models import WINDOW, byte_tokenizer, random_model

Add = Callable[[gguf.GGUFWriter], object]
LLAMA_3 = {"rope_theta": 500_000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}  # fmt: skip
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 2.0, 4.0, 8.0], "factor": 4.0,
        "original_max_position_embeddings": 32}  # fmt: skip


def scaled(rotary: dict[str, Any]) -> LlamaForCausalLM:
    """`llama` of `tests.tiny_models` with other positions."""
    plain = random_model("llama")
    settings = plain.config.to_dict() | {"rope_parameters": {"rope_theta": 10000.0, **rotary}}
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict(plain.state_dict())
    return model.eval()


def kind(name: str, factor: float = 4.0, original: int = 32) -> Add:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType(name))
        writer.add_rope_scaling_factor(factor)
        writer.add_rope_scaling_orig_ctx_len(original)

    return add


def tensors(**values: Any) -> Add:
    def add(writer: gguf.GGUFWriter) -> None:
        for name, value in values.items():
            writer.add_tensor(f"rope_{name}.weight", np.asarray(value, np.float32))

    return add


def of_llama_3(writer: gguf.GGUFWriter) -> None:
    """As llama.cpp's converter writes them: what the frequencies are divided by."""
    writer.add_rope_freq_base(500_000.0)
    plain, changed = scaled({"rope_type": "default", "rope_theta": 500_000.0}), scaled(LLAMA_3)
    tensors(freqs=plain.model.rotary_emb.inv_freq / changed.model.rotary_emb.inv_freq)(writer)


def of_two_lengths(writer: gguf.GGUFWriter) -> None:
    writer.add_rope_scaling_orig_ctx_len(32)
    tensors(factors_short=LONG["short_factor"], factors_long=LONG["long_factor"])(writer)


@pytest.mark.parametrize(
    ("rotary", "add"),
    [
        ({"rope_type": "linear", "factor": 4.0}, kind("linear")),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, kind("yarn")),
        (LLAMA_3, of_llama_3),
        (LONG, of_two_lengths),
        ({"rope_type": "default"}, kind("none")),
        ({"rope_type": "default"}, tensors(freqs=np.ones(4))),
    ],
    ids=["linear", "yarn", "llama3", "longrope", "none", "ones"],
)
def test_positions_are_scaled_as_the_file_says(tmp_path: Path, rotary: dict[str, Any], add: Add) -> None:
    save_tiny_gguf(tmp_path / "model.gguf", add=add)
    found, _ = load_source(str(tmp_path / "model.gguf"))
    expected = scaled(rotary)
    with torch.inference_mode():
        for length in (20, 100):  # within the length that it is scaled from, and beyond
            ids = torch.arange(length).view(1, -1)
            torch.testing.assert_close(found(ids).logits, expected(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (kind("yarn", original=0), "'yarn', with the factor 4.0 and the length 0"),
        (lambda writer: writer.add_string("llama.rope.scaling.type", "new"), "is 'new'.* give the folder"),
        (lambda writer: writer.add_logit_scale(0.5), "logit_scale is 0.5, and transformers' llama has none"),
        (lambda writer: writer.add_attention_scale(0.5), "attention.scale is 0.5"),
        (
            lambda writer: writer.add_tensor("blk.1.attn_q_norm.weight", np.ones(8, np.float32)),
            r"blk\.1\.attn_q_norm\.weight is not in",
        ),
        (tensors(freqs=[1, 1, 2, 5]), r"rope_freqs\.weight are not those of Llama 3.* give the folder"),
    ],
)
def test_what_would_not_be_computed_is_refused(tmp_path: Path, add: Add, words: str) -> None:
    save_tiny_gguf(tmp_path / "model.gguf", add=add)
    for read in (check_source, load_source):
        with pytest.raises(ModelSourceError, match=words):
            read(str(tmp_path / "model.gguf"))


RMS, LAYER = {"attention.layer_norm_rms_epsilon": 1e-4}, {"attention.layer_norm_epsilon": 1e-3}
BASE = {"rope.freq_base": 50_000.0}
NEAR = {"attention.sliding_window": WINDOW}


def rotary(**settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0, **settings}}


MADE_FROM: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-4, **rotary()}, "llama", {**RMS, **BASE}),
    "wide heads": ("llama", {"head_dim": 16, "rms_norm_eps": 1e-4, **rotary()}, "llama",
                   {**RMS, **BASE, "attention.key_length": 16, "rope.dimension_count": 16}),
    "a window": ("mistral", {"rms_norm_eps": 1e-4, **rotary()}, "llama", {**RMS, **BASE, **NEAR}),
    "called mistral": ("llama", {"rms_norm_eps": 1e-4, **rotary()}, "llama", {**RMS, **BASE, "general.name": "mistral"}),
    "qwen2": ("qwen2", {"rms_norm_eps": 1e-4, **rotary()}, "qwen2", {**RMS, **BASE}),
    "qwen2, layers with a window": (
        "qwen2", {"rms_norm_eps": 1e-4, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, **rotary()},
        "qwen2", {**RMS, **BASE, **NEAR, "attention.sliding_window_pattern": [False, True, True]},
    ),
    "qwen3": ("qwen3", {"rms_norm_eps": 1e-4, **rotary()}, "qwen3", {**RMS, **BASE, "attention.key_length": 8}),
    "qwen3_moe": ("qwen3_moe", {"rms_norm_eps": 1e-4, "norm_topk_prob": True, **rotary()}, "qwen3moe",
                  {**RMS, **BASE, "attention.key_length": 8, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 16}),
    "gemma2": ("gemma2", {"rms_norm_eps": 1e-4, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0, **rotary()}, "gemma2",
               {**RMS, **BASE, **NEAR, "attention.key_length": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}),
    "gemma2 of 27B": ("gemma2", {"rms_norm_eps": 1e-4, "num_hidden_layers": 46, "layer_types": None, "num_attention_heads": 2,
                                 "query_pre_attn_scalar": 16, **rotary()},
                      "gemma2", {**RMS, **BASE, **NEAR, "attention.key_length": 8}),
    "gemma3": ("gemma3_text", {"rms_norm_eps": 1e-4, "rope_parameters": {
                   "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
                   "sliding_attention": {"rope_type": "default", "rope_theta": 20_000.0}}},
               "gemma3", {**RMS, **BASE, **NEAR, "attention.key_length": 8, "attention.sliding_window_pattern": 2,
                          "rope.freq_base_swa": 20_000.0}),
    "phi3": ("phi3", {"rms_norm_eps": 1e-4, "sliding_window": WINDOW, **rotary(partial_rotary_factor=0.5)}, "phi3",
             {**RMS, **BASE, **NEAR, "rope.dimension_count": 4}),
    "phi3 without a window": ("phi3", {"rms_norm_eps": 1e-4, **rotary(partial_rotary_factor=1.0)}, "phi3",
                              {**RMS, **BASE, "attention.sliding_window": 0, "rope.dimension_count": 8}),
    "starcoder2": ("starcoder2", {"norm_epsilon": 1e-3, **rotary()}, "starcoder2", {**LAYER, **BASE, **NEAR}),
    "stablelm": ("stablelm", {"layer_norm_eps": 1e-3, **rotary(partial_rotary_factor=0.5)}, "stablelm",
                 {**LAYER, **BASE, "rope.dimension_count": 4}),
    "gpt2": ("gpt2", {"n_inner": 48, "layer_norm_epsilon": 1e-3}, "gpt2", LAYER),
}  # fmt: skip
"""What a file holds: a model of `tests.tiny_models` with other settings, llama.cpp's name of its kind, and the file's keys."""


@pytest.mark.parametrize("name", MADE_FROM)
def test_a_file_is_the_model_that_it_was_made_from(tmp_path: Path, name: str) -> None:
    family, changes, architecture, keys = MADE_FROM[name]
    expected = random_model(family, **changes).eval()

    def add(writer: gguf.GGUFWriter) -> None:
        kinds = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        for key, value in keys.items():
            kinds[type(value)](key if key.startswith("general.") else f"{architecture}.{key}", value)

    save_gguf(tmp_path / "model.gguf", expected, architecture, add)
    check_source(str(tmp_path / "model.gguf"))
    found, _ = load_source(str(tmp_path / "model.gguf"))
    snapshot.save(found, byte_tokenizer(), tmp_path / "folder")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    ids = torch.arange(5 * WINDOW)[None]
    with torch.inference_mode():
        for model in (found, again):
            torch.testing.assert_close(model(ids).logits, expected(ids).logits, rtol=1e-4, atol=1e-4)


def test_all_that_ends_a_turn_is_an_end_token(tmp_path: Path) -> None:
    """As in the files of Gemma and Llama 3, whose tokenizers name one end only."""

    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_eot_token_id(5)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 9)

    save_tiny_gguf(tmp_path / "model.gguf", add=add)
    found, _ = load_source(str(tmp_path / "model.gguf"))
    snapshot.save(found, byte_tokenizer(), tmp_path / "folder")
    assert load_language_model(tmp_path / "folder").end_tokens() == ([5, 9, 263], [])


def test_a_file_that_names_no_end_has_none(tmp_path: Path) -> None:
    def without(writer: gguf.GGUFWriter) -> None:
        for name in ("bos", "eos"):
            del writer.kv_data[0][f"{TOKENIZER}{name}_token_id"]

    save_tiny_gguf(tmp_path / "model.gguf", add=without)
    found, _ = load_source(str(tmp_path / "model.gguf"))
    snapshot.save(found, byte_tokenizer(), tmp_path / "folder")
    assert load_language_model(tmp_path / "folder").end_tokens() == ([], [])


def test_a_window_of_nobody_knows_which_layers_is_refused(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_sliding_window(WINDOW)

    save_gguf(tmp_path / "model.gguf", random_model("qwen2"), "qwen2", add)
    with pytest.raises(ModelSourceError, match="sliding_window is 6, and no key says in which layers"):
        load_source(str(tmp_path / "model.gguf"))


def test_a_part_of_a_file_is_told_before_its_weights_are_missed(tmp_path: Path) -> None:
    save_tiny_gguf(tmp_path / "model.gguf", add=lambda writer: writer.add_uint16("split.count", 2))
    with pytest.raises(ModelSourceError, match=r"one of 2 parts of a model; join them"):
        check_source(str(tmp_path / "model.gguf"))


def test_no_space_stands_before_a_text_where_the_file_says_so() -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    own = LlamaTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[("▁", "a")])
    key = f"{TOKENIZER}add_space_prefix"
    for told, tokens in ((None, [262, 259, 261]), (True, [262, 259, 261]), (False, [260, 259, 261])):
        fields = {} if told is None else {key: SimpleNamespace(contents=lambda told=told: told)}
        found = spaced(own, SimpleNamespace(fields=fields))
        assert found("a b", add_special_tokens=False).input_ids == tokens
        assert found.decode(tokens) == "a b"
