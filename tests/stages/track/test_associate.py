from itertools import permutations

import numpy as np
import pytest
import torch

from stages.track.associate import NO_LINK, follow, link_layers

GATE = 0.5


def best_by_brute_force(cosines):
    """The largest total of (cosine - gate) over all one-to-one links above the gate."""
    rows, columns = cosines.shape
    if rows > columns:
        return best_by_brute_force(cosines.T)
    return max(
        sum(max(cosines[row, column] - GATE, 0) for row, column in enumerate(choice))
        for choice in permutations(range(columns), rows)
    )


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 2), (1, 1)])
def test_links_are_one_to_one_gated_and_optimal(shape):
    random = np.random.default_rng(0)
    for _ in range(50):
        cosines = random.uniform(-1, 1, shape).astype(np.float32)
        links = link_layers(cosines, GATE)
        columns = np.flatnonzero(links != NO_LINK)
        rows = links[columns]
        assert len(set(rows.tolist())) == len(rows)
        assert (cosines[rows, columns] > GATE).all()
        assert (cosines[rows, columns] - GATE).sum() == pytest.approx(best_by_brute_force(cosines), abs=1e-5)


def test_a_pair_below_the_gate_never_displaces_a_link():
    # Without the gate before the solve, 0.9 + 0.4 beats 0.7 + (-1), and the threshold would then leave one link.
    cosines = np.array([[0.9, 0.7], [0.4, 0.45]], dtype=np.float32)
    assert link_layers(cosines, GATE).tolist() == [0, NO_LINK]


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_tracks_are_born_followed_and_end():
    east, north, near_east = [1.0, 0, 0], [0, 1.0, 0], [1.0, 0.1, 0]
    decoders = [unit(east, north), unit(north, near_east), unit(east, [0, 0, 1.0])]
    # Layer 0: east. Layer 1: near-east and north (born). Layer 2: only the third direction (born).
    latents = torch.tensor([[[0, 1], [1, 0], [1, 0]]])
    activations = torch.tensor([[[2.0, 0.0], [3.0, 1.0], [4.0, 0.0]]])
    tracks = follow(latents, activations, decoders, GATE)
    assert tracks.layer.tolist() == [0, 1, 1, 2]
    assert tracks.latent.tolist() == [0, 1, 0, 1]
    assert tracks.activation.tolist() == [2, 3, 1, 4]
    assert tracks.track.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(tracks.link, [np.nan, 1 / np.sqrt(1.01), np.nan, np.nan], rtol=1e-6)


def test_problems_do_not_touch_each_other():
    random = torch.Generator().manual_seed(0)
    decoders = [torch.nn.functional.normalize(torch.randn(20, 4, generator=random), dim=1) for _ in range(4)]
    latents = torch.stack([torch.randperm(20, generator=random)[:6] for _ in range(20)]).view(5, 4, 6)
    activations = torch.rand(5, 4, 6, generator=random) - 0.2
    together = follow(latents, activations.clamp(min=0), decoders, GATE)
    for problem in range(5):
        alone = follow(
            latents[problem : problem + 1], activations[problem : problem + 1].clamp(min=0), decoders, GATE
        )
        mine = together.problem == problem
        for name in ("layer", "latent", "activation", "track", "link"):
            np.testing.assert_array_equal(getattr(together, name)[mine], getattr(alone, name))
    assert np.isfinite(together.link).any()
