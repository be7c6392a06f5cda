"""A question read again together with the model's answer, at the positions that are tracked: its tokens, where each of
them comes from, and what the blocks write there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from ghosttrack.common.formats.account import SOURCES
from ghosttrack.common.formats.questions import in_chat, prompt_of
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.prompts import encode, encode_question, end_of_subject
from ghosttrack.common.models.reading import Prefix, fork, read_prefix
from ghosttrack.common.models.writes import WriteReader, Writes


class Text(NamedTuple):
    """tokens: prompt and answer; prompt: how many of them are the prompt; kinds: int64 [length], which of SOURCES each is
    to a later token; chosen: int64 [n], places of the tracked positions."""

    tokens: list[int]
    prompt: int
    kinds: Tensor
    chosen: Tensor

    @property
    def sources(self) -> Tensor:
        """Which of SOURCES each token is to each chosen place: int64 [n, length]."""
        itself = torch.arange(len(self.tokens))[None] == self.chosen[:, None]
        return torch.where(itself, SOURCES.index("itself"), self.kinds[None])


def text_of(
    model: LanguageModel, question: Mapping[str, Any], token_ids: Sequence[int], positions: NDArray[np.int64]
) -> Text:
    """A question and its answer as the model reads them again. question: of questions.jsonl; token_ids: of the
    model's answer; positions: those that are tracked, ascending."""
    start = len(question["prefix"])
    prompt = encode_question(model, question)
    length = len(prompt.tokens)
    last = length - 1 if prompt.subject is None else prompt.subject
    end = start + (end_of_subject(question["query"], question["subject"]) or 0)
    first = end - len(question["subject"].strip()) if prompt.subject is not None else end
    kinds = [
        "examples" if stop <= start else "subject" if begin < end and stop > first else "question"
        for begin, stop in encode(model, prompt_of(question), special=not in_chat(question)).offsets
    ]
    numbers = [SOURCES.index(kind) for kind in [*kinds, *["answer"] * len(token_ids)]]
    chosen = np.where(positions < 0, last, length - 1 + positions)
    return Text([*prompt.tokens, *token_ids], length, torch.tensor(numbers), torch.from_numpy(chosen))


class Rereader:
    """Reads texts together, and keeps what they last began with."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._writes = WriteReader(model)
        self._prefix: Prefix | None = None

    @property
    def untold(self) -> dict[int, str]:
        """Block → why what it writes cannot be told, as far as was read."""
        return self._writes.untold

    def prefix(self, texts: Sequence[Text]) -> Prefix:
        """What all texts begin with, short of the places to read at."""
        most = min(int(text.chosen.min()) for text in texts)
        self._prefix = read_prefix(self.model, [text.tokens for text in texts], most, self._prefix)
        return self._prefix

    def writes(self, texts: Sequence[Text], *, by_head: bool = False) -> Writes:
        """What the blocks write at the chosen places of texts, one text after the other."""
        prefix = self.prefix(texts)
        start = len(prefix.tokens)
        tokens = pad_sequence([torch.tensor(text.tokens[start:]) for text in texts], batch_first=True)
        sources = pad_sequence([own for text in texts for own in text.sources], batch_first=True)
        row = torch.repeat_interleave(torch.tensor([len(text.chosen) for text in texts]))
        cache = DynamicCache() if self.model.caches else None
        if prefix.cache is not None:
            cache = fork(prefix.cache, torch.zeros(len(texts), dtype=torch.long))
        place = torch.cat([text.chosen for text in texts]) - start
        return self._writes.read(tokens, cache, (row, place), sources, len(SOURCES), by_head=by_head)
