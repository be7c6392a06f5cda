"""The identity of a stage's code changes with what makes results, and with nothing else."""

import time
from pathlib import Path

import pytest

from ghosttrack.common.engine import code
from ghosttrack.common.engine.code import code_digest, parts_of
from ghosttrack.common.engine.contract import STAGES_FOLDER
from tests.commands import python


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage that imports common.a, which imports common.b.c; common.other is imported by nobody."""
    common = tmp_path / "common"
    (common / "b").mkdir(parents=True)
    (common / "a.py").write_text(
        "from ghosttrack.common.b import (\n    c,  # a module\n    name as other,\n)\n"
    )
    (common / "b" / "__init__.py").touch()
    (common / "b" / "c.py").write_text("import ghosttrack.common.a\nVALUE = 1\n")
    (common / "other.py").write_text("VALUE = 1\n")
    folder = tmp_path / "stages" / "weigh"
    folder.mkdir(parents=True)
    (folder / "run.py").write_text("def run(job):\n    from ghosttrack.common.a import x\n")
    (folder / "contract.yaml").write_text("stage: weigh\n")
    monkeypatch.setattr(code, "package_folder", tmp_path.joinpath)
    return folder


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("stages/weigh/run.py", True),
        ("stages/weigh/words.json", True),
        ("common/a.py", True),
        ("common/b/c.py", True),
        ("common/b/__init__.py", True),
        ("common/other.py", False),
        ("stages/weigh/contract.yaml", False),
        ("stages/weigh/costs.py", False),
        ("stages/weigh/__pycache__/run.pyc", False),
        ("stages/weigh/.run.py.swp", False),
    ],
)
def test_what_it_is_made_of(stage: Path, tmp_path: Path, file: str, counts: bool) -> None:
    before = code_digest(stage)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "# changed\n")
    assert (code_digest(stage) != before) == counts


def test_it_is_the_same_wherever_it_lies(stage: Path, tmp_path: Path) -> None:
    before = code_digest(stage)
    moved = tmp_path / "elsewhere" / "weigh"
    moved.parent.mkdir()
    stage.rename(moved)
    assert code_digest(moved) == before
    assert code_digest(stage) == ""


def test_of_all_stages_it_is_quick_and_different() -> None:
    folders = [path.parent for path in STAGES_FOLDER.glob("*/contract.yaml")]
    digests = {code_digest(folder) for folder in folders}
    assert len(digests) == len(folders)

    def seconds() -> float:
        start = time.process_time()
        for folder in folders:
            code_digest(folder)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.3


def test_it_finds_what_a_run_loads() -> None:
    """Every module of common that `stages/evaluate/run.py` brings with it counts."""
    program = (
        "import sys, ghosttrack.stages.evaluate.run;"
        "print(*[name for name in sys.modules if name.startswith('ghosttrack.common.')])"
    )
    loaded = python("-c", program).stdout.split()
    assert len(loaded) > 10
    assert set(loaded) <= parts_of(STAGES_FOLDER / "evaluate").keys()
