"""The stage's own command: what it reads is verified, as what a unit reads is."""

import os
from pathlib import Path

import pytest

from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.snapshot import CONFIG
from ghosttrack.stages.track.commands import intervene
from ghosttrack.stages.track.intervening import Interventions
from tests.stages.report.synthetic import make_run


@pytest.mark.parametrize("wanted", [GENERATIONS, CONFIG])
def test_a_damaged_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: File
) -> None:
    make_run(tmp_path, "demo", questions=6)
    entry = Store(str(tmp_path)).current("demo", *wanted.unit.split("/"))
    assert entry
    file = entry.file(wanted.name)
    times, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    monkeypatch.setattr(Interventions, "open", lambda model, find, _: find(wanted))
    with pytest.raises(CorruptInputError, match="does not match its manifest"):
        intervene.main(
            ["--config", "demo", "--set", f"paths.root={tmp_path}", "0", "--track", "1"],
            standalone_mode=False,
        )
