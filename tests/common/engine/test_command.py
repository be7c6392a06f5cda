"""How a command ends whose standard streams are closed, full, left by their reader, or of an old encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = r"""
import os
import sys
import click
from ghosttrack.common.engine.command import run_command
from ghosttrack.common.errors import ConfigError
@click.command()
@click.argument("how")
def say(how):
    with open(sys.argv[0]) as file:
        assert file.fileno() > 2
    print("1 \u2192 2 \udcff" + " " * 100_000)
    if how == "nowhere":
        os.mkdir("/proc/x")
    if how == "wrong":
        raise ConfigError("it is \u2192 wrong \udcff")
    click.get_current_context().exit(7 if how == "seven" else 0)
run_command(say, "say", "say")
"""
LAST = COMMAND.splitlines()[-1]


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "say.py").write_text(COMMAND)
    return [sys.executable, str(tmp_path / "say.py")]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nothing(program: list[str], closed: str) -> None:
    for how, code in {"well": 0, "seven": 7, "wrong": 10}.items():
        done = subprocess.run(["bash", "-c", f'"$@" {closed}', "x", *program, how], capture_output=True)
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a disk that is always full")
def test_a_full_disk_under_the_output_is_one_line(program: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*program, "well"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 17
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="Linux alone has a folder that takes no files")
def test_a_folder_that_takes_no_files_is_one_line(program: list[str]) -> None:
    done = subprocess.run([*program, "nowhere"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 17
    assert done.stderr.count("\n") == 1
    assert "cannot use /proc/x: it is gone, or nothing can be made there" in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_is_no_fault(program: list[str], stream: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run([*program, "wrong"], **pipes)  # type: ignore[call-overload]
    os.close(writer)
    assert done.returncode == (141 if stream == "stdout" else 10)
    assert not done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_a_question_mark(program: list[str], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*program, "wrong"], capture_output=True, env=environment)
    arrow = "\u2192" if encoding == "utf-8" else "?"
    assert done.returncode == 10
    assert done.stdout.decode(encoding).startswith(f"1 {arrow} 2 ?")
    assert done.stderr.startswith(b"say: error: it is ")


ABORTS = r"""
import atexit, ctypes
libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)
atexit.register(print, "all is put away")
"""


@pytest.mark.parametrize(("how", "code"), [("well", 0), ("seven", 7), ("wrong", 10)])
def test_work_that_is_done_is_not_undone_by_libraries_that_abort_as_they_are_taken_down(
    program: list[str], how: str, code: int
) -> None:
    file = Path(program[1])
    for last, ends in {
        LAST: -6,
        f"from ghosttrack.common.engine.command import end_after\nend_after(lambda: {LAST})": code,
    }.items():
        file.write_text(ABORTS + COMMAND.replace(LAST, last))
        done = subprocess.run([*program, how], capture_output=True, text=True, errors="replace")
        assert done.returncode == ends
        assert done.stdout.startswith("1 ")
        assert done.stdout.endswith("all is put away\n")
        assert ("it is" in done.stderr) == (how == "wrong")


def test_a_profiler_around_the_work_writes_what_it_saw(program: list[str], tmp_path: Path) -> None:
    ends = f"from ghosttrack.common.engine.command import end_after\nend_after(lambda: {LAST})"
    Path(program[1]).write_text(COMMAND.replace(LAST, ends))
    saw = tmp_path / "saw"
    command = [program[0], "-m", "cProfile", "-o", str(saw), program[1], "well"]
    subprocess.run(command, capture_output=True, check=True)
    assert saw.stat().st_size
