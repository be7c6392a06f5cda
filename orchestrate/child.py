"""A child process whose output is shown as it comes and kept in a log.

On a terminal the child gets a pseudo-terminal, so that its progress bars are drawn as if it had the
terminal to itself; the log keeps each bar's last state only. Elsewhere it gets a pipe and prints
plain lines. The child never outlives this process.
"""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from typing import TextIO

from ghosttrack.common.engine.parent import end_with_parent
from ghosttrack.orchestrate.forkserver import ForkedChild, ForkServer

PATIENCE = 30.0
"""Seconds that a child has to end after Ctrl-C before it is killed."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_child(
    command: Sequence[str], environment: Mapping[str, str], log: TextIO, server: ForkServer | None = None
) -> int:
    """Run a command to its end, as a fork of the server where it can; its exit code, or minus the signal that ended it.

    Ctrl-C is passed on to the child, which is waited for, and then raised again.
    """
    keep = LogLines(log)
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        reader, writer = pty.openpty()
        _copy_window_size(writer)
    else:
        reader, writer = os.pipe()
    child = (server and server.fork(command, environment, writer)) or subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=dict(environment),
        start_new_session=True, preexec_fn=end_with_parent(),
    )  # fmt: skip
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def pump() -> None:
        while True:
            if on_terminal:
                _copy_window_size(reader)
            if not select.select([reader], [], [], 0.5)[0]:
                if child.poll() is not None:  # what the child has started may still hold the other end
                    return
                continue
            try:
                block = os.read(reader, 1 << 16)
            except OSError:  # Linux's way to say that the other end of a pseudo-terminal is closed
                return
            if not block:
                return
            text = decoder.decode(block)
            sys.stdout.write(text)
            sys.stdout.flush()
            keep.write(text)

    try:
        os.close(writer)
        try:
            pump()
        except KeyboardInterrupt:
            _signal(child, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                pump()
                child.wait(PATIENCE)
            raise
        return child.wait()
    finally:
        if child.poll() is None:
            _signal(child, signal.SIGKILL)
            child.wait()
        os.close(reader)
        keep.close()


def ending(code: int) -> str:
    """How a process ended, by its exit code or minus the signal that ended it."""
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


class LogLines:
    """Writes text to a log a line at a time: of a line that was drawn over, its last state; no colours."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._line = ""

    def write(self, text: str) -> None:
        *finished, self._line = (self._line + text).split("\n")
        for line in finished:
            self._log.write(self._plain(line) + "\n")
        if "\r" in self._line:
            self._line = "\r".join(self._line.rsplit("\r", 2)[-2:])
        self._log.flush()

    def close(self) -> None:
        if self._line:
            self._log.write(self._plain(self._line) + "\n")
            self._log.flush()

    @staticmethod
    def _plain(line: str) -> str:
        drawn = [part for part in _ESCAPES.sub("", line).split("\r") if part]
        return drawn[-1].rstrip() if drawn else ""


def _copy_window_size(descriptor: int) -> None:
    columns, lines = shutil.get_terminal_size()
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _signal(child: "subprocess.Popen[bytes] | ForkedChild", number: signal.Signals) -> None:
    """Send a signal to the child and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
