"""The packed corpus: rows, segments, budgets, the held-out split."""

import numpy as np
import pytest

from ghosttrack.common.errors import DataError
from ghosttrack.common.maths.seeds import generator
from ghosttrack.stages.prepare.packing import PROMPT, PROSE, PackedCorpus, build, cut_to_budget, pack, split


def words_to_numbers(texts: list[str]) -> list[list[int]]:
    return [[int(word) for word in text.split()] for text in texts]


def document(first: int, length: int) -> str:
    return " ".join(str(first + i) for i in range(length))


TEXTS = [document(1000 * i, length) for i, length in enumerate([5, 200, 33, 90, 12, 64, 300, 7, 150, 41])]
PROMPTS = [document(100_000 + 100 * i, 11 + i % 5) for i in range(40)]


def corpus(**changes: object) -> PackedCorpus:
    settings = {
        "max_tokens": 600, "row_length": 32, "prompt_fraction": 0.3, "held_out_fraction": 0.2, "seed": 0
    }  # fmt: skip
    return build(TEXTS, PROMPTS, words_to_numbers, **{**settings, **changes})  # type: ignore[arg-type]


def segments(packed: PackedCorpus) -> list[tuple[int, list[int], int]]:
    """(document, tokens, start) of each segment, found by walking the stream token by token."""
    found: list[tuple[int, list[int], int]] = []
    for index, (token, doc, position) in enumerate(
        zip(packed.tokens.tolist(), packed.doc.tolist(), packed.position.tolist(), strict=True)
    ):
        if position == 0:
            found.append((doc, [], index))
        assert found[-1][0] == doc
        assert len(found[-1][1]) == position
        found[-1][1].append(token)
    return found


@pytest.mark.parametrize("length", [8, 32, 50])
def test_segments_stay_in_their_row_and_in_the_order_of_their_document(length: int) -> None:
    packed = corpus(row_length=length)
    texts: dict[int, list[int]] = {}
    for doc, tokens, start in segments(packed):
        assert start // length == (start + len(tokens) - 1) // length
        texts.setdefault(doc, []).extend(tokens)
    whole = words_to_numbers([*TEXTS, *PROMPTS])
    for doc, tokens in texts.items():
        if packed.kind[doc] == PROSE:
            assert any(source[: len(tokens)] == tokens for source in whole)
        else:
            assert any(source[-len(tokens) :] == tokens for source in whole)


BOS = 7


def with_bos(texts: list[str]) -> list[list[int]]:
    return [[BOS, *tokens] for tokens in words_to_numbers(texts)]


@pytest.mark.parametrize(("length", "share"), [(2, 0.3), (8, 0.3), (32, 0.3), (50, 0.9)])
def test_every_segment_begins_as_the_model_was_trained_and_no_word_is_lost(length: int, share: float) -> None:
    packed = build(
        TEXTS, PROMPTS, with_bos, max_tokens=600, row_length=length, prompt_fraction=share, held_out_fraction=0.2, seed=0,
        beginning=[BOS],
    )  # fmt: skip
    assert 600 - 600 // length - length <= len(packed.tokens) <= 600
    texts: dict[int, list[int]] = {}
    for doc, tokens, start in segments(packed):
        assert tokens[0] == BOS
        assert BOS not in tokens[1:]
        assert start // length == (start + len(tokens) - 1) // length
        texts.setdefault(doc, []).extend(tokens[1:])
    assert any(count > 1 for count in np.bincount([doc for doc, _, _ in segments(packed)]))  # some go on
    whole = words_to_numbers([*TEXTS, *PROMPTS])
    for doc, words in texts.items():
        if packed.kind[doc] == PROSE:
            assert any(source[: len(words)] == words for source in whole)
        else:
            assert any(source[len(source) - len(words) :] == words for source in whole)


def test_prompts_are_whole_when_prose_can_fill_the_gaps() -> None:
    packed = corpus()
    prompts = {tuple(tokens) for tokens in words_to_numbers(PROMPTS)}
    pieces = [tuple(tokens) for doc, tokens, _ in segments(packed) if packed.kind[doc] == PROMPT]
    assert pieces
    assert set(pieces) <= prompts


def test_the_budget_is_met_exactly_and_prompts_have_their_share() -> None:
    packed = corpus()
    assert len(packed.tokens) == 600
    share = float((packed.kind[packed.doc.long()] == PROMPT).float().mean())
    assert 0.3 - 15 / 600 <= share <= 0.3


