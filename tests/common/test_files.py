"""Finding files in folders that other processes change."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.files import found
from ghosttrack.orchestrate.disk import folder_size


@pytest.fixture
def going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of two files in one folder and none in another, which goes once it was seen and before it is looked into."""
    folder = tmp_path / "staging"
    (folder / "a").mkdir(parents=True)
    (folder / "b" / "deep").mkdir(parents=True)
    for name in ("one.json", "two.json"):
        (folder / "a" / name).write_text("{}")
    look = os.scandir

    def gone_first(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path) == folder / "b":
            shutil.rmtree(folder / "b", ignore_errors=True)
        return look(path)

    monkeypatch.setattr(os, "scandir", gone_first)
    yield folder
    assert not (folder / "b").exists()  # else nothing was tried


def test_what_goes_between_being_seen_and_being_looked_into_is_not_found(going: Path) -> None:
    assert [path.name for path in found(going, "*/*.json")] == ["one.json", "two.json"]


def test_the_same_at_any_depth(going: Path) -> None:
    assert [path.name for path in found(going, "**/*.json")] == ["one.json", "two.json"]


def test_a_size_is_told_of_what_is_still_there(going: Path) -> None:
    assert folder_size(going) == sum(path.lstat().st_blocks * 512 for path in (going / "a").iterdir())


def test_nothing_is_found_where_there_is_no_folder(tmp_path: Path) -> None:
    assert found(tmp_path / "not there", "*") == []
