"""The account against plain forward passes in float64, for several families; origins against the SAEs' own encoders."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from ghosttrack.common.formats import account as account_file
from ghosttrack.common.formats.account import ACCOUNT, SOURCES, STATE, STEP
from ghosttrack.common.formats.origins import BIRTHS, SHARES
from ghosttrack.common.models.language_model import load_language_model, understand
from ghosttrack.common.models.writes import WriteReader
from ghosttrack.stages.track.account import Active, Head, columns_of, parts_of_state, states_apart, take_apart
from ghosttrack.stages.track.nodes import Nodes
from ghosttrack.stages.track.origins import births, contributions, shares
from ghosttrack.stages.track.rereading import text_of
from tests.stages.track.tiny_run import TinyRun, sae
from tests.tiny_models import FAMILIES, TAKEN_APART, byte_tokenizer, random_model, save_random_model

LENGTH, K, M = 14, 6, 4
PLACES = torch.tensor([3, 8, 13])
LAYERS = {"all": [0, 1, 2], "some": [0, 2]}
OWNER = np.array([[0, -1], [0, 0], [0, 1]])


@pytest.fixture(scope="module", params=TAKEN_APART)
def model(request, tmp_path_factory):
    found = load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))
    if request.param == "gemma2":
        found.model.config.final_logit_softcapping = 3.0  # low, so that it bends
    return found


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (1, LENGTH), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def writes(model, tokens):
    sources = torch.randint(
        0, len(SOURCES), (len(PLACES), LENGTH), generator=torch.Generator().manual_seed(1)
    )
    row = torch.zeros(len(PLACES), dtype=torch.long)
    cache = DynamicCache()
    return WriteReader(model).read(tokens, cache, (row, PLACES), sources, len(SOURCES))


def candidates_of(model, writes):
    with torch.inference_mode():
        return model.logits(model.final_norm(writes.outputs[-1])).topk(M).indices


def active_of(writes, layers):
    found = [sae(layer).top_k(writes.outputs[layer], K) for layer in layers]
    return Active(torch.stack([f[0].long() for f in found], 1), torch.stack([f[1] for f in found], 1))


@pytest.mark.parametrize("which", LAYERS)
def test_the_account_is_complete_for_any_two_candidates_at_every_layer(model, tokens, writes, which):
    layers = LAYERS[which]
    saes, head = [sae(layer) for layer in layers], Head.of(model)
    active, candidates = active_of(writes, layers), candidates_of(model, writes)
    held = states_apart(writes, active, saes, layers)
    found = take_apart(writes, held, candidates, layers, head, model.final_norm)
    columns = columns_of(found, OWNER, layers)
    truth = {}
    model.read_blocks(
        tokens, torch.arange(LENGTH)[None], layers,
        lambda layer, states: truth.__setitem__(layer, model.logits(model.final_norm(states[0, PLACES])).double()),
    )  # fmt: skip
    for first, second in ((0, 1), (2, 3), (3, 0)):
        apart = account_file.difference(columns, first, second)
        for layer in layers:
            logits = truth[layer].gather(1, candidates)
            expected = (logits[:, first] - logits[:, second]).numpy()
            size = logits.abs().max().item()
            of_layer = columns["layer"] == layer
            for parts in (("total",), ("constant", *STATE), ("constant", *STEP)):
                total = sum(apart[name][of_layer] for name in parts)
                assert np.abs(total - expected).max() < 1e-4 * size, (layer, parts)
    assert columns["rest"].max() < 1e-5
    last = columns["layer"] == layers[-1]
    assert (columns["leader"][last] == 0).all()  # the emitted token leads where the model decides


def test_the_head_of_a_model_that_multiplies_its_logits_is_found(tmp_path):
    model = load_language_model(save_random_model(tmp_path, "llama"))
    plain = Head.of(model).factor

    class Scaled(type(model)):
        def logits(self, final):
            return 0.25 * super().logits(final)

    scaled = Scaled(**{name: getattr(model, name) for name in model.__dataclass_fields__})
    assert (plain, Head.of(scaled).factor) == (1.0, 0.25)


def test_a_state_is_what_its_sae_says_and_what_it_leaves_out():
    state = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    one = sae(0)
    latents, activations = one.top_k(state, K)
    activations[2] = 0  # nothing tracked there
    latents[2] = 0
    parts = parts_of_state(state, latents.long(), activations, one)
    torch.testing.assert_close(parts.sum(1), state)
    torch.testing.assert_close(parts[:, :3].sum(1), one.decode(one.encode(state)))
    assert bool((parts[2, STATE.index("tracks")] == 0).all())
    shown = torch.zeros(5, one.d_hidden).scatter(1, latents.long(), activations)
    torch.testing.assert_close(parts[:, 0], shown @ one.W_dec / one.scale)


def test_a_state_is_so_by_a_sae_with_a_scale_of_each_state_s_own():
    state = 3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(2)) + 1
    one = by_own_scale(sae(0))
    latents, activations = one.top_k(state, K)
    parts = parts_of_state(state, latents.long(), activations, one)
    torch.testing.assert_close(parts.sum(1), state)
    torch.testing.assert_close(parts[:, :3].sum(1), one.decode(one.encode(state), state))


def by_own_scale(one):
    """The same SAE, of states that are divided by their own deviation."""
    return replace(
        one, own_scale="layer_norm", mean=torch.zeros(one.d_model), W_enc=one.W_enc - one.W_enc.mean(0)
    )


@pytest.mark.parametrize("own_scale", [False, True])
@pytest.mark.parametrize("which", LAYERS)
def test_contributions_add_up_to_what_the_encoder_sees(writes, which, own_scale):
    layers = LAYERS[which]
    saes, active = [sae(layer) for layer in layers], active_of(writes, layers)
    if own_scale:
        saes = [by_own_scale(one) for one in saes]
    previous = torch.full(active.latents.shape, -1)
    # the strongest continues the second of the layer before
    previous[:, 1:, 0] = torch.arange(len(layers) - 1) * K + 1
    held = states_apart(writes, active, saes, layers)
    found = contributions(writes, held, active, previous, saes, layers)
    for place, (layer, one) in enumerate(zip(layers, saes, strict=True)):
        state = writes.outputs[layer]
        seen = one.normalise(state) @ one.W_enc + one.own_unit(state) * one.b_enc
        expected = seen.gather(1, active.latents[:, place])
        torch.testing.assert_close(found[:, place].sum(-1), expected, rtol=1e-4, atol=1e-4)
        if place:
            own = found[:, place, 0, SHARES.index("own")]
            before = active.latents[:, place - 1, 1]
            gain = (saes[place - 1].W_dec[before] * one.W_enc.T[active.latents[:, place, 0]]).sum(1)
            torch.testing.assert_close(own, active.activations[:, place - 1, 1] * gain)
    one = shares(found, active.activations)[active.activations.nonzero(as_tuple=True)].sum(-1)
    torch.testing.assert_close(one, torch.ones_like(one), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cap", [5.0, None])
def test_a_soft_cap_is_found_whatever_a_family_calls_it(monkeypatch, cap):
    model = random_model("llama").eval()
    own = model.lm_head.forward
    if cap:
        monkeypatch.setattr(model.lm_head, "forward", lambda states: cap * torch.tanh(own(states) / cap))
    found = understand(model, byte_tokenizer())
    head = Head.of(found)
    assert head.cap == (cap and pytest.approx(cap))
    final = torch.randn(3, found.d_model, generator=torch.Generator().manual_seed(3))
    logits = head.capped(head.factor * (final @ head.rows.T + head.bias))
    torch.testing.assert_close(logits, found.logits(final), rtol=1e-3, atol=1e-3)


def test_births_are_told_by_what_gave_most():
    rows = np.zeros((4, len(SHARES)), np.float32)
    for row, name in enumerate(("moved_subject", "written", "carried", "error")):
        rows[row, SHARES.index(name)] = 0.9
    assert births(rows, np.array([True, True, True, True])).tolist() == list(range(len(BIRTHS)))
    assert births(rows, np.zeros(4, bool)).tolist() == [-1] * 4


def test_nodes_are_the_rows_of_the_file():
    rows = {
        "question": np.array([4, 4, 4, 4]), "position": np.array([-1, -1, 0, 0]), "layer": np.array([1, 3, 1, 1]),
        "latent": np.array([7, 8, 9, 5]), "activation": np.float32([1, 2, 3, 2.5]), "track": np.array([0, 0, 0, 1]),
    }  # fmt: skip
    nodes = Nodes.of(rows, np.array([[4, -1], [4, 0]]), [1, 2, 3], 2)
    assert nodes.active.latents[nodes.where].tolist() == [7, 8, 9, 5]
    assert nodes.previous[0, 2].tolist() == [0, -1]
    assert nodes.track[1, 0].tolist() == [0, 1]
    assert nodes.active.activations.count_nonzero() == 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = TinyRun(tmp_path_factory.mktemp("account") / "root").give()
    return run.track("answers", "association", "all", "account")


def test_the_unit_writes_a_row_a_question_position_and_layer(run):
    account = ACCOUNT.read(run.entry("account").file("account.parquet"))
    layers = run.table("all", "layers.parquet")
    for name in ("question", "position", "layer"):
        np.testing.assert_array_equal(account[name], layers[name])
    metrics = run.metrics("account")
    assert metrics["completeness_error"] < 1e-3
    assert metrics["leader_is_emitted"] == 1.0
    candidates = run.table("answers", "candidates.parquet")
    last = account["layer"] == max(run.config.layers)
    for row in np.flatnonzero(last & (account["position"] >= 0)):
        own = candidates[
            (candidates.question == account["question"][row])
            & (candidates.position == account["position"][row])
        ].logprob.to_numpy()
        logit = account["logit"][row]
        np.testing.assert_allclose(logit - logit[0], own - own[0], atol=1e-3)


def test_the_unit_tells_where_every_node_came_from(run):
    origins, tracks = run.table("account", "origins.parquet"), run.table("all", "tracks.parquet")
    assert len(origins) == len(tracks)
    np.testing.assert_allclose(origins[list(SHARES)].sum(axis=1), 1, atol=0.02)
    births = tracks.link.isna().to_numpy()
    assert ((origins.birth >= 0).to_numpy() == births).all()
    assert (origins.own[births] == 0).all()
    assert (origins.own[~births].abs() > 0).mean() > 0.9


def test_sources_are_where_the_tokens_come_from(tmp_path):
    model = load_language_model(save_random_model(tmp_path, "llama"))
    question = {"prefix": "one two\n", "query": "Who saw Rome here", "subject": "Rome"}
    text = text_of(model, question, [65, 66], np.array([-1, 0, 1, 2]))
    said = "one two\nWho saw Rome here"
    at = text.prompt
    assert text.prompt == len(said)
    assert text.chosen.tolist() == [said.index("Rome") + 3, at - 1, at, at + 1]
    kinds = [[SOURCES[kind] for kind in row] for row in text.sources.tolist()]
    last = kinds[3]
    assert last[:8] == ["examples"] * 8
    assert [k for k, c in zip(last, said, strict=False) if k == "subject"] == ["subject"] * 4
    assert last[at:] == ["answer", "itself"]
    assert kinds[1][at - 1] == "itself"
    assert kinds[3][at - 1] == "question"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_logits_are_accounted_for_by_what_the_state_holds(tmp_path, family, tokens):
    """Where a block cannot be taken apart what attention and MLP wrote is absent, and nothing else."""
    model = load_language_model(save_random_model(tmp_path, family))
    layers, reader = [0, 1, 2], WriteReader(model)
    row, cache = torch.zeros(len(PLACES), dtype=torch.long), DynamicCache() if model.caches else None
    sources = torch.zeros((len(PLACES), LENGTH), dtype=torch.long)
    writes = reader.read(tokens, cache, (row, PLACES), sources, len(SOURCES))
    with torch.inference_mode():
        truth = model.model(tokens).logits[0, PLACES].float()
    saes, active = [sae(layer) for layer in layers], active_of(writes, layers)
    held, candidates = states_apart(writes, active, saes, layers), candidates_of(model, writes)
    found = take_apart(writes, held, candidates, layers, Head.of(model), model.final_norm)
    torch.testing.assert_close(found.logit[:, -1], truth.gather(1, candidates), rtol=1e-3, atol=1e-3)
    assert float(found.rest.max()) < 1e-4
    untold = found.step.isnan().any(-1).any(0)[:, STEP.index("mlp")]
    assert untold.nonzero().flatten().tolist() == sorted(reader.untold)
    assert not found.step[:, :, STEP.index("carried")].isnan().any()
    assert set(reader.untold) == set(UNTOLD.get(family, ()))


UNTOLD = {
    **dict.fromkeys(("bloom", "falcon", "gpt_neo", "gptj", "minimax", "mpt"), (0, 1, 2)),
    "qwen3_next": (0, 2),
}
"""Blocks whose attention does not show what it reads: of the family's own making, or linear; or which weigh what they add to."""


