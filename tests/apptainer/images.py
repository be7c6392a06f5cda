"""The images of all stages, built once for the tests of a session."""

import functools
import shutil
from pathlib import Path

from tests.apptainer.build_module import REPOSITORY, build
from tests.components import missing


@functools.cache
def built() -> Path:
    """The folder of the images, which are up to date. Skips, or fails in CI, where there is no Apptainer."""
    if shutil.which("apptainer") is None:
        missing("apptainer", "apptainer is not installed")
    assert build.main([]) == 0
    return REPOSITORY / "stages"
