from pathlib import Path

import pytest

from tests.stages.detect import synthetic


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run through detect, evaluate and report: folders track, detect, evaluate, report."""
    return synthetic.run_all(tmp_path_factory.mktemp("run"))
