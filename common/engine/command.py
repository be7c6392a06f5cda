"""How a command line of ours ends: one clear line for every trouble, and the trouble's exit code."""

import atexit
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from ghosttrack.common.engine.storage_errors import gone, storage_error
from ghosttrack.common.errors import GhostTrackError


def run_command(command: click.Command, name: str, program: str) -> None:
    """Run a command and end the process where it does not succeed (codes: `common/errors.py`).

    name: begins the lines about troubles; program: how the usage line calls the command.
    """
    open_streams()
    stdout = sys.stdout
    try:
        code = command.main(prog_name=program, standalone_mode=False)
        sys.stdout.flush()
        if code:  # of `context.exit(code)`
            sys.exit(code)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        _end(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end(130, f"{name}: interrupted; the next run goes on from here")
    except BrokenPipeError:  # `ghosttrack logs | head`
        _end(141)
    except SystemExit:
        if sys.stdout is not stdout:  # click has put another in its place, since the reader has gone
            _end(141)
        raise
    except Exception as error:
        found = error if isinstance(error, GhostTrackError) else storage_error(error) or gone(error)
        if found is None:
            raise
        _end(found.exit_code, f"{name}: error: {found}")


def end_after(work: Callable[[], None]) -> NoReturn:
    """Do some work and be gone, without taking down the interpreter and what libraries have loaded.

    Their threads may still run, and one that wants the interpreter while it is taken down aborts the process: work that is
    done would be told as failed (pyarrow that read a part of a file, apache/arrow 34314 and 45214).
    """
    try:
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    if sys.getprofile():  # which is around this and has yet to write what it saw
        sys.exit(code)
    atexit._run_exitfuncs()  # what multiprocessing and logging still have to do
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def open_streams() -> None:
    """A standard stream that is closed is nothing, or the next file that is opened would have its number and be printed into;
    what an encoding does not have is shown as a question mark."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def _end(code: int, why: str = "") -> NoReturn:
    """End the process. What a stream that fails still holds goes nowhere, or Python would try again as it ends."""
    with contextlib.suppress(OSError):
        print(why, end="\n" if why else "", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
