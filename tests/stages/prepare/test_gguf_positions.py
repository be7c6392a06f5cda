"""Scaled positions of GGUF files: as transformers computes them for a folder that says the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ghosttrack.common.errors import ModelSourceError
from ghosttrack.stages.prepare.snapshot import load_source
from tests.tiny_gguf import save_tiny_gguf
from tests.tiny_models import random_model

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
        (tensors(freqs=[1, 1, 2, 5]), r"rope_freqs\.weight are not those of Llama 3.* give the folder"),
    ],
)
def test_positions_of_an_unknown_kind_are_refused(tmp_path: Path, add: Add, words: str) -> None:
    save_tiny_gguf(tmp_path / "model.gguf", add=add)
    with pytest.raises(ModelSourceError, match=words):
        load_source(str(tmp_path / "model.gguf"))
