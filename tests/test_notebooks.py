"""The notebooks of docs/notebooks run from top to bottom in the folder of the stub run."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipeline import CODE, Pipeline

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((CODE / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(stub_run: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the stub run, in which they may write."""
    root = tmp_path_factory.mktemp("notebooks") / "root"
    shutil.copytree(stub_run.root, root, symlinks=True)
    return root


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_pictures(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CODE / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    html = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    assert "image/png" in shown or "data:image/png" in html


def test_the_notebooks_are_kept_with_their_pictures() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert "image/png" in text, f"{path}: run it and keep its output"
        assert "Traceback" not in text
