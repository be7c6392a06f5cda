"""Changes that happen whole or not at all, killed at each of their changes of files."""

from pathlib import Path

from ghosttrack.common.engine import atomic
from tests.faults.injection import run


def test_a_folder_is_the_old_one_or_the_new_one_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "place"

    def write(content: str) -> int:
        with atomic.folder(place / "folder") as new:
            for name in ("a", "b"):
                (new / name).write_text(content)
        return 0

    def content() -> set[str]:
        return {file.read_text() for file in (place / "folder").iterdir()}

    write("0")
    total = run(lambda: write("1"), tmp_path).operations
    assert total >= 8
    for at in range(total):
        before = content()
        assert run(lambda at=at: write(str(at)), tmp_path, at).code == -9  # type: ignore[misc]
        if (place / "folder").exists():  # it is not for the moment between two renames
            assert content() in (before, {str(at)})
        write(f"again {at}")
        assert content() == {f"again {at}"}
        assert [path.name for path in place.iterdir()] == ["folder"]


def test_what_fails_on_the_way_to_a_new_folder_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_text("old")
    try:
        with atomic.folder(tmp_path / "folder") as new:
            (new / "a").write_text("new")
            raise OSError("full")
    except OSError:
        assert (tmp_path / "folder/a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
