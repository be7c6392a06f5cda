"""Contexts, histograms and labels of latents, against one by one."""

import numpy as np
import pytest
import torch

from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.stages.track.association import Scans
from ghosttrack.stages.track.corpus_scans import CorpusScans
from ghosttrack.stages.track.excerpts import Windows, excerpts, spread
from ghosttrack.stages.track.naming import BINS, LEAST, histograms, labels, words_of

ROWS, LENGTH, WIDTH, K = 12, 40, 9, 3
PIECES = ["the", " the", " cat", " sat", " on", " ein", " Ö", "🙂", "\n", " end"]


@pytest.fixture(scope="module")
def scanned():
    """Latent 0 is active on "the", latent 1 after " cat", the others anywhere."""
    rng = np.random.default_rng(3)
    token = rng.integers(0, len(PIECES), (ROWS, LENGTH))
    position = np.concatenate([np.arange(25), np.arange(15)])[None].repeat(ROWS, 0)  # two segments a row
    text = HeldOutText(
        torch.from_numpy(token), torch.from_numpy(position), torch.ones(ROWS, LENGTH, dtype=torch.bool)
    )
    row, column = np.nonzero(position > 0)
    n = len(row)
    latent = np.stack([np.zeros(n), np.ones(n), rng.integers(2, WIDTH, n)], axis=1).astype(np.int64)
    on = np.stack([token[row, column] <= 1, token[row, column - 1] == 2, rng.random(n) < 0.5], axis=1)
    activation = (on * rng.gamma(2, 1, (n, K))).astype(np.float32)
    scans = Scans(latent[:, None], activation[:, None])
    return CorpusScans(scans, row, column, [], [], 0, 0, 0.0), text, token, position


def test_contexts_are_the_strongest_and_some_at_all_strengths_with_every_token_s_activation(scanned):
    found, text, token, position = scanned
    table = excerpts(found, Windows(found, text, PIECES), 0, 7, 6, WIDTH).to_pandas()
    scan_at = {(r, c): s for s, (r, c) in enumerate(zip(found.row, found.column, strict=True))}
    latents, activations = found.scans.latents[:, 0], found.scans.activations[:, 0]

    def active(scan, latent):
        return max((activations[scan, k] for k in range(K) if latents[scan, k] == latent), default=0.0)

    for latent, rows in table.groupby("latent"):
        own = np.array(
            sorted((active(s, latent) for s in range(len(latents)) if active(s, latent) > 0), reverse=True)
        )
        assert len(rows) == min(6, len(own))
        np.testing.assert_array_equal(rows.activation[:3], own[:3])
        assert rows["rank"].tolist() == list(range(len(rows)))
        for each in rows.itertuples():
            place = int(np.flatnonzero(own == each.activation)[0])
            assert each.quantile == pytest.approx(1 - place / len(own))
            scan = next(s for s in range(len(latents)) if active(s, latent) == each.activation)
            r, c = found.row[scan], found.column[scan]
            seen = [
                k
                for k in range(c - 12, c + 7)
                if 0 <= k < LENGTH and position[r, k] - position[r, c] == k - c
            ]
            texts = [PIECES[token[r, k]] for k in seen]
            assert (each.before, each.token) == ("".join(texts[: seen.index(c)]), PIECES[token[r, c]])
            assert each.before + each.token + each.after == "".join(texts)
            assert list(each.lengths) == [len(piece) for piece in texts]
            wanted = [active(scan_at[r, k], latent) if (r, k) in scan_at else 0 for k in seen]
            np.testing.assert_allclose(each.heat, wanted, rtol=1e-3)


def test_places_are_spread_evenly_behind_the_strongest():
    for whole in range(1, 60):
        kept = np.flatnonzero(spread(np.arange(whole), np.full(whole, whole), 20))
        assert len(kept) == min(20, whole)
        assert kept[: min(10, whole)].tolist() == list(range(min(10, whole)))
        gaps = np.diff(kept[9:]) if whole > 20 else np.array([1])
        assert gaps[1:].max(initial=0) - gaps[1:].min(initial=99) <= 1 or whole <= 20


def test_labels_say_when_a_latent_is_active_and_are_scored_elsewhere(scanned):
    found, _, token, _ = scanned
    number, words = words_of(PIECES)
    assert len(words) == len(PIECES) - 1  # "the" with a space and without are one word
    now, before = number[token[found.row, found.column]], number[token[found.row, found.column - 1]]
    named, score = labels(found, 0, WIDTH, now, before, words)
    assert named[:2] == ["“the”", "after “cat”"]
    assert all(label is None for label in named[2:])
    half = found.row % 2 == 1
    activations = found.scans.activations[:, 0]
    for latent, said in ((0, now == words.index("the")), (1, before == words.index("cat"))):
        on = activations[:, latent] > 0
        wanted = 2 * (said & on & half).sum() / ((said & half).sum() + (on & half).sum())
        assert score[latent] == pytest.approx(wanted)
        assert score[latent] > LEAST
    assert not (score[2:] >= LEAST).any()


def test_histograms_count_every_activation(scanned):
    found = scanned[0]
    most, counts = histograms(found, 0, WIDTH)
    latents, activations = found.scans.latents[:, 0], found.scans.activations[:, 0]
    for latent in range(WIDTH):
        own = activations[(latents == latent) & (activations > 0)]
        assert most[latent] == own.max()
        np.testing.assert_array_equal(counts[latent], np.histogram(own, BINS, (0, own.max()))[0])
