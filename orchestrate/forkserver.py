"""Stages as forks of one process that has loaded their libraries: to import torch and transformers takes each of them seconds.

`ForkServer` is the orchestrator's side. The server, `python -m ghosttrack.orchestrate.forkserver`, loads libraries, nothing of
a stage, and then runs modules as `python -m` does, each in a child of its own. multiprocessing's fork server would do, did it
not run the caller's `__main__` in every child, which in a user's script is all that the script does.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ghosttrack.common.engine.command import open_streams
from ghosttrack.common.engine.parent import end_with_parent

LIBRARIES = ("torch", "transformers.modeling_utils", "sklearn.linear_model", "matplotlib.figure")
_ACCELERATORS = (Path("/dev/nvidia0"), Path("/dev/kfd"), Path("/dev/dxg"))


def pays(torch_stages: int) -> bool:
    """Whether to start a server. Not beside a GPU: a library that has looked for it must not be forked."""
    return torch_stages > 1 and sys.platform == "linux" and not any(each.exists() for each in _ACCELERATORS)


class ForkServer:
    """A server for commands `python -m MODULE ARGUMENTS…`, one at a time; it never outlives this process."""

    def __init__(self, environment: Mapping[str, str], libraries: Sequence[str] = LIBRARIES) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ghosttrack.orchestrate.forkserver", str(theirs.fileno()), *libraries],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(environment),
                pass_fds=[theirs.fileno()], start_new_session=True, preexec_fn=end_with_parent(),
            )  # fmt: skip

    def fork(
        self, command: Sequence[str], environment: Mapping[str, str], output: int
    ) -> "ForkedChild | None":
        """Start a command with its output to the descriptor `output`; None for one that is not of this kind, or if the server is gone."""
        if list(command[:2]) != [sys.executable, "-m"]:
            return None
        order = json.dumps({"module": command[2], "arguments": command[3:], "environment": dict(environment)})
        try:
            socket.send_fds(self._connection, [order.encode()], [output])
            answer = self._connection.recv(64)
        except OSError:
            return None
        # a code without a process before it: the child ended before it was one of its own
        kind, _, number = answer.decode().partition(" ")
        return ForkedChild(int(number), self._connection) if kind == "process" else None

    def close(self) -> None:
        self._connection.close()
        self._process.wait()


class ForkedChild:
    """What there is of subprocess.Popen for a process that another process has started."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a stage", timeout or 0)
        return code

    def _look(self, seconds: float | None) -> int | None:
        if self._code is None and select.select([self._connection], [], [], seconds)[0]:
            answer = self._connection.recv(64).decode()
            # nothing: the server is gone, the child with it
            self._code = int(answer.removeprefix("code ")) if answer else -signal.SIGKILL
        return self._code


def _serve(connection: socket.socket) -> tuple[bytes, int] | None:
    """Forks a child for each order; returns the order and the descriptor of its output in a child, None at the end."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 1)
        if not order:
            return None
        pid = os.fork()
        if pid == 0:
            return order, descriptors[0]
        os.close(descriptors[0])
        _, status = os.waitpid(pid, 0)
        connection.send(f"code {os.waitstatus_to_exitcode(status)}".encode())


def _main() -> None:
    open_streams()  # while standard output is what it was opened as
    connection = socket.socket(fileno=int(sys.argv[1]))
    for library in sys.argv[2:]:
        importlib.import_module(library)
    gc.freeze()  # what is loaded stays one memory for all children
    served = _serve(connection)
    if served is None:
        return
    order, output = json.loads(served[0]), served[1]
    if end := end_with_parent():
        end()
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(order["environment"])
    connection.send(f"process {os.getpid()}".encode())
    connection.close()
    sys.argv[1:] = order["arguments"]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
