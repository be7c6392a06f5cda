"""Against plain forward passes of one whole text, without cache, batch or padding."""

import dataclasses

import pytest
import torch

from ghosttrack.common.models.going_on import GoingOn
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.reading import read_prefix, read_rows
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


def test_texts_go_on_part_and_leave_as_if_alone(model, rows):
    prefix = read_prefix(model, rows, 2 * WINDOW)
    last = [[len(row) - 1] for row in rows]
    for branches in {model.branches, False}:
        way = dataclasses.replace(model, branches=branches)
        going = GoingOn(way, read_rows(way, rows, last, [], prefix, keep_cache=True))
        texts = [list(row) for row in rows]
        for step in range(WINDOW + 2):
            behind = {0: [2, 0, 1, 1], 2: [1, 2, 1, 3], 4: [0, 3]}.get(step)
            texts = [list(texts[number]) for number in behind or range(len(texts))]
            token = torch.tensor([(7 * step + 11 * number) % VOCABULARY for number in range(len(texts))])
            final, states = going.step(token, behind and torch.tensor(behind), LAYERS)
            for text, one, reached, found in zip(texts, token.tolist(), final, states, strict=True):
                text.append(one)
                logits, expected = alone(model, text)
                torch.testing.assert_close(model.logits(reached), logits[-1], rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(found, expected[-1], rtol=1e-4, atol=1e-4)
