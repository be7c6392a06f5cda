"""Commands run to their end, each in a process of its own, as a user's are."""

import subprocess
import sys
from typing import Any

Done = subprocess.CompletedProcess[str]


def python(*arguments: object, code: int = 0, **options: Any) -> Done:
    """Run Python with these arguments; fails where its exit code is another than `code`. options: of `subprocess.run`."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def ghosttrack(*arguments: object, code: int = 0, **options: Any) -> Done:
    """The same of the `ghosttrack` command."""
    return python("-m", "ghosttrack.orchestrate", *arguments, code=code, **options)
