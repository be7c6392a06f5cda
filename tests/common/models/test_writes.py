"""What attention and MLP write, against the modules themselves and against attention with all other sources masked out."""

import sys

import pytest
import torch
from transformers import DynamicCache

from ghosttrack.common.errors import ModelMismatchError
from ghosttrack.common.models import writes as module
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.linear_norm import LinearNorm
from ghosttrack.common.models.writes import WriteReader
from tests.tiny_models import N_LAYERS, TAKEN_APART, save_random_model

LENGTH, CACHED, CHOSEN = 20, 9, (2, 5, 10)
SOURCES = 3


@pytest.fixture(scope="module", params=TAKEN_APART)
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (2, LENGTH), generator=torch.Generator().manual_seed(3))


def sources_of(places):
    """0 what is cached, 1 what comes after it, 2 the token itself."""
    found = (torch.arange(LENGTH) >= CACHED).long().repeat(len(places), 1)
    found[torch.arange(len(places)), places] = 2
    return found


def read(model, tokens, **named):
    """Both rows at once, which share what is cached; the second is read at one place only."""
    cache = DynamicCache()
    with torch.inference_mode():
        model.backbone(input_ids=tokens[:, :CACHED], past_key_values=cache, use_cache=True)
    row, place = torch.tensor([0, 0, 0, 1]), torch.tensor([*CHOSEN, 4])
    return WriteReader(model).read(
        tokens[:, CACHED:], cache, (row, place), sources_of(place + CACHED), SOURCES, **named
    )


def modules_outputs(model, tokens, names):
    """What children of every block put out in a plain forward pass, at the places that are read."""
    found = {}
    handles = []
    for number, block in enumerate(model.blocks):
        for name, child in block.named_children():

            def keep(_, __, output, key=(number, name)):
                found[key] = (output if isinstance(output, torch.Tensor) else output[0]).clone()

            if name in names:
                handles.append(child.register_forward_hook(keep))
    with torch.inference_mode():
        model.model(tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    row, place = torch.tensor([0, 0, 0, 1]), torch.tensor([*CHOSEN, 4]) + CACHED
    return {key: output[row, place] for key, output in found.items()}


def test_blocks_are_the_sum_of_what_their_attention_and_mlp_write(model, tokens):
    found = read(model, tokens)
    outputs = {}
    row, place = torch.tensor([0, 0, 0, 1]), torch.tensor([*CHOSEN, 4]) + CACHED
    model.read_blocks(
        tokens, torch.arange(LENGTH).repeat(2, 1), range(N_LAYERS),
        lambda layer, states: outputs.__setitem__(layer, states[row, place]),
    )  # fmt: skip
    written = found.attention.sum(2) + found.attention_bias + found.mlp
    for layer in range(N_LAYERS):
        torch.testing.assert_close(found.outputs[layer], outputs[layer], rtol=1e-4, atol=1e-5)
        whole = found.before + written[: layer + 1].sum(0)
        torch.testing.assert_close(whole, outputs[layer], rtol=1e-4, atol=1e-5)


def test_each_part_is_what_its_module_writes(model, tokens):
    found = read(model, tokens)
    names = {"gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"), "gpt2": ("attn", "mlp"),
             "gpt_neox": ("attention", "mlp")}  # fmt: skip
    kind = model.model.config.model_type
    attention, mlp = names.get(kind, names["gemma2"] if kind == "gemma3_text" else ("self_attn", "mlp"))
    truth = modules_outputs(model, tokens, (attention, mlp))
    for layer in range(N_LAYERS):
        written = found.attention[layer].sum(1) + found.attention_bias[layer]
        torch.testing.assert_close(written, truth[layer, attention], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.mlp[layer], truth[layer, mlp], rtol=1e-4, atol=1e-5)


