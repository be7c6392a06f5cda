"""Against plain forward passes of one whole text, without cache, batch or padding."""

import pytest
import torch

from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.reading import GoingOn, read_prefix, read_rows
from tests.tiny_models import FAMILIES, N_LAYERS, VOCABULARY, WINDOW, save_random_model

LAYERS = range(N_LAYERS)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def rows():
    """Longer than the window, of mixed lengths, with a common beginning that is longer than the window too."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda count: torch.randint(VOCABULARY, (count,), generator=generator).tolist()  # noqa: E731
    shared = draw(2 * WINDOW)
    return [shared + draw(count) for count in (1, WINDOW + 3, 4)]


def alone(model, ids):
    """Logits [position, n_vocabulary] and block outputs [position, n_layers, d_model]."""
    found = []
    with torch.inference_mode(), model.reading(LAYERS, lambda _, states: found.append(states[0].clone())):
        logits = model.model(torch.tensor([ids])).logits[0]
    return logits, torch.stack(found, dim=1)


@pytest.mark.parametrize("shared", [0, 5, 2 * WINDOW])
def test_rows_of_a_batch_are_read_as_if_alone(model, rows, shared):
    for known in (
        [rows[0][: shared // 2]],
        [[*rows[0][:3], 1]],
        [[1, 2]],
        rows[:1],
    ):  # a part, a fork, another, more
        prefix = read_prefix(model, rows, shared, known=read_prefix(model, known, len(rows[0])))
    assert len(prefix.tokens) == (shared if model.caches else 0)
    columns = [[2 * WINDOW, len(row) - 1] for row in rows]
    read = read_rows(model, rows, columns, LAYERS, prefix)
    for row, places, final, states in zip(rows, columns, read.final, read.states, strict=True):
        logits, expected = alone(model, row)
        torch.testing.assert_close(model.logits(final), logits[places], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(states, expected[places], rtol=1e-4, atol=1e-4)


def test_rows_go_on_and_leave_as_if_alone(model, rows):
    prefix = read_prefix(model, rows, 2 * WINDOW)
    going = GoingOn(
        model, read_rows(model, rows, [[len(row) - 1] for row in rows], [], prefix, keep_cache=True), copies=2
    )
    texts = [list(row) for row in rows for _ in range(2)]
    for step in range(WINDOW + 2):
        if step == 3:
            assert going.keep(torch.tensor([True, False, False, True, True, True]))
        token = torch.tensor([(7 * step + 11 * number) % VOCABULARY for number in going.number.tolist()])
        final, states = going.step(token, LAYERS)
        for number, one, reached, found in zip(
            going.number.tolist(), token.tolist(), final, states, strict=True
        ):
            texts[number].append(one)
            logits, expected = alone(model, texts[number])
            torch.testing.assert_close(model.logits(reached), logits[-1], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found, expected[-1], rtol=1e-4, atol=1e-4)
    assert going.number.tolist() == [0, 3, 4, 5]
    assert not going.keep(torch.zeros(4, dtype=torch.bool))
