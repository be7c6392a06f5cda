"""Seeded rows of the packed corpus."""

import numpy as np
import torch

from ghosttrack.common.formats.corpus import Corpus


def sample_of(corpus: Corpus, length: int, count: int, random: np.random.Generator) -> Corpus:
    """`count` whole rows of `length` tokens, drawn without repeats, in the order of the corpus."""
    drawn = np.sort(random.permutation(len(corpus) // length)[:count])
    return corpus.rows(torch.from_numpy(drawn), length)
