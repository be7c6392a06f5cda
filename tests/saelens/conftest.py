"""The real sae-lens, for `pytest -m saelens` (`tests/components.py`): in an environment of its own, `.venv-saelens`
(`.ci/install-saelens`)."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.components import missing

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-saelens/bin/python"
THERE = Path(__file__).with_name("there.py")
Command = Callable[..., None]


@pytest.fixture(scope="session")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs a command of `there.py` with the real sae-lens, in one process for all: it is slow to import."""
    if not PYTHON.exists():
        missing("saelens", "sae-lens is not installed (.ci/install-saelens)")
    complaints = tmp_path_factory.mktemp("there") / "stderr"
    with complaints.open("w") as stderr, subprocess.Popen(
        [PYTHON, THERE], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        commands, answers = process.stdin, process.stdout

        def run(*arguments: object) -> None:
            print(json.dumps(list(map(str, arguments))), file=commands, flush=True)
            if "done\n" not in iter(answers.readline, ""):  # the process ended before
                pytest.fail(complaints.read_text())

        yield run
        commands.close()
