"""Interventions against whole forward passes with hooks of the test's own, and effects against finite differences."""

import dataclasses

import pytest
import torch

from ghosttrack.common.models import interventions as module
from ghosttrack.common.models.going_on import GoingOn
from ghosttrack.common.models.interventions import Bench, Edit, gradients
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.reading import read_prefix
from tests.stages.track.tiny_run import sae
from tests.tiny_models import N_LAYERS, save_random_model

LENGTH, FIRST = 12, 7
SAES = {layer: dataclasses.replace(sae(layer), mean=torch.full((32,), 0.1)) for layer in range(N_LAYERS)}
SAES[1] = dataclasses.replace(SAES[1], own_scale="constant_norm_rescale", mean=torch.zeros(32))


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "gpt_neox"])
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (LENGTH,), generator=torch.Generator().manual_seed(2)).tolist()


def by_hand(model, tokens, edits):
    """The whole text from its first token, no cache; the state is decoded anew from all its activations and its error."""
    handles = []
    for layer, block in enumerate(model.blocks):
        own = [edit for edit in edits if edit.layer == layer]

        def hook(_, __, output, own=own, one=SAES[layer]):
            states = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            for place in {edit.place for edit in own}:
                state = states[0, place].clone()
                acts = one.encode(state)
                error = state - one.decode(acts, state)
                for edit in own:
                    if edit.place == place:
                        acts[edit.latent] = edit.value
                states[0, place] = one.decode(acts, state) + error
            return states if isinstance(output, torch.Tensor) else (states, *output[1:])

        handles.append(block.register_forward_hook(hook))
    with torch.inference_mode():
        logits = model.model(torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
    for handle in handles:
        handle.remove()
    return logits


def some_edits(model, tokens):
    """Latents taken out, scaled and added, at several layers and places."""
    active = {}
    model.read_blocks(
        torch.tensor([tokens]), torch.arange(LENGTH)[None], range(N_LAYERS),
        lambda layer, states: active.__setitem__(layer, [SAES[layer].top_k(states[0, [p]], 3)[0][0].tolist() for p in range(LENGTH)]),
    )  # fmt: skip
    return [
        [Edit(0, FIRST, active[0][FIRST][0], 0.0)],
        [Edit(0, 11, active[0][11][0], 0.0), Edit(1, 11, active[1][11][0], 0.0), Edit(2, 11, active[2][11][0], 0.0)],
        [Edit(1, 9, active[1][9][0], 0.0), Edit(1, 9, active[1][9][1], 2.5), Edit(2, 11, active[2][11][1], 0.3)],
        [Edit(2, 11, active[2][11][0], 0.0)],
        [Edit(1, 11, 60, 4.0)],
        [],
    ]  # fmt: skip


@pytest.mark.parametrize("with_prefix", [True, False])
def test_interventions_are_what_whole_passes_with_hooks_give(model, tokens, with_prefix):
    prefix = read_prefix(model, [tokens], FIRST) if with_prefix else None
    bench = Bench(model, SAES, tokens, FIRST, prefix)
    edits = some_edits(model, tokens)
    found = bench.run(edits)
    for row, one in zip(found, edits, strict=True):
        torch.testing.assert_close(row, by_hand(model, tokens, one), rtol=1e-3, atol=1e-4)
    assert float((found[0] - bench.logits).abs().max()) > 1e-3
    torch.testing.assert_close(found[-1], bench.logits)


@pytest.mark.parametrize(("name", "most"), [("ROWS_AT_A_TIME", 1), ("TOKENS_AT_A_TIME", 8)])
def test_batches_change_nothing_and_are_small_where_the_text_is_long(model, tokens, monkeypatch, name, most):
    bench, edits = Bench(model, SAES, tokens, FIRST), some_edits(model, tokens)
    whole = bench.run(edits)
    assert max(map(len, bench._batches(edits))) > 1
    monkeypatch.setattr(module, name, most)
    assert max(map(len, bench._batches(edits))) == 1
    torch.testing.assert_close(whole, bench.run(edits), rtol=1e-4, atol=1e-5)


def test_going_on_after_an_intervention_reads_what_it_left(model, tokens):
    bench = Bench(model, SAES, tokens, FIRST)
    edits = some_edits(model, tokens)[2]
    rows, _ = bench.rows(edits)
    going = GoingOn(model, rows)
    final, _ = going.step(torch.tensor([65]))
    torch.testing.assert_close(
        model.logits(final)[0].float(), by_hand(model, [*tokens, 65], edits), rtol=1e-3, atol=1e-4
    )


def test_gradients_foretell_small_changes(model, tokens):
    prefix = read_prefix(model, [tokens], FIRST)
    slopes = gradients(model, range(N_LAYERS), tokens, FIRST, 3, 5, prefix)
    bench = Bench(model, SAES, tokens, FIRST)
    for layer, place in ((0, 8), (1, 11), (2, 11)):
        one = SAES[layer]
        latent, activation = (v[0, 0].item() for v in one.top_k(bench.states(layer, place)[None], 1))
        step = 0.01 * activation
        up, down = bench.run([[Edit(layer, place, latent, activation + sign * step)] for sign in (1, -1)])
        measured = float((up[3] - up[5]) - (down[3] - down[5])) / (2 * step)
        expected = float(slopes[layer, place - FIRST] @ one.W_dec[latent]) / one.scale
        assert measured == pytest.approx(expected, rel=0.05, abs=2e-3)
