"""`ghosttrack dashboard`, `export` and `crate`: the stage's work, its words and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import ghosttrack
from tests.stages.report.synthetic import make_run


@pytest.fixture
def config(write_config: Callable[..., Path], tmp_path: Path) -> Path:
    make_run(tmp_path / "root", "small", questions=6)
    return write_config()


@pytest.mark.slow
def test_each_command_says_where_its_result_is(config: Path, tmp_path: Path) -> None:
    done = ghosttrack("dashboard", config, cwd=tmp_path)
    page = tmp_path / "root/results/small/dashboard.html"
    assert str(page) in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    done = ghosttrack("export", config, "--output", "paper/results", cwd=tmp_path)
    assert "paper/results: " in done.stdout
    assert (tmp_path / "paper/results/macros.tex").exists()
    done = ghosttrack("crate", config, cwd=tmp_path)
    assert "ro-crate-metadata.json" in done.stdout
    assert json.loads((tmp_path / "crate/small/ro-crate-metadata.json").read_text())["@graph"]


@pytest.mark.slow
def test_a_tampered_result_ends_with_one_line_and_its_exit_code(config: Path, tmp_path: Path) -> None:
    [file] = (tmp_path / "root/.store/evaluate").glob("*/final_report.json")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("0.66", "0.99"))
    for command in ("dashboard", "export"):
        [line] = ghosttrack(command, config, code=14, cwd=tmp_path).stderr.splitlines()
        assert "final_report.json" in line
    assert not (tmp_path / "root/results/small/dashboard.html").exists()


def test_nothing_to_show(write_config: Callable[..., Path], tmp_path: Path) -> None:
    assert "small has no results" in ghosttrack("dashboard", write_config(), code=13, cwd=tmp_path).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux")
def test_a_server_ends_with_the_command_that_started_it(tmp_path):
    program = "from ghosttrack.orchestrate import showing; showing._child([], 'waits')"
    (tmp_path / "waits.py").write_text(
        "import time; print('here', flush=True); time.sleep(60)", encoding="utf-8"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert command.stdout
    assert command.stdout.readline() == "here\n"
    command.kill()
    command.communicate(timeout=30)  # to the end of the pipe, whose other end the child has too
