"""The benchmarks' own arithmetic; what they measure is measured by running them."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.large import told
from benchmarks.pipeline import FIGURES, against

STAND_IN = """
import json, pathlib, sys
seen = pathlib.Path({log!r})
seen.write_text(seen.read_text() + "{name} " + " ".join(sys.argv[1:]) + "\\n")
print("what it says on the way")
print(json.dumps(dict.fromkeys({figures!r}, {value} * len(seen.read_text().splitlines()))))
"""


def test_a_commit_and_the_tree_are_measured_in_turn_and_compared_by_round(tmp_path: Path) -> None:
    tree, log = tmp_path / "tree", tmp_path / "log"
    (tree / "benchmarks").mkdir(parents=True)
    log.write_text("")

    def write(name: str, value: float) -> None:
        text = STAND_IN.format(log=str(log), name=name, figures=FIGURES, value=value)
        (tree / "benchmarks" / "pipeline.py").write_text(text)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", str(tree), *who, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout

    write("old", 4.0)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "before")
    write("new", 1.0)  # not committed: the tree as it stands
    found = against(tree, "HEAD", 3, ["--quick"])
    assert log.read_text().split("\n")[:-1] == [
        f"{who} --quick" for who in ("old", "new", "new", "old", "old", "new")
    ]
    # The stand-in says its value times how many runs there were: 4, 2; 16, 3; 20, 6.
    assert found["demo_seconds"] == {"before": 16.0, "after": 3.0, "ratio": 0.3}
    assert set(FIGURES) < set(found)
    assert git("worktree", "list").count("\n") == 1  # nothing is left of the other


def test_what_a_large_run_takes_follows_from_the_line_through_the_last_sizes() -> None:
    found = told([(1000, 0.5, 2.0), (2000, 0.6, 4.0), (4000, 0.8, 8.0)], "detect/all")
    assert found["seconds_exponent"] == 1.0
    assert found["seconds_at_100000"] == pytest.approx(200.0)
    assert found["gb_at_100000"] == pytest.approx(10.4)
