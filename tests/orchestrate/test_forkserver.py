"""Commands as forks of a server: what they print, how they end, and that nothing outlives what started it."""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghosttrack.orchestrate import forkserver
from ghosttrack.orchestrate.child import run_child
from ghosttrack.orchestrate.forkserver import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, as Linux does them")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with contextlib.closing(ForkServer(os.environ, ["colorsys"])) as started:
        yield started


def run(server: ForkServer, folder: Path, text: str, **environment: str) -> tuple[int, str]:
    log = io.StringIO()
    (folder / "start.py").write_text(text)
    command = [sys.executable, "-m", "tests.orchestrate.started", str(folder / "start.py"), "two words"]
    return run_child(command, {**os.environ, **environment}, log, server), log.getvalue()


def test_a_fork_is_as_a_process_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    code, said = run(
        server, tmp_path,
        "import os, sys\nprint('colorsys' in sys.modules, sys.argv[1:], os.environ['COLOUR'], os.getsid(0) == os.getpid())\n"
        "print('error', file=sys.stderr)\nraise SystemExit(17)",
        COLOUR="grün",
    )  # fmt: skip
    assert code == 17
    assert said.splitlines() == ["True ['two words'] grün True", "error"]


def test_one_after_another_and_nothing_of_one_in_the_next(server: ForkServer, tmp_path: Path) -> None:
    text = "import os, builtins\nprint(hasattr(builtins, 'left'), os.environ.get('LEFT'))\nbuiltins.left = os.environ['LEFT'] = '1'"
    assert [run(server, tmp_path, text) for _ in range(2)] == [(0, "False None\n")] * 2


def test_a_killed_fork_is_known_for_it_and_the_server_goes_on(server: ForkServer, tmp_path: Path) -> None:
    assert run(server, tmp_path, "import os\nos.kill(os.getpid(), 9)")[0] == -signal.SIGKILL
    assert run(server, tmp_path, "raise ValueError('told')")[0] == 1
    assert run(server, tmp_path, "print('there')") == (0, "there\n")


def test_what_is_no_module_and_what_finds_no_server_runs_by_itself(tmp_path: Path) -> None:
    server = ForkServer(os.environ, ["colorsys"])
    server.close()
    assert run(server, tmp_path, "import sys\nprint('colorsys' in sys.modules)") == (0, "False\n")
    log = io.StringIO()
    assert run_child(["echo", "plain"], os.environ, log, server) == 0
    assert log.getvalue() == "plain\n"


def test_a_fork_ends_with_its_server(tmp_path: Path) -> None:
    server = ForkServer(os.environ, ["colorsys"])
    reader, writer = os.pipe()
    (tmp_path / "start.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)")
    child = server.fork(
        [sys.executable, "-m", "tests.orchestrate.started", str(tmp_path / "start.py")], os.environ, writer
    )
    assert child is not None
    assert os.read(reader, 1) == b"u"  # it runs
    assert child.poll() is None
    os.kill(server._process.pid, signal.SIGKILL)
    assert child.wait(120) == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and Path(f"/proc/{child.pid}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize(
    ("stages", "device", "start"), [(1, False, False), (2, False, True), (4, True, False)]
)
def test_it_pays_for_several_stages_and_beside_no_gpu(
    stages: int, device: bool, start: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forkserver, "_ACCELERATORS", (tmp_path if device else tmp_path / "none",))
    assert forkserver.pays(stages) is start
