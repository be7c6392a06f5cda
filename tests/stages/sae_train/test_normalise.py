import weakref

import pytest
import torch
from torch import Tensor

from ghosttrack.common.errors import CorruptInputError, DataError, ModelMismatchError, NumericError
from ghosttrack.common.formats.states import States
from ghosttrack.stages.sae_train import normalise
from ghosttrack.stages.sae_train.normalise import check_width, fit_layer
from tests.stages.sae_train.synthetic import layer_of, make_index, sparse_states


def test_training_states_have_mean_zero_and_norm_root_d() -> None:
    layer = layer_of(sparse_states(2000, 24, 40, 4))
    x = layer.normalised(layer.train).double()
    assert float(x.square().sum(1).mean()) == pytest.approx(24, rel=1e-4)
    assert x.mean(0).abs().max() < 1e-4


def test_sinks_and_first_positions_are_left_out_of_everything_but_the_unmasked_rows() -> None:
    states = sparse_states(2000, 24, 40, 4)
    plain = layer_of(states)
    states[[0, 40, 400]] *= 1e4  # first positions
    states[[57, 203]] *= 1e3  # sinks elsewhere: document 1 trains, document 5 is held out
    layer = layer_of(states)
    kept = set(layer.train.tolist()) | set(layer.held_out.tolist())
    assert not kept & {0, 40, 400, 57, 203}
    assert len(kept) == 2000 - 50 - 2
    assert {0, 203} <= set(layer.held_out_all.tolist())
    assert layer.scale == pytest.approx(plain.scale, rel=0.01)
    assert states[57].norm() > layer.norm_limit


def test_held_out_documents_do_not_train() -> None:
    states = sparse_states(2000, 24, 40, 4)
    index = make_index(2000)
    layer = fit_layer(0, States(states), index["position"], index["held_out"])
    assert not index["held_out"][layer.train].any()
    assert index["held_out"][layer.held_out].all()
    states[index["held_out"]] *= 3
    again = fit_layer(0, States(states), index["position"], index["held_out"])
    assert torch.equal(layer.mean, again.mean)
    assert layer.scale == again.scale


class Watched(States):
    """States that know how many of their rows are in memory as float32, and how many were at most."""

    here = most = 0

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        values = super().__getitem__(rows)
        self._count(len(values))
        weakref.finalize(values, self._count, -len(values))
        return values

    def _count(self, change: int) -> None:
        self.here += change
        self.most = max(self.most, self.here)


@pytest.mark.parametrize("n_tokens", [1000, 4000])
def test_a_layer_is_never_in_memory_whole(n_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "CHUNK_ROWS", 128)
    states, index = Watched(sparse_states(n_tokens, 24, 40, 4).half()), make_index(n_tokens)
    fit_layer(0, states, index["position"], index["held_out"])
    assert 128 <= states.most <= 3 * 128, "one that is read, the one before it, and no more with more tokens"
    assert states.here == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_states_that_are_no_numbers_are_refused(bad: float) -> None:
    states = sparse_states(400, 24, 40, 4)
    states[123, 7] = bad
    with pytest.raises(NumericError, match="layer 9: the state of token 123"):
        layer_of(states, 9)


def test_states_without_information_are_refused() -> None:
    with pytest.raises(NumericError, match="all zero"):
        layer_of(torch.zeros(400, 24))
    with pytest.raises(NumericError, match="same for every token"):
        layer_of(torch.full((400, 24), 3.7))
    with pytest.raises(NumericError, match="same for every token"):
        layer_of(torch.full((400, 24), 3.7).half())


def test_states_that_do_not_fit_are_refused() -> None:
    index = make_index(400)
    with pytest.raises(CorruptInputError, match="300 states but 400 tokens"):
        fit_layer(2, States(torch.ones(300, 24)), index["position"], index["held_out"])
    with pytest.raises(ModelMismatchError, match=r"layer 2: .*\[400, 24\].*d_model is 32"):
        check_width(2, States(torch.ones(400, 24)), 32)


def test_nothing_to_train_or_measure_on_is_an_error() -> None:
    states, index = sparse_states(400, 24, 40, 4), make_index(400)
    with pytest.raises(DataError, match="0 held-out tokens"):
        fit_layer(0, States(states), index["position"], torch.zeros(400, dtype=torch.bool))
    with pytest.raises(DataError, match="0 training tokens"):
        fit_layer(0, States(states), index["position"], torch.ones(400, dtype=torch.bool))
    with pytest.raises(DataError, match="first of its segment"):
        fit_layer(0, States(states), torch.zeros(400), index["held_out"])
