"""Where answers part from right ones, and whom a token speaks for there; values by hand."""

import pytest

from ghosttrack.common.maths.parting import RIGHT, RIVAL, SAID, parting, side


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
