import pytest
import torch
from torch import Tensor

from ghosttrack.stages.sae_train import identity

D_HIDDEN, D_MODEL = 300, 24


def directions(seed: int, count: int = D_HIDDEN) -> Tensor:
    rows = torch.randn(count, D_MODEL, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def drifted(rows: Tensor, by: float, seed: int) -> Tensor:
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows + by * noise / D_MODEL**0.5, dim=1)


def test_the_same_decoder_matches_itself() -> None:
    found = identity.compare(directions(0), directions(0))
    assert found["self_match"] == 1.0
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert found["nearest_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert identity.to_base(directions(0), directions(0)) == {
        "base_cosine": found["cosine"], "base_self_match": 1.0,
    }  # fmt: skip


def test_a_permuted_decoder_has_every_direction_and_no_identity() -> None:
    rows = directions(0)
    found = identity.compare(rows, rows.roll(1, dims=0))
    assert found["self_match"] == 0.0
    assert found["nearest_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert abs(found["cosine"]) < 0.1


def test_figures_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "CHUNK_ROWS", 64)
    rows, other = directions(0), drifted(directions(0), 2.0, 1)
    cosines = rows.double() @ other.double().T
    found = identity.compare(rows, other)
    assert found["cosine"] == pytest.approx(float(cosines.diag().mean()), abs=1e-6)
    assert found["nearest_cosine"] == pytest.approx(float(cosines.max(1).values.mean()), abs=1e-6)
    matches = (cosines.argmax(1) == torch.arange(D_HIDDEN)).double().mean()
    assert 0.1 < found["self_match"] < 1.0
    assert found["self_match"] == pytest.approx(float(matches))
    for name, value in found["cosine_quantiles"].items():
        assert value == pytest.approx(float(cosines.diag().quantile(float(name))), abs=1e-5)


def test_random_directions_are_as_expected() -> None:
    """The closed forms and the small sample, against many independent pairs."""
    expected = identity.at_random(D_HIDDEN, D_MODEL, seed=3)
    pairs = [identity.compare(directions(2 * n), directions(2 * n + 1)) for n in range(40)]

    def mean(name: str) -> float:
        return sum(pair[name] for pair in pairs) / len(pairs)

    assert mean("cosine") == pytest.approx(expected["cosine"], abs=0.01)
    assert mean("nearest_cosine") == pytest.approx(expected["nearest_cosine"], abs=0.01)
    assert mean("self_match") == pytest.approx(expected["self_match"], abs=0.003)
    for quantile, value in expected["cosine_quantiles"].items():
        found = sum(pair["cosine_quantiles"][quantile] for pair in pairs) / len(pairs)
        assert found == pytest.approx(value, abs=0.015)
    assert identity.at_random(D_HIDDEN, D_MODEL, seed=3) == expected


def test_the_report_follows_latents_over_depth() -> None:
    first = directions(0)
    decoders = {2: first, 5: drifted(first, 0.3, 1), 6: drifted(drifted(first, 0.3, 1), 0.3, 2)}
    found = identity.report(decoders, seed=0)
    assert [(pair["layer"], pair["next"]) for pair in found["adjacent"]] == [(2, 5), (5, 6)]
    assert [(pair["layer"], pair["first"]) for pair in found["to_first"]] == [(5, 2), (6, 2)]
    assert found["adjacent"][0]["cosine"] == pytest.approx(found["to_first"][0]["cosine"], abs=1e-6)
    assert found["to_first"][1]["cosine"] < found["to_first"][0]["cosine"] - 0.02
    assert found["random"]["self_match"] == 1 / D_HIDDEN
