"""Where answers part from right ones, and whom a token speaks for there; values by hand."""

import pytest

from ghosttrack.common.maths.parting import RIGHT, RIVAL, SAID, contestants, parting, side


@pytest.mark.parametrize(
    ("tokens", "golds", "place"),
    [
        ([" Al", "mat", "y"], ["astana"], 0),
        ([" Jordan", "ian", " y", "en"], ["jordanian dinar"], 2),
        ([" ", "1", "9", "9", "1"], ["1981"], 3),
        ([" Port", " Louis"], ["lisbon", "port moresby"], 1),
        ([" Guatemala"], ["guatemala city"], 1),  # it stops too soon
        ([" Niger", "ia"], ["niger"], 1),
        ([], ["niger"], 0),
    ],
)
def test_the_token_at_which_an_answer_parts_from_every_right_one(tokens, golds, place):
    assert parting(tokens, golds) == place


@pytest.mark.parametrize(
    ("text", "so_far", "rest", "golds", "wanted"),
    [
        (" Ast", "", " Almaty", ["astana"], RIGHT),
        (" A", "", " Almaty", ["astana"], SAID),  # begins both
        (" Kh", "", " Almaty", ["astana"], RIVAL),
        ("astana", "", " Almaty", ["astana"], RIGHT),
        ("1", "", " 1991", ["1981"], SAID),
        ("8", " 19", "91", ["1981"], RIGHT),
        ("7", " 19", "91", ["1981"], RIVAL),
        ("g", " Brid", "getown", ["bridgetown"], SAID),  # a right answer is no rival of itself
        (" paris", "", " Paris", ["paris"], SAID),
        (" Niger", "", " Nigeria", ["niger"], RIGHT),  # whole, though Nigeria begins so
        (" City", " Guatemala", "", ["guatemala city"], RIGHT),
        ("\n", " Niger", "ia", ["niger"], RIGHT),  # it should have ended
        (".", " Paris", "", ["paris"], SAID),
        (" ", "", " Paris", ["rome"], RIVAL),
        ("", "", "", [""], SAID),
    ],
)
def test_whom_a_token_speaks_for(text, so_far, rest, golds, wanted):
    assert side(text, so_far, rest, golds) == wanted


def test_an_answer_is_set_against_the_likeliest_right_and_the_likeliest_wrong_candidate():
    tokens, golds = [" Al", "mat", "y"], ["astana", "nur-sultan"]
    assert contestants([" Al", " A", " Kh", " Nur", " Ast"], tokens, 0, golds) == (3, 2)
    assert contestants([" Al", " Kh", " Q"], tokens, 0, golds) == (-1, 1)
    assert contestants([" Al"], tokens, 0, golds) == (-1, -1)
    assert contestants([" y", " din", " pound"], [" Jordan", "ian", " y", "en"], 2, ["jordanian dinar"]) == (
        1,
        2,
    )
