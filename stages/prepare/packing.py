"""The tokenised corpus as one packed stream: prose documents with unlabelled question prompts mixed in.

Row r of the forward pass is tokens [r·L, (r+1)·L). A segment (a run of one document) never crosses a row;
`position` restarts at 0 with each segment, so that nothing is lost to padding and no document sees another. Every
segment begins with the tokens that the tokenizer puts before every text (BOS), whether its document begins or goes on.
SAEs trained on prose alone fit question prompts badly, hence the prompts.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.errors import DataError
from ghosttrack.common.maths.seeds import generator

PROSE, PROMPT = 0, 1
MOST_SHARE_OF_A_DOCUMENT = 0.05
"""Longer documents are cut, so that a small corpus is not one document."""
_CHARACTERS_A_BATCH = 2_000_000

Tokenize = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class PackedCorpus:
    """tokens, doc, position: [n_tokens] int32. held_out (bool), kind (uint8, PROSE or PROMPT): [n_docs]."""

    tokens: Tensor
    doc: Tensor
    position: Tensor
    held_out: Tensor
    kind: Tensor
    skipped_empty: int
    duplicates: int

    def tensors(self) -> dict[str, Tensor]:
        """As they stand in `corpus.pt`."""
        of_documents = {"doc_held_out": self.held_out, "doc_kind": self.kind}
        return {"tokens": self.tokens, "doc": self.doc, "position": self.position, **of_documents}


def build(
    texts: Sequence[str],
    prompts: Sequence[str],
    tokenize: Tokenize,
    *,
    max_tokens: int,
    row_length: int,
    prompt_fraction: float,
    held_out_fraction: float,
    seed: int,
    beginning: Sequence[int] = (),
) -> PackedCorpus:
    """Shuffle, tokenise, pack and split. At most `max_tokens` tokens; fewer only when the text runs out, or by what is kept
    for the `beginning` of documents that go on in another row, which are the special tokens before every text.

    Prompts are whole, and make up to `prompt_fraction` of `max_tokens`. The held-out split is by document:
    a prompt is a document of its own, and equal texts are one document, so no text is on both sides.
    Raises DataError for a corpus that has not two documents to split.
    """
    asked, _ = _tokenized(
        list(dict.fromkeys(prompts)), tokenize, int(max_tokens * prompt_fraction), None, seed, "prompts"
    )
    asked = [ending(tokens, row_length, beginning) for tokens in asked]
    prose_budget = max_tokens - sum(map(len, asked)) - spent_on_beginnings(max_tokens, row_length, beginning)
    longest = max(row_length, int(prose_budget * MOST_SHARE_OF_A_DOCUMENT))
    prose, counts = _tokenized(texts, tokenize, prose_budget, longest, seed, "prose")
    if len(prose) < 2:
        raise DataError(
            f"the corpus has {len(prose)} document(s) in data.max_tokens = {max_tokens} tokens, and a held-out "
            "split needs at least 2: raise data.max_tokens or give more documents in data.corpus"
        )
    tokens, doc, position = pack(prose, asked, row_length, generator(seed, "order"), beginning)
    parts = (("prose", prose), ("prompts", asked))
    chosen = [split(len(of), held_out_fraction, generator(seed, "held out", name)) for name, of in parts]
    held_out = np.concatenate(chosen)
    kind = np.repeat(np.array([PROSE, PROMPT], dtype=np.uint8), [len(prose), len(asked)])
    return PackedCorpus(
        torch.from_numpy(tokens),
        torch.from_numpy(doc),
        torch.from_numpy(position),
        torch.from_numpy(held_out),
        torch.from_numpy(kind),
        *counts,
    )


def spent_on_beginnings(max_tokens: int, row_length: int, beginning: Sequence[int]) -> int:
    """Tokens at most that are put before documents that go on: one document does in a row."""
    return -(-max_tokens // row_length) * len(beginning)


def ending(tokens: Sequence[int], count: int, beginning: Sequence[int]) -> list[int]:
    """The last tokens of a text, `count` of them with those that it begins with."""
    begins = len(beginning)
    if len(tokens) <= count or not begins or list(tokens[:begins]) != list(beginning):
        return list(tokens[-count:])
    return [*beginning, *tokens[len(tokens) - max(count - begins, 0) :]][:count]


def split(n: int, fraction: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which of n documents are held out: about the fraction, at least one on each side (if n is 2 or more)."""
    held_out = np.zeros(n, dtype=bool)
    if n >= 2:
        count = min(max(1, round(fraction * n)), n - 1)
        held_out[random.permutation(n)[:count]] = True
    return held_out


