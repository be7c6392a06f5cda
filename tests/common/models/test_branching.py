"""Against plain forward passes of one whole text, without cache, batch or padding."""

import dataclasses

import pytest
import torch

from ghosttrack.common.models.branching import ROOT, Tree, read
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.reading import read_prefix
from tests.tiny_models import FAMILIES, VOCABULARY, WINDOW, save_random_model

WHOLE = {"bloom", "gpt_neo", "llama4_text", "minimax", "mpt", "qwen3_next"}
"""Families whose texts are read from their beginning: biases or windows by column, states of another kind."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request, tmp_path_factory):
    return request.param, load_language_model(
        save_random_model(tmp_path_factory.mktemp("model"), request.param)
    )


def grow(tree, parents, tokens):
    """The states of new nodes behind these."""
    nodes = [tree.append(parent, token) for parent, token in zip(parents, tokens, strict=True)]
    read([tree])
    return torch.stack([tree.final[node] for node in nodes])


def draw(count, seed):
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def last_logits(model, ids):
    with torch.inference_mode():
        return model.model(torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("shared", [0, 5, 2 * WINDOW])
def test_nodes_are_read_as_the_ends_of_their_texts(family, shared):
    name, model = family
    assert model.branches == (name not in WHOLE)
    start = draw(shared, 1)
    prefix = read_prefix(model, [[*start, 1], [*start, 2]], shared)
    tree = Tree(model, prefix)
    texts = {ROOT: [*start[len(prefix.tokens) :]]}
    if texts[ROOT]:
        chain = texts.pop(ROOT)
        grow(tree, range(-1, len(chain) - 1), chain)
        texts = {number: chain[: number + 1] for number in range(len(chain))}
    root, size = max(texts), max(texts) + 1
    waves = [
        [
            root,
            *range(size, size + WINDOW + 2),
            root,
            size,
            size + WINDOW + 4,
        ],  # a long text, and two beside it
        [size + WINDOW + 2, size + 3, size + WINDOW + 6, root],
    ]
    number = size
    for wave, parents in enumerate(waves):
        tokens = draw(len(parents), 2 + wave)
        final = grow(tree, parents, tokens)
        for parent, token, states in zip(parents, tokens, final, strict=True):
            texts[number] = [*texts[parent], token]
            expected = last_logits(model, [*prefix.tokens, *texts[number]])
            torch.testing.assert_close(model.logits(states), expected, rtol=1e-4, atol=1e-4)
            number += 1


def test_both_ways_of_reading_agree(tmp_path):
    model = load_language_model(save_random_model(tmp_path, "llama"))
    prefix = read_prefix(model, [[5, 6, 7], [5, 6, 8]], 2)
    parents, tokens = [ROOT, 0, 0, ROOT, 3], [10, 11, 12, 13, 14]
    tree, whole = Tree(model, prefix), Tree(dataclasses.replace(model, branches=False), prefix)
    torch.testing.assert_close(
        grow(tree, parents, tokens), grow(whole, parents, tokens), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(grow(tree, [2, 4], [1, 2]), grow(whole, [2, 4], [1, 2]), rtol=1e-4, atol=1e-5)


def test_trees_are_read_side_by_side_as_alone(family, monkeypatch):
    """Of different prefixes and sizes, some with nothing new, in one pass or several."""
    name, model = family
    starts = [draw(length, length) for length in (0, 3, WINDOW + 5, 3)]
    waves = [[[draw(4, 10 * number + n) for n in range(number + 1)] for number in range(3)] + [[]]]
    waves.append([[waves[0][0][0] + draw(3, 70)], [], [waves[0][2][1][:2] + draw(2, 71)], [draw(1, 72)]])
    passes = []
    run = type(model).run
    monkeypatch.setattr(type(model), "run", lambda *a, **k: passes.append(a[1].shape) or run(*a, **k))
    prefixes = [read_prefix(model, [[*start, 1], [*start, 2]], len(start)) for start in starts]
    trees = [Tree(model, prefix) for prefix in prefixes]
    passes.clear()
    paths = []
    for wave in waves:
        paths.append([tree.add(texts) for tree, texts in zip(trees, wave, strict=True)])
        read(trees)
        assert not any(tree.waiting for tree in trees)
    assert len(passes) == 2 or name in WHOLE
    for texts, nodes in zip(waves, paths, strict=True):
        for tree, mine, own in zip(trees, texts, nodes, strict=True):
            for text, path in zip(mine, own, strict=True):
                expected = last_logits(model, tree.prefix.tokens + text)
                found = model.logits(tree.final[path[-1]])
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
