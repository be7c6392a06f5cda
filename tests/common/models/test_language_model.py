import shutil

import pytest
import torch

from ghosttrack.common.errors import ModelMismatchError, ModelSourceError
from ghosttrack.common.models.language_model import FAMILIES as SUPPORTED
from ghosttrack.common.models.language_model import load_language_model
from tests.tiny_models import D_MODEL, FAMILIES, N_LAYERS, VOCABULARY, save_random_model


def test_every_supported_family_is_tested():
    assert set(SUPPORTED) == set(FAMILIES)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


def capture(model, ids, positions, layers):
    found = {}
    model.read_blocks(ids, positions, layers, lambda layer, states: found.__setitem__(layer, states.clone()))
    return found


def by_hand(model, ids, positions):
    """Every block's output: its blocks called one after another on the output of the one before."""
    calls = []
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
        )
        for block in model.blocks
    ]
    with torch.inference_mode():
        final = model.backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    for handle in handles:
        handle.remove()
    states = calls[0][0][0] if calls[0][0] else calls[0][1]["hidden_states"]
    outputs = []
    for block, (args, kwargs) in zip(model.blocks, calls, strict=True):
        kwargs = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        with torch.inference_mode():
            states = block(states, *args[1:], **kwargs)
        states = states if isinstance(states, torch.Tensor) else states[0]
        outputs.append(states)
    return outputs, final


def test_captured_states_are_block_outputs_and_the_last_is_before_the_final_norm(model):
    ids = torch.randint(VOCABULARY, (2, 10))
    positions = torch.arange(10).expand(2, -1)
    found = capture(model, ids, positions, range(N_LAYERS))
    expected, final = by_hand(model, ids, positions)
    # Hugging Face's own record: entry l+1 is the output of block l, but its last entry is post-norm.
    with torch.inference_mode():
        record = model.model(ids, output_hidden_states=True).hidden_states
    for layer in range(N_LAYERS):
        torch.testing.assert_close(found[layer], expected[layer])
        if layer < N_LAYERS - 1:
            torch.testing.assert_close(found[layer], record[layer + 1])
    last = found[N_LAYERS - 1]
    assert last.shape == (2, 10, D_MODEL)
    with torch.inference_mode():
        torch.testing.assert_close(model.final_norm(last), final)
    torch.testing.assert_close(record[-1], final)
    assert not torch.allclose(last, final, atol=1e-2)


def test_packed_segments_do_not_see_each_other(model):
    ids = torch.randint(VOCABULARY, (2, 24))
    packed_positions = torch.cat([torch.arange(7), torch.arange(12), torch.arange(5)]).expand(2, -1)
    packed = capture(model, ids, packed_positions, [N_LAYERS - 1])[N_LAYERS - 1]
    alone = capture(model, ids[:, 7:19], torch.arange(12).expand(2, -1), [N_LAYERS - 1])[N_LAYERS - 1]
    torch.testing.assert_close(packed[:, 7:19], alone, rtol=1e-4, atol=1e-4)


def test_the_forward_stops_after_the_deepest_layer(model):
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(model.blocks)
    ]
    capture(model, torch.zeros(1, 4, dtype=torch.long), torch.arange(4)[None], [0, 1])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_an_unknown_architecture_says_how_to_add_one(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=16
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(
        ModelSourceError, match=r"'bert' is not supported yet; supported are gemma2, .* FAMILIES"
    ):
        load_language_model(tmp_path)


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
