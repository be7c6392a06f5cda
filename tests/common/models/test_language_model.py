import shutil

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ghosttrack.common.errors import ModelMismatchError, ModelSourceError
from ghosttrack.common.models.language_model import load_language_model, understand
from ghosttrack.common.models.vocabulary import all_texts
from tests.tiny_models import (
    D_MODEL,
    FAMILIES,
    N_LAYERS,
    VOCABULARY,
    byte_tokenizer,
    random_model,
    save_random_model,
)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


def capture(model, ids, positions, layers):
    found = {}
    model.read_blocks(ids, positions, layers, lambda layer, states: found.__setitem__(layer, states.clone()))
    return found


def record_of(model, ids):
    """Hugging Face's own record of a plain forward pass: entry l is what block l is given; the last is after the norm."""
    with torch.inference_mode():
        return model.model(input_ids=ids, output_hidden_states=True)


def test_captured_states_are_block_outputs_and_the_last_is_before_the_final_norm(model):
    ids = torch.randint(VOCABULARY, (2, 10))
    found = capture(model, ids, torch.arange(10).expand(2, -1), range(N_LAYERS))
    record = record_of(model, ids)
    for layer in range(N_LAYERS - 1):
        torch.testing.assert_close(found[layer], record.hidden_states[layer + 1])
    last = found[N_LAYERS - 1]
    assert last.shape == (2, 10, D_MODEL)
    with torch.inference_mode():
        final = model.final_norm(last)
        torch.testing.assert_close(final, model.run(ids))
        torch.testing.assert_close(model.logits(final), record.logits)
        # in one matrix, before a bias and a soft cap, which keep order and differences of biases
        cap = getattr(model.model.config, "final_logit_softcapping", None)
        linear = final @ model.unembedding.T
        bias = getattr(model.model.get_output_embeddings(), "bias", None)
        linear = linear if bias is None else linear + bias
        expected = linear if cap is None else cap * torch.tanh(linear / cap)
        torch.testing.assert_close(expected, record.logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(last, final, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_parts_are_found_in_half_precision_too(family, dtype):
    model = random_model(family)
    expected = understand(model.eval(), byte_tokenizer()).unembedding.clone()
    found = understand(model.to(dtype), byte_tokenizer())
    assert found.final_norm is not None
    torch.testing.assert_close(found.unembedding.float(), expected, rtol=2e-2, atol=1e-3)


def test_packed_segments_do_not_see_each_other(model):
    ids = torch.randint(VOCABULARY, (2, 24))
    packed_positions = torch.cat([torch.arange(7), torch.arange(12), torch.arange(5)]).expand(2, -1)
    packed = capture(model, ids, packed_positions, [0, N_LAYERS - 1])
    alone = capture(model, ids[:, 7:19], torch.arange(12).expand(2, -1), [0, N_LAYERS - 1])
    for layer in (0, N_LAYERS - 1):
        torch.testing.assert_close(packed[layer][:, 7:19], alone[layer], rtol=1e-4, atol=1e-4)
    final = model.final_states(ids, packed_positions)
    with torch.inference_mode():
        torch.testing.assert_close(final, model.final_norm(packed[N_LAYERS - 1]), rtol=1e-4, atol=1e-4)


def test_the_forward_stops_after_the_deepest_layer(model):
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(model.blocks)
    ]
    capture(model, torch.zeros(1, 4, dtype=torch.long), torch.arange(4)[None], [0, 1])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_a_model_that_sees_what_comes_later_or_is_no_decoder_is_refused(tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 264,
    }
    BertLMHeadModel(BertConfig(**sizes, is_decoder=True)).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelSourceError, match=r"architecture 'bert' .* cannot be read: "):
        load_language_model(tmp_path)


def test_a_model_whose_tokens_see_later_ones_is_refused():
    from transformers import BertGenerationConfig, BertGenerationDecoder

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 264,
    }
    for causal in (True, False):
        model = BertGenerationDecoder(
            BertGenerationConfig(**sizes, is_decoder=causal, bos_token_id=None, eos_token_id=None)
        ).eval()
        if causal:
            assert len(understand(model, byte_tokenizer()).blocks) == 2
        else:
            with pytest.raises(ModelSourceError, match="its tokens see those that come later"):
                understand(model, byte_tokenizer())


def test_a_model_that_cannot_be_run_is_refused_in_one_line():
    model = random_model("llama")
    # as sizes that contradict each other make it
    model.model.layers[0].self_attn.o_proj = torch.nn.Linear(8, D_MODEL)
    with pytest.raises(ModelSourceError, match=r"it does not read tokens alone \(mat1 and mat2") as error:
        understand(model, byte_tokenizer())
    assert "\n" not in str(error.value)


def test_a_residual_stream_that_is_changed_between_blocks_is_refused(tmp_path, monkeypatch):
    model = random_model("llama")
    layer = model.model.layers[1]
    monkeypatch.setattr(
        layer, "forward", lambda states, *_, _own=layer.forward, **__: _own(2 * states, *_, **__)
    )
    assert understand(model, byte_tokenizer()).blocks is model.model.layers  # inside a block, all is its own
    norm = model.model.norm
    monkeypatch.setattr(norm, "forward", lambda states, _own=norm.forward: _own(states).cumsum(1))
    with pytest.raises(ModelSourceError, match=r"'llama' .* its final norm is not a function of one state"):
        understand(model, byte_tokenizer())


def test_a_head_that_is_not_linear_is_refused(monkeypatch):
    model = random_model("llama")
    own = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda states: own(states.abs()))
    with pytest.raises(ModelSourceError, match="its logits are not linear in its final states"):
        understand(model, byte_tokenizer())


def test_a_folder_without_a_model_is_one_clear_error(tmp_path):
    with pytest.raises(ModelSourceError, match="not a usable model snapshot"):
        load_language_model(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = save_random_model(tmp_path / "model", "llama")
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY // 2,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    ).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    shutil.copy(tmp_path / "other" / "config.json", folder)
    with pytest.raises(ModelMismatchError, match="belongs to another model"):
        load_language_model(folder)


def test_end_tokens_that_do_not_exist_are_told_apart(tmp_path):
    model = random_model("llama")
    model.generation_config.eos_token_id = [3, 99_999]
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert load_language_model(tmp_path).end_tokens() == ([3], [99_999])
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": ["Z", "</s>"]}')  # by their names
    [end], absent = load_language_model(tmp_path).end_tokens()
    assert (byte_tokenizer().decode(end), absent) == ("Z", ["</s>"])
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [[1, 2], 3.0, -1]}')  # by nothing
    assert load_language_model(tmp_path).end_tokens() == ([], [-1, "3.0", "[1, 2]"])


def test_numbers_that_a_vocabulary_leaves_out_are_no_text():
    words = {"<unk>": 0, "a": 1, "b": 9}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    )
    assert all_texts(tokenizer) == ["<unk>", "a", *[""] * 7, "b"]