@pytest.mark.parametrize("family", ["bloom", "qwen3_next"])
def test_a_family_whose_blocks_cannot_be_taken_apart_goes_to_the_end(tmp_path, family):
    run = TinyRun(tmp_path / "root", causes=2).give(write_model=lambda out: save_random_model(out, family))
    run.track("answers", "association", "all", "account", "causes", "reasons")
    metrics = run.metrics("account")
    assert metrics["completeness_error"] < 1e-3
    assert metrics["layers_untold"] == list(UNTOLD[family])
    origins = run.table("account", "origins.parquet")
    layer = run.table("all", "tracks.parquet").layer
    untold = layer.isin(metrics["layers_untold"])
    assert (origins.written.isna() == untold).all()
    assert (origins.birth[untold] == -1).all()
    assert np.isfinite(origins[["own", "carried", "error"]]).all(axis=None)
    lines = run.entry("reasons").file("reasons.jsonl").read_text().splitlines()
    assert lines
    assert all("NaN" not in line and "mlp" not in json.loads(line)["written"] for line in lines)


def test_a_final_norm_of_another_kind_is_said(tmp_path, monkeypatch, caplog):
    run = TinyRun(tmp_path / "root", causes=2).give()
    run.track("answers", "association", "all", "account")
    assert "final norm" not in caplog.text
    monkeypatch.setattr(LlamaRMSNorm, "forward", lambda norm, states: norm.weight * torch.tanh(states))
    run = TinyRun(tmp_path / "other", causes=2).give()
    run.track("answers", "association", "all", "account")
    assert "the model's final norm is not gain, bias and one scale a state" in caplog.text
    assert run.metrics("account")["completeness_error"] > 1e-3
