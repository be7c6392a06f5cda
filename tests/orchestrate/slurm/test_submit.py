"""What can go wrong before anything is submitted."""

import os
import tempfile
from pathlib import Path

import pytest

from ghosttrack.common.errors import StorageError
from ghosttrack.orchestrate.chain import chain_of
from ghosttrack.orchestrate.slurm.submit import setting_of, write_scripts
from tests.common.engine.test_storage import run_in_child
from tests.fake_project import FakeProject

NOBODY = 65534


def test_a_root_that_cannot_be_written_is_one_clear_error(project: FakeProject) -> None:
    request = project.request()
    setting, chain = setting_of(request, {}), chain_of(request.plan())
    for parent in project.root.parents:  # let nobody through pytest's private folders
        if parent.stat().st_uid == os.getuid() and Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(parent.stat().st_mode | 0o055)
    project.root.chmod(0o555)

    def as_nobody() -> None:
        if os.getuid() == 0:  # root may write anywhere
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        with pytest.raises(StorageError, match=r"permission denied.*paths\.root") as raised:
            write_scripts(setting, chain)
        assert raised.value.exit_code == 17

    try:
        run_in_child(as_nobody)
    finally:
        project.root.chmod(0o755)
    assert not (project.root / "runs").exists()
