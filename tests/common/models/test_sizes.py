"""A model's sizes without loading it: held against transformers' own reading, and the package gguf's."""

import errno
import json
import os
import shutil
import socket
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import transformers

from ghosttrack.common.errors import ModelSourceError, StorageError
from ghosttrack.common.models import gguf_header
from ghosttrack.common.models.sizes import Sizes, context_of, sizes_of
from tests.commands import python
from tests.tiny_models import FAMILIES, random_model

CONFIGS = ["BloomConfig", "FalconConfig", "GPT2Config", "GPTJConfig", "GPTNeoConfig", "GPTNeoXConfig", "Gemma3Config",
           "LlamaConfig", "MixtralConfig", "MptConfig", "OPTConfig", "Olmo2Config", "Qwen3Config", "StableLmConfig"]  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_of_any_family(name: str, tmp_path: Path) -> None:
    config = getattr(transformers, name)()
    config.save_pretrained(tmp_path)
    sizes = sizes_of(str(tmp_path))
    text = config.get_text_config()
    assert (sizes.d_model, sizes.n_layers) == (text.hidden_size, text.num_hidden_layers)
    assert sizes.architecture == config.model_type


def test_weights_are_counted_and_a_template_is_seen(tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=64)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    sizes = sizes_of(str(tmp_path))
    assert sizes.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sizes.context == 64
    assert not sizes.chat
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert sizes_of(str(tmp_path)).chat


def test_weights_that_are_not_loaded_do_not_count(tmp_path: Path) -> None:
    """As in folders of Mistral's, which hold their weights twice."""
    model = random_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = list(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    shutil.copy(shards[0], tmp_path / "consolidated.safetensors")
    assert sizes_of(str(tmp_path)).parameters == sum(weight.numel() for weight in model.parameters())


LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "changes", "context"),
    [
        ("llama", {}, 128), ("mpt", {}, 128), ("gpt2", {}, 128), ("bloom", {}, None),
        ("llama", {"rope_parameters": LONG}, 32),
        ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 32}, 32),
        ("llama", {"rope_parameters": {**LONG, "rope_type": "yarn"}}, 128),
    ],
)  # fmt: skip
def test_a_context_ends_where_other_texts_of_a_batch_would_be_read_otherwise(
    family: str, changes: dict[str, object], context: int | None
) -> None:
    name, settings = FAMILIES[family]
    assert context_of(getattr(transformers, f"{name}Config")(**settings, **changes)) == context


def write_gguf(path: Path, architecture: str = "llama") -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(3)
    writer.add_embedding_length(48)
    writer.add_context_length(512)
    writer.add_token_list(["a", "bé", "c"])
    writer.add_token_scores([0.5, 1.0, 2.0])
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.zeros((3, 48), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(48, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_header_is_read_as_its_own_package_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path)
    header, reader = gguf_header.read(path), gguf.GGUFReader(path)
    assert set(header.values) == {key for key in reader.fields if not key.startswith("GGUF.")}
    assert header.weights == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.values["tokenizer.ggml.tokens"] == 3
    sizes = sizes_of(str(path))
    assert (sizes.d_model, sizes.n_layers, sizes.context, sizes.chat) == (48, 3, 512, True)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelSourceError, match=r"m\.gguf is not a GGUF file that can be read"):
        gguf_header.read(path)


def test_what_is_no_model_is_refused_in_one_line_with_the_mend(tmp_path: Path) -> None:
    cases = {
        "adapter": ({"adapter_config.json": "{}"}, "PEFT adapter without its base model; merge it"),
        "gguf": ({"m.gguf": ""}, "folder of GGUF files; name the file: .*m.gguf"),
        "empty": ({}, "has no config.json"),
        "steps": ({"step-900/config.json": "{}", "step-1000/config.json": "{}"}, "no config.json; .* such as .*step-1000$"),
        "broken": ({"config.json": "{"}, "cannot be read as a model's configuration"),
        "two": ({"config.json": json.dumps({"model_type": "bart", "is_encoder_decoder": True})}, "encoder with a decoder .'bart'.*; name a "),
        "odd": ({"config.json": json.dumps({"model_type": "nobody-knows"})}, "say model.d_model and model.n_layers"),
    }  # fmt: skip
    for name, (files, words) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        with pytest.raises(ModelSourceError, match=words) as caught:
            sizes_of(str(folder))
        assert "\n" not in str(caught.value)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelSourceError, match=r"is a file and no \.gguf"):
        sizes_of(str(tmp_path / "pytorch_model.bin"))


def test_a_file_system_that_fails_is_not_called_a_bad_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> str:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(tmp_path))

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(Path, "read_text", stale)
    monkeypatch.setattr(Path, "open", stale)
    for source in (tmp_path, tmp_path / "m.gguf"):
        with pytest.raises(StorageError, match="stale"):
            sizes_of(str(source))


def test_a_hub_that_is_out_of_reach_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits {seconds} s"))
    with pytest.raises(ModelSourceError, match=r"cannot be had from the hub .*model\.d_model"):
        sizes_of("nobody/nothing")


def test_torch_stays_out(tmp_path: Path) -> None:
    transformers.MptConfig().save_pretrained(tmp_path)
    code = "import sys; from ghosttrack.common.models.sizes import sizes_of; sizes_of(sys.argv[1]); print('torch' in sys.modules)"
    assert python("-c", code, tmp_path).stdout.strip() == "False"


def test_numbers_that_are_no_sizes_do_not_count(tmp_path: Path) -> None:
    """What a header says may be of any length and kind; plans multiply it."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**400, 10**400], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    settings = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "vocab_size": 10**400,
        "max_position_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert sizes_of(str(tmp_path)) == Sizes(8, 2, "llama")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(3)
    writer.add_embedding_length(48)
    writer.add_string("llama.context_length", "many")
    writer.add_string("tokenizer.ggml.tokens", "many")
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    found = sizes_of(str(tmp_path / "m.gguf"))
    assert (found.context, found.vocabulary) == (None, None)