def test_a_source_is_what_attention_brings_from_its_tokens_alone(model, tokens):
    """By brute force: values of all other tokens set to zero on the way into attention, the norm behind held."""
    found, split = read(model, tokens), {}

    def only(source):
        own = module._Reader._attend

        def attend(self, attention, query, key, value, mask, **named):
            eager = sys.modules[type(attention).__module__].eager_attention_forward
            kept = (self._looked.argmax(-1) == source)[:, -value.shape[2] :]
            alone = torch.stack(
                [
                    eager(attention, query[r : r + 1], key[r : r + 1], value[r : r + 1] * kept[n][None, None, :, None],
                          mask[:1] if mask is None or len(mask) == 1 else mask[r : r + 1], **named)[0][0, p]
                    for n, (r, p) in enumerate(zip(self._row.tolist(), self._place.tolist(), strict=True))
                ]
            )  # fmt: skip
            split.setdefault(source, []).append(alone)
            return own(self, attention, query, key, value, mask, **named)

        return attend

    for source in range(SOURCES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module._Reader, "_attend", only(source))
            read(model, tokens)
    # What reaches the output projection adds up over sources, so each source's share of the write is its projection.
    for layer in range(N_LAYERS):
        parts = torch.stack([split[source][layer].flatten(1) for source in range(SOURCES)], dim=1)
        projection = next(
            child for name, child in model.blocks[layer].named_modules()
            if name.split(".")[-1] in ("o_proj", "c_proj", "dense") and "mlp" not in name
        )  # fmt: skip
        weight = projection.weight if isinstance(projection, torch.nn.Linear) else projection.weight.T
        written = parts @ weight.T
        if model.model.config.model_type.startswith("gemma"):
            norm = LinearNorm.of(
                model.blocks[layer].post_attention_layernorm, model.d_model, model.device, torch.float32
            )
            whole = written.sum(1)
            divisor = norm.divisor(whole, model.blocks[layer].post_attention_layernorm(whole))
            written = norm.apply(written, divisor[:, None])
        torch.testing.assert_close(found.attention[layer], written, rtol=1e-3, atol=1e-5)


def test_heads_add_up_to_their_sources(model, tokens):
    whole, apart = read(model, tokens), read(model, tokens, by_head=True)
    n_heads = model.model.config.num_attention_heads
    assert apart.attention.shape[2] == n_heads * SOURCES
    summed = apart.attention.unflatten(2, (n_heads, SOURCES)).sum(2)
    torch.testing.assert_close(summed, whole.attention, rtol=1e-4, atol=1e-6)


def test_reading_in_pieces_changes_nothing(model, tokens, monkeypatch):
    whole = read(model, tokens)
    monkeypatch.setattr(module, "QUERIES_AT_A_TIME", 3)
    for one, other in zip(whole, read(model, tokens), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_block_that_is_no_such_sum_is_untold(tmp_path, tokens):
    model = load_language_model(save_random_model(tmp_path, "llama"))
    block = model.blocks[1]
    block.register_forward_hook(lambda _, __, output: output + torch.sin(output))
    found = read(model, tokens)
    for parts in (found.attention, found.attention_bias, found.mlp):
        assert [bool(part.isnan().any()) for part in parts] == [False, True, False]
    assert not found.outputs.isnan().any()
    with pytest.raises(ModelMismatchError, match=r"block 1 .* not the sum"):
        read(model, tokens, by_head=True)


@pytest.mark.parametrize("width", [7, 32])
@pytest.mark.parametrize("kind", [torch.nn.LayerNorm, torch.nn.RMSNorm])
def test_a_norm_is_found_by_asking_it(kind, width):
    torch.manual_seed(0)
    norm = kind(width)
    for parameter in norm.parameters():
        parameter.data = torch.randn(width)
    found = LinearNorm.of(norm, width, torch.device("cpu"), torch.float32)
    assert found.plain
    assert found.centred == (kind is torch.nn.LayerNorm)
    torch.testing.assert_close(found.gain, norm.weight.data, rtol=1e-3, atol=1e-4)
    states = 10 * torch.randn(5, 3, width)
    with torch.no_grad():
        normed = norm(states.sum(1))
    divisor = found.divisor(states.sum(1), normed)
    torch.testing.assert_close(
        found.apply(states, divisor[:, None]).sum(1) + found.bias, normed, rtol=1e-3, atol=1e-3
    )


def test_what_is_no_norm_is_told():
    assert not LinearNorm.of(torch.tanh, 8, torch.device("cpu"), torch.float32).plain