def pack(
    prose: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    row_length: int,
    random: np.random.Generator,
    beginning: Sequence[int] = (),
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The stream (tokens, doc, position: int32 [n_tokens]) of all documents in random order.

    doc counts prose first, then prompts. A prompt that does not fit into what is left of a row waits for
    the next row, and prose, which may be cut anywhere, fills the gap (so the longest prose comes last); when
    there is no prose left, the prompt loses its first words. `beginning` is put before prose that goes on; where a row has
    no room for more, as much of it as fits fills the row.
    """
    longest = max(range(len(prose)), key=lambda index: len(prose[index]))
    order = random.permutation(len(prose) + len(prompts))
    queue = deque(int(index) for index in order if index != longest)
    queue.append(longest)
    pieces: list[Sequence[int]] = []
    docs: list[int] = []
    used = [0] * len(prose)
    waiting: deque[int] = deque()
    space = row_length
    while queue or waiting:
        index, count = _next_segment(queue, waiting, prose, prompts, used, space, len(beginning))
        if index < len(prose):
            before = list(beginning[:count]) if used[index] else []
            stop = used[index] + count - len(before)
            piece = array("i", [*before, *prose[index][used[index] : stop]])
            used[index] = stop
            if used[index] < len(prose[index]):
                queue.appendleft(index)
        else:
            piece = array("i", ending(prompts[index - len(prose)], count, beginning))
        pieces.append(piece)
        docs.append(index)
        space -= count
        if space == 0:
            space = row_length
    lengths = np.array([len(piece) for piece in pieces])
    starts = np.repeat((np.cumsum(lengths) - lengths).astype(np.int32), lengths)
    tokens = np.fromiter((token for piece in pieces for token in piece), dtype=np.int32, count=lengths.sum())
    position = np.arange(lengths.sum(), dtype=np.int32) - starts
    return tokens, np.repeat(np.array(docs, dtype=np.int32), lengths), position


def _next_segment(
    queue: deque[int],
    waiting: deque[int],
    prose: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    used: Sequence[int],
    space: int,
    begins: int,
) -> tuple[int, int]:
    """The document that goes next, taken from its queue, and how many of its tokens fit into the space."""
    for _ in range(len(waiting)):
        index = waiting.popleft()
        if len(prompts[index - len(prose)]) <= space:
            return index, len(prompts[index - len(prose)])
        waiting.append(index)
    while queue:
        index = queue.popleft()
        if index < len(prose):
            return index, min(space, len(prose[index]) - used[index] + (begins if used[index] else 0))
        length = len(prompts[index - len(prose)])
        if length <= space:
            return index, length
        waiting.append(index)
    index = waiting.popleft()
    return index, min(space, len(prompts[index - len(prose)]))


def _tokenized(
    texts: Sequence[str], tokenize: Tokenize, budget: int, longest: int | None, seed: int, name: str
) -> tuple[list[Sequence[int]], tuple[int, int]]:
    """Documents as tokens, in random order, until the budget is met.

    longest: cut documents here (but see `cut_to_budget`), and the last one to meet the budget exactly;
    None: documents stay whole, and one that does not fit ends the list. Also returns how many empty
    texts and repeats were passed over on the way.
    """
    documents: list[Sequence[int]] = []
    seen: set[str] = set()
    empty = repeats = 0
    left = budget
    order = generator(seed, name).permutation(len(texts))
    for batch in _batches(texts, order, min(5 * budget, _CHARACTERS_A_BATCH)):
        if left <= 0:
            break
        fresh = []
        for text in batch:
            if not text.strip():
                empty += 1
            elif text in seen:
                repeats += 1
            else:
                seen.add(text)
                fresh.append(text)
        for tokens in tokenize(fresh) if fresh else []:
            if left <= 0 or (longest is None and len(tokens) > left):
                left = 0
                break
            if tokens:
                documents.append(array("i", tokens))  # a list takes nine times as much
                left -= min(len(tokens), longest or len(tokens))
    if longest is not None:
        lengths = cut_to_budget([len(tokens) for tokens in documents], budget, longest)
        documents = [tokens[:length] for tokens, length in zip(documents, lengths, strict=True) if length]
    return documents, (empty, repeats)


def cut_to_budget(lengths: Sequence[int], budget: int, longest: int) -> list[int]:
    """How many tokens of each document to keep: at most `longest`, `budget` in all.

    Where the documents end before the budget is met, the limit on one document rises as far as it must.
    """
    while sum(min(length, longest) for length in lengths) < min(budget, sum(lengths)):
        longest += max(1, longest // 8)
    kept = []
    for length in lengths:
        kept.append(min(length, longest, budget))
        budget -= kept[-1]
    return kept


def _batches(texts: Sequence[str], order: NDArray[np.int64], characters: int) -> Iterator[list[str]]:
    """The texts in an order, in batches of at least so many characters, but for the last."""
    batch: list[str] = []
    size = 0
    for index in order:
        text = texts[int(index)] or ""
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