def test_all_tokens_are_kept_when_the_text_ends_first() -> None:
    packed = corpus(max_tokens=100_000, prompt_fraction=0.5)
    expected = sorted(token for text in [*TEXTS, *PROMPTS] for token in words_to_numbers([text])[0])
    assert sorted(packed.tokens.tolist()) == expected


def test_no_document_dominates() -> None:
    packed = build(
        [document(0, 50_000), *(document(100_000 * (i + 1), 2_000) for i in range(60))], [], words_to_numbers,
        max_tokens=40_000, row_length=128, prompt_fraction=0.0, held_out_fraction=0.1, seed=3,
    )  # fmt: skip
    assert np.bincount(packed.doc).max() <= 0.05 * 40_000


def test_the_limit_on_a_document_rises_when_there_is_no_other_text() -> None:
    assert sum(cut_to_budget([100, 100, 5], 60, 20)) == 60
    assert cut_to_budget([100, 100, 5], 1000, 20) == [100, 100, 5]
    assert cut_to_budget([100, 100, 100], 50, 20) == [20, 20, 10]


def test_the_same_seed_packs_the_same() -> None:
    assert corpus().tokens.tolist() == corpus().tokens.tolist()
    assert corpus().tokens.tolist() != corpus(seed=1).tokens.tolist()


def test_the_split_is_by_document_with_both_kinds_on_both_sides() -> None:
    packed = corpus(max_tokens=2000)
    assert packed.held_out.shape == packed.kind.shape
    for kind in (PROSE, PROMPT):
        sides = packed.held_out[packed.kind == kind]
        assert sides.any()
        assert not sides.all()
    texts: dict[bool, set[tuple[int, ...]]] = {True: set(), False: set()}
    for doc, tokens, _ in segments(packed):
        texts[bool(packed.held_out[doc])].add(tuple(tokens))
    assert not texts[True] & texts[False]


def test_equal_texts_are_one_document() -> None:
    texts = [document(0, 40), document(500, 40), document(900, 40)]
    packed = build(
        texts * 3, [PROMPTS[0]] * 5, words_to_numbers,
        max_tokens=10_000, row_length=16, prompt_fraction=0.5, held_out_fraction=0.3, seed=0,
    )  # fmt: skip
    assert packed.kind.tolist() == [PROSE] * 3 + [PROMPT]
    assert packed.duplicates == 6


def test_empty_documents_are_counted() -> None:
    packed = build(
        ["", document(0, 40), " \n", document(500, 40)], [], words_to_numbers,
        max_tokens=10_000, row_length=16, prompt_fraction=0.2, held_out_fraction=0.3, seed=0,
    )  # fmt: skip
    assert packed.skipped_empty == 2
    assert len(packed.kind) == 2


@pytest.mark.parametrize("texts", [[], ["", " "], [document(0, 500)]])
def test_a_corpus_too_small_to_split_says_what_to_change(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"raise data\.max_tokens"):
        build(
            texts, PROMPTS, words_to_numbers,
            max_tokens=600, row_length=32, prompt_fraction=0.2, held_out_fraction=0.1, seed=0,
        )  # fmt: skip


def test_tensors_have_the_types_of_the_file() -> None:
    tensors = corpus().tensors()
    assert {name: str(value.dtype) for name, value in tensors.items()} == {
        "tokens": "torch.int32",
        "doc": "torch.int32",
        "position": "torch.int32",
        "doc_held_out": "torch.bool",
        "doc_kind": "torch.uint8",
    }


def test_a_prompt_longer_than_a_row_keeps_its_end() -> None:
    packed = build(
        TEXTS, [document(100_000, 100)], words_to_numbers,
        max_tokens=800, row_length=32, prompt_fraction=0.5, held_out_fraction=0.2, seed=0,
    )  # fmt: skip
    (index,) = (packed.kind == PROMPT).nonzero().flatten().tolist()
    assert packed.tokens[packed.doc == index].tolist() == list(range(100_068, 100_100))


def test_with_no_prose_left_a_prompt_loses_its_beginning() -> None:
    tokens, doc, position = pack([[1, 2]], [[10, 11, 12], [20, 21, 22]], 4, generator(0))
    assert len(tokens) == len(doc) == len(position)
    assert 12 in tokens
    assert 22 in tokens


@pytest.mark.parametrize(
    ("n", "fraction", "expected"), [(100, 0.1, 10), (2, 0.01, 1), (3, 0.99, 2), (1, 0.5, 0)]
)
def test_the_split_leaves_something_on_each_side(n: int, fraction: float, expected: int) -> None:
    assert split(n, fraction, generator(0)).sum() == expected
