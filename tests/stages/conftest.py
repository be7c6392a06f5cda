from pathlib import Path

import pytest

from tests.stages.detect import synthetic
from tests.stages.evaluate import scored


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run through detect: folders track, detect."""
    return synthetic.run_all(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up scores through evaluate and report: folders detect, evaluate, report."""
    return scored.run_all(tmp_path_factory.mktemp("scored"))
