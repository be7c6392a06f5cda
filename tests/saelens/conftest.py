"""The tests on the real sae-lens run only where they are asked for: `pytest -m saelens`.

It lives in an environment of its own, `.venv-saelens` (`.ci/install-saelens`). Where that is missing they skip; with
GHOSTTRACK_REQUIRE_SAELENS=1 they fail instead.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-saelens/bin/python"
THERE = Path(__file__).with_name("there.py")
Command = Callable[..., None]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "saelens" in (config.option.markexpr or ""):
        return
    asleep = [item for item in items if item.get_closest_marker("saelens")]
    if asleep:
        config.hook.pytest_deselected(items=asleep)
        items[:] = [item for item in items if item not in asleep]


@pytest.fixture(scope="session")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs a command of `there.py` with the real sae-lens, in one process for all: it is slow to import."""
    if not PYTHON.exists():
        text = "sae-lens is not installed (.ci/install-saelens)"
        if os.environ.get("GHOSTTRACK_REQUIRE_SAELENS") == "1":
            pytest.fail(f"{text}, and GHOSTTRACK_REQUIRE_SAELENS=1")
        pytest.skip(text)
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
