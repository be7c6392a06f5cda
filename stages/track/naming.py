"""A short label of every latent, and how well it predicts where the latent is active in text that it was not made from.

A label is up to four tokens, as they are or as the token before: those at most of whose occurrences in one half of the rows
the latent is active. Its score is the F1 of "one of these tokens, therefore active" in the other half. What the current or the
last token does not tell gets a low score, and is called unlabelled rather than named by chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ghosttrack.common.maths.arrays import Floats, Ints, Singles
from ghosttrack.stages.track.corpus_scans import CorpusScans
from ghosttrack.stages.track.neighbours import looked_up, take

LEAST = 0.5
"""Score from which a label is given."""
TOKENS = 4
OFTEN, MOSTLY = 3, 0.5
"""A token of a label stands so often in the first half, and the latent is active at this share of it."""
BINS = 16
"""Of a histogram, equally wide from 0 to the largest activation."""


def words_of(pieces: Sequence[str]) -> tuple[Ints, list[str]]:
    """Of each token of the vocabulary the number of its word, without case and spaces around, and the words."""
    words, number = np.unique([piece.strip().lower() for piece in pieces], return_inverse=True)
    return number.astype(np.int64), words.tolist()


def labels(
    found: CorpusScans, place: int, width: int, now: Ints, before: Ints, words: Sequence[str]
) -> tuple[list[str | None], Floats]:
    """Labels [width], None where none scores LEAST, and scores [width], NaN without a candidate.

    place: of the layer among the scans'; now, before: [n_scans] word at the scan and before it.
    """
    first = found.row % 2 == 0
    scan, _ = active = np.nonzero(found.scans.activations[:, place] > 0)
    latent = found.scans.latents[:, place][active]
    chosen, best, score = [""] * width, np.full(width, -1.0), np.full(width, np.nan)
    for kind, word in (("", now), ("after ", before)):
        seen = [np.bincount(word[half], minlength=len(words)) for half in (first, ~first)]
        halves = (first[scan], ~first[scan])
        said, then = (_said(latent[half], word[scan[half]], len(words)) for half in halves)
        said = take(said, (said.hits >= OFTEN) & (said.hits > MOSTLY * seen[0][said.word]))
        said = take(said, np.lexsort((-said.hits, said.latent)))
        said = take(said, np.arange(len(said.hits)) - np.searchsorted(said.latent, said.latent) < TOKENS)
        keys, wanted = (each.latent * len(words) + each.word for each in (then, said))
        own, other = (np.bincount(latent[half], minlength=width) for half in halves)
        f1 = _f1(said.latent, said.hits, seen[0][said.word], own)
        f1_then = _f1(said.latent, looked_up(keys, then.hits, wanted), seen[1][said.word], other)
        for each in np.flatnonzero(f1 > best).tolist():
            mine = slice(*np.searchsorted(said.latent, [each, each + 1]))
            if mine.stop > mine.start:
                best[each], score[each] = f1[each], f1_then[each]
                chosen[each] = kind + ", ".join(_quoted(words[number]) for number in said.word[mine].tolist())
    return [
        text if value >= LEAST else None for text, value in zip(chosen, score.tolist(), strict=True)
    ], score


def histograms(found: CorpusScans, place: int, width: int) -> tuple[Singles, Ints]:
    """The largest activation of each latent, [width], and counts of its activations in BINS bins up to it, [width, BINS]."""
    activations = found.scans.activations[:, place]
    active = np.nonzero(activations > 0)
    latent, activation = found.scans.latents[:, place][active], activations[active]
    most = np.zeros(width, dtype=np.float32)
    np.maximum.at(most, latent, activation)
    place_of = np.minimum((activation / most[latent] * BINS).astype(np.int64), BINS - 1)
    return most, np.bincount(latent * BINS + place_of, minlength=width * BINS).reshape(width, BINS)


class _Said(NamedTuple):
    """Latents and words that are active together, and how often, a value a pair."""

    latent: Ints
    word: Ints
    hits: Ints


def _said(latent: Ints, word: Ints, n_words: int) -> _Said:
    """Ascending by latent and word."""
    key, count = np.unique(latent * n_words + word, return_counts=True)
    return _Said(key // n_words, key % n_words, count)


def _f1(owner: Ints, hits: Ints, said: Ints, active: Ints) -> Floats:
    """Of each latent: hits, said: [n] of its tokens; active: [width] places where it is."""
    width = len(active)
    both = np.bincount(owner, hits, width)
    total = np.bincount(owner, said, width) + active
    return np.divide(2 * both, total, out=np.zeros(width), where=total > 0)


def _quoted(word: str) -> str:
    return f"“{word}”" if word else "a space"
