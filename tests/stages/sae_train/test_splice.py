"""Losses with SAEs in the model, against a plain forward pass of one segment at a time."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ghosttrack.common.errors import DataError
from ghosttrack.common.models.held_out import LEAST_SEGMENT, HeldOutText, held_out_text
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.stages.sae_train import splice
from tests.stages.sae_train import spliced
from tests.tiny_models import FAMILIES, N_LAYERS, VOCABULARY, save_random_model

LAYERS = list(range(N_LAYERS))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), "gpt2"))


def text(n_tokens: int = 1000) -> HeldOutText:
    return held_out_text(spliced.corpus(), n_tokens, spliced.LENGTH, np.random.default_rng(0))


def segments_of(found: HeldOutText) -> list[Tensor]:
    """The real tokens of each segment."""
    token, begins = found.token[found.real], (found.position == 0)[found.real]
    starts = [*begins.nonzero().view(-1).tolist(), len(token)]
    return [token[a:b] for a, b in itertools.pairwise(starts)]


def limits(model: LanguageModel, found: HeldOutText) -> list[float]:
    """By layer, a norm that some states of the text have and others do not."""
    states = splice.read_clean(model, found, LAYERS).states
    return [float(states[layer][found.real].norm(dim=-1).quantile(0.8)) for layer in LAYERS]


def test_losses_are_those_of_a_plain_forward_pass_in_every_architecture(model: LanguageModel) -> None:
    found = text()
    assert found.token.shape[0] > 1
    assert not found.real.all()
    saes = {layer: spliced.random_sae(layer, limit) for layer, limit in enumerate(limits(model, found))}
    means = {layer: torch.randn(32, generator=torch.Generator().manual_seed(layer)) for layer in LAYERS}
    clean = splice.read_clean(model, found, LAYERS)
    segments = segments_of(found)
    assert clean.ce == pytest.approx(spliced.long_way(model, segments, {}, {}, "sae")[0], rel=1e-4)
    for layer in LAYERS:
        losses = splice.layer_alone(model, clean, saes[layer], means[layer], layer)
        for kind in splice.KINDS:
            ce, kl = spliced.long_way(model, segments, {layer: saes[layer]}, means, kind)
            assert losses[kind]["ce"] == pytest.approx(ce, rel=2e-4), (layer, kind)
            assert losses[kind]["kl"] == pytest.approx(kl, rel=2e-3, abs=1e-3), (layer, kind)
    losses, errors = splice.all_layers(model, clean, saes, means)
    for kind in splice.KINDS:
        ce, kl = spliced.long_way(model, segments, saes, means, kind)
        assert losses[kind]["ce"] == pytest.approx(ce, rel=2e-4), kind
        assert losses[kind]["kl"] == pytest.approx(kl, rel=2e-3, abs=1e-3), kind
    assert list(errors) == LAYERS
    assert all(error > 0 for error in errors.values())


def test_logits_are_the_model_s_own(model: LanguageModel) -> None:
    ids = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    position = torch.arange(9).expand(2, -1)
    with torch.inference_mode():
        expected = model.model(ids).logits
    torch.testing.assert_close(model.logits(model.final_states(ids, position)), expected)


def test_blocks_before_the_replaced_one_are_not_computed_and_are_whole_again_afterwards(
    gpt2: LanguageModel,
) -> None:
    clean = splice.read_clean(gpt2, text(), LAYERS)
    ran: list[str] = []
    handles = [
        block.attn.register_forward_hook(lambda *_, n=n: ran.append(f"attention {n}"))
        for n, block in enumerate(gpt2.blocks)
    ]
    splice.layer_alone(gpt2, clean, spliced.random_sae(1), torch.zeros(32), 1)
    assert ran == ["attention 2"]  # what takes the states' place goes through in one pass
    ran.clear()
    again = splice.read_clean(gpt2, text(), LAYERS)
    assert ran == [f"attention {n}" for n in LAYERS]
    for handle in handles:
        handle.remove()
    assert all(torch.equal(again.states[layer], clean.states[layer]) for layer in LAYERS)


def test_a_perfect_sae_recovers_everything_and_one_of_zeros_is_zero_ablation(gpt2: LanguageModel) -> None:
    found = text()
    clean = splice.read_clean(gpt2, found, LAYERS)
    n = int(found.predicts.sum())
    mean = clean.states[1][found.position > 0].mean(0)

    def recovered(sae: splice.JumpReLUSAE) -> dict[str, dict[str, float | None]]:
        return splice.recovery(splice.layer_alone(gpt2, clean, sae, mean, 1), clean.ce, n)

    perfect = recovered(spliced.identity_sae(1))
    assert perfect["ce"]["sae"] == pytest.approx(clean.ce / n, rel=1e-5)
    assert perfect["kl_recovered"] == pytest.approx({"zero": 1.0, "mean": 1.0}, abs=1e-3)
    nothing = recovered(spliced.zero_sae(1))
    assert nothing["ce"]["sae"] == nothing["ce"]["zero"]
    assert nothing["kl"]["sae"] == nothing["kl"]["zero"] > 0
    assert nothing["kl_recovered"]["zero"] == 0.0


def test_recovery_is_the_share_of_the_ablation_s_damage() -> None:
    losses = {
        "sae": {"ce": 25.0, "kl": 2.0},
        "zero": {"ce": 70.0, "kl": 40.0},
        "mean": {"ce": 30.0, "kl": 8.0},
    }
    found = splice.recovery(losses, 20.0, 10)
    assert found == {
        "ce": {"sae": 2.5, "zero": 7.0, "mean": 3.0},
        "kl": {"sae": 0.2, "zero": 4.0, "mean": 0.8},
        "ce_recovered": {"zero": 0.9, "mean": 0.5},
        "kl_recovered": {"zero": 0.95, "mean": 0.75},
    }
    harmless = splice.recovery({kind: {"ce": 20.0, "kl": 0.0} for kind in splice.KINDS}, 20.0, 10)
    assert harmless["ce_recovered"] == harmless["kl_recovered"] == {"zero": None, "mean": None}


def test_kl_is_never_negative_and_ablation_at_position_zero_changes_nothing(gpt2: LanguageModel) -> None:
    found = text()
    clean = splice.read_clean(gpt2, found, LAYERS)
    losses = splice.layer_alone(gpt2, clean, spliced.random_sae(0), torch.zeros(32), 0)
    assert all(losses[kind]["kl"] > 0 for kind in splice.KINDS)
    everything_is_an_outlier = spliced.random_sae(0, norm_limit=0.0)
    losses = splice.layer_alone(gpt2, clean, everything_is_an_outlier, torch.zeros(32), 0)
    for kind in splice.KINDS:
        assert losses[kind]["ce"] == pytest.approx(clean.ce, rel=1e-5)
        assert losses[kind]["kl"] == pytest.approx(0, abs=1e-4)


def test_only_kept_states_are_replaced() -> None:
    found, sae = text(), spliced.random_sae(0, norm_limit=10.0)
    states = torch.ones(*found.token.shape, 32)
    states[:, 2] *= 100.0
    kept = splice.kept_mask(sae, found, states)
    assert not kept[:, 2].any()
    assert not kept[found.position == 0].any()
    assert kept.any()
    new = splice.replaced("zero", states, kept, sae, torch.zeros(32))
    assert torch.equal(new[~kept], states[~kept])
    assert not new[kept].any()


# ---- text


def held_out_segments() -> list[list[int]]:
    corpus, start, found = spliced.corpus(), 0, []
    for number, size in enumerate(spliced.SEGMENTS):
        if number > 0 and size >= LEAST_SEGMENT:
            found.append(corpus.token[start : start + size].tolist())
        start += size
    return found


def as_sets(segments: Sequence[Tensor]) -> list[list[int]]:
    return sorted(segment.tolist() for segment in segments)


def test_text_is_whole_held_out_segments() -> None:
    found = text()
    assert as_sets(segments_of(found)) == sorted(held_out_segments())
    assert found.token.shape[1] <= spliced.LENGTH
    assert int(found.predicts.sum()) == sum(len(segment) - 2 for segment in held_out_segments())
    assert not found.position[~found.real].any()


def test_text_ends_at_the_number_of_tokens_asked_for() -> None:
    found = text(30)
    assert int(found.real.sum()) in (28, 29, 30)
    whole = held_out_segments()
    for segment in segments_of(found):
        assert any(segment.tolist() == other[: len(segment)] for other in whole)


def test_text_depends_on_the_seed_alone() -> None:
    def draw(seed: int) -> HeldOutText:
        return held_out_text(spliced.corpus(), 20, spliced.LENGTH, np.random.default_rng(seed))

    assert torch.equal(draw(1).token, draw(1).token)
    assert any(not torch.equal(draw(1).token, draw(seed).token) for seed in range(2, 6))


def test_no_held_out_segment_is_a_clear_error() -> None:
    corpus = replace(spliced.corpus(), held_out=torch.zeros(sum(spliced.SEGMENTS), dtype=torch.bool))
    with pytest.raises(DataError, match=r"no held-out document has a segment .* raise data\.max_tokens"):
        held_out_text(corpus, 100, spliced.LENGTH, np.random.default_rng(0))


def test_batches_hold_every_row_once(tmp_path: Path) -> None:
    found = text()
    parts = found.batches(1)
    assert torch.equal(torch.cat([part.token for part in parts]), found.token)
    assert splice.rows_at_a_time(512, 50_000, 16) == 2
    assert splice.rows_at_a_time(64, 1_000, 8) == 8
    assert splice.rows_at_a_time(100_000, 100_000, 8) == 1
