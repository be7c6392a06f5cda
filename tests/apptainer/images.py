"""The images of all stages, built once for the tests of a session."""

import functools
import os
import shutil
from pathlib import Path

import pytest

from tests.apptainer.build_module import REPOSITORY, build


@functools.cache
def built() -> Path:
    """The folder of the images, which are up to date. Skips, or fails in CI, where there is no Apptainer."""
    if shutil.which("apptainer") is None:
        if os.environ.get("GHOSTTRACK_REQUIRE_APPTAINER") == "1":
            pytest.fail("apptainer is not installed, and GHOSTTRACK_REQUIRE_APPTAINER=1")
        pytest.skip("apptainer is not installed")
    assert build.main([]) == 0
    return REPOSITORY / "stages"
