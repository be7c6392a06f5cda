"""The lens and direct effects against the model's own logits."""

import pytest
import torch

from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.track.effects import candidate_effects, compete, course, node_effects
from ghosttrack.stages.track.lens import read_lens
from ghosttrack.stages.track.readout import ReadOut
from tests.tiny_models import D_MODEL, FAMILIES, VOCABULARY, save_random_model


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


def states_of(n=40):
    return 3 * torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(0))


def test_the_lens_is_the_model_s_own_last_step(model):
    states = states_of(300)  # more than one chunk
    with torch.inference_mode():
        expected = model.logits(model.final_norm(states)).double().log_softmax(-1)
    emitted, rival = torch.arange(300) % 250, (torch.arange(300) * 7) % 250
    lens = read_lens(model, states, emitted, rival)
    torch.testing.assert_close(
        torch.from_numpy(lens.logprob).double(),
        expected.gather(1, emitted[:, None])[:, 0],
        rtol=1e-4,
        atol=1e-4,
    )
    torch.testing.assert_close(
        torch.from_numpy(lens.rival_logprob).double(),
        expected.gather(1, rival[:, None])[:, 0],
        rtol=1e-4,
        atol=1e-4,
    )
    entropy = -(expected.exp() * expected).sum(1)
    torch.testing.assert_close(torch.from_numpy(lens.entropy).double(), entropy, rtol=1e-4, atol=1e-4)
    assert lens.top.tolist() == expected.argmax(1).tolist()
    above = expected - expected.gather(1, emitted[:, None])
    ranks = torch.from_numpy(lens.rank)
    # near-equal tokens may change places by rounding, no others
    assert bool(((above > 1e-4).sum(1) <= ranks).all())
    assert bool((ranks <= (above > -1e-4).sum(1) - 1).all())


def test_the_read_out_with_its_scale_makes_the_logits_but_for_biases(model):
    read_out, states = ReadOut.of(model), states_of()
    mine = states @ read_out.weight.T / read_out.scale(states)[:, None]
    with torch.inference_mode():
        head = model.model.get_output_embeddings()
        theirs = head(model.final_norm(states)) - head(model.final_norm(torch.zeros(1, D_MODEL)))
        config = model.model.config
        theirs *= (getattr(config, "logit_scale", None) or 1.0) / getattr(config, "logits_scaling", 1.0)
    torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3)


def test_effects_add_up_to_the_logits_of_what_the_latents_write(model):
    read_out = ReadOut.of(model)
    random = torch.Generator().manual_seed(1)
    decoder = torch.randn(20, D_MODEL, generator=random)
    latents = torch.stack([torch.randperm(20, generator=random)[:5] for _ in range(6)])
    activations = torch.rand(6, 5, generator=random)
    activations[2, 3:] = 0
    final, tokens = states_of(6), torch.randint(0, VOCABULARY, (6, 3), generator=random)
    scale, rows = read_out.scale(final), read_out.weight[tokens]
    nodes = node_effects(latents, activations, decoder, rows[:, 0] - rows[:, 1], scale)
    sums = candidate_effects(latents, activations, decoder, rows, scale)
    for one in range(6):
        written = torch.zeros(D_MODEL)
        for latent, activation, effect in zip(latents[one], activations[one], nodes[one], strict=True):
            alone = activation * decoder[latent] / scale[one]
            assert float(effect) == pytest.approx(float(alone @ (rows[one, 0] - rows[one, 1])), abs=1e-4)
            written += alone
        torch.testing.assert_close(sums[one], rows[one] @ written, rtol=1e-4, atol=1e-4)


def test_competition_and_its_course():
    effects = torch.tensor([[[1.0, 3.0, 2.0], [2.0, 1.0, 0.0]]])
    found = compete(effects)
    assert found["margin"].tolist() == [[-2.0, 1.0]]
    assert found["leader"].tolist() == [[1, 0]]
    assert float(found["competition_entropy"][0, 0]) == pytest.approx(
        float(torch.distributions.Categorical(logits=effects[0, 0]).entropy())
    )
    layers = list(range(10, 18))
    assert course([1, 1, 0, 0, 0, 0, 0, 0], layers) == (12, 1, False)
    assert course([1, 2, 0, 2, 2, 2, 0, 0], layers) == (16, 4, True)
    assert course([0] * 8, layers) == (10, 0, False)
    assert course([0, 0, 0, 0, 0, 0, 0, 3], layers) == (None, 1, False)
