"""`ghosttrack track validate`: what it says and how it ends, for every outcome of the four questions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import expand, load_contract
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate import cli
from ghosttrack.orchestrate.local import LocalExecutor
from tests.stages.extract.corpora import STAGES, publish


@pytest.mark.parametrize(
    ("verdicts", "code", "said"),
    [
        ({"scenes": True, "life": True}, None, "small: 2 of 2 passed"),
        ({"scenes": True, "life": None}, None, "small: 1 of 2 passed. not told: life"),
        ({"scenes": False, "life": None}, 1, "small: 0 of 2 passed. FAILED: scenes. not told: life"),
    ],
)
def test_a_failure_is_told_and_ends_with_exit_code_1(
    verdicts: dict[str, bool | None],
    code: int | None,
    said: str,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_config()
    config = load_config(str(file), environ={})
    units = {unit.name: unit for unit in expand(load_contract(STAGES / "track"), config)}
    report = {
        "schema_version": 2,
        "verdicts": [{"question": name, "passed": passed} for name, passed in verdicts.items()],
    }

    def write(out: Path) -> None:
        (out / "validation.json").write_text(json.dumps(report))
        (out / "validation.md").write_text("# The report\n")

    publish(Store(config.paths.root), units["validation"], write)
    monkeypatch.setattr(LocalExecutor, "run_stage", lambda *_: None)
    assert cli.ghosttrack.main(["track", "validate", str(file)], standalone_mode=False) == code
    output = capsys.readouterr().out
    assert "# The report" in output
    assert said in output
