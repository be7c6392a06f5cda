"""Questions by their words, and by their characters in scripts that put no space between words."""

import numpy as np
import pytest

from ghosttrack.stages.detect.crossval import score_tfidf

EASY = [
    f"{place}の首都はどこですか" for place in ["日本", "中国", "韓国", "英国", "米国", "仏国", "独国", "露国"]
]
HARD = [
    f"{place}で一番高い山の名前" for place in ["日本", "中国", "韓国", "英国", "米国", "仏国", "独国", "露国"]
]
LABELS = np.array([0.0] * 8 + [1.0] * 8)
INNER = np.arange(16) % 4


@pytest.mark.parametrize("between", ["", " "])
def test_questions_of_two_kinds_are_told_apart_with_and_without_spaces(between: str) -> None:
    train = [between.join(text) for text in [*EASY, *HARD]]
    test = [between.join(text) for text in ("印国の首都はどこですか", "印国で一番高い山の名前")]
    scored = score_tfidf(train, test, LABELS, INNER)
    assert scored.held_out[LABELS == 1].min() > scored.held_out[LABELS == 0].max()
    assert scored.test[1] > scored.test[0]


def test_questions_with_nothing_in_common_are_all_alike() -> None:
    train = [chr(0x4E00 + number) for number in range(16)]
    scored = score_tfidf(train, ["山"], LABELS, INNER)
    assert not scored.held_out.any()
    assert not scored.test.any()
