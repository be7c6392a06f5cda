"""Real images, for `pytest -m apptainer` (`tests/components.py`)."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apptainer.build_module import REPOSITORY, build
from tests.components import missing
from tests.slurm.whole import NUMERIC_LIBRARIES


@dataclass(frozen=True)
class Image:
    """A built image; calls run it shut off from this machine but for what is bound."""

    file: Path

    def __call__(self, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return self.apptainer("run", "--cleanenv", "--containall", "--no-home", *options, arguments=arguments)

    def apptainer(
        self, action: str, *options: str, arguments: tuple[str, ...] = (), folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        # Root in a container or virtual machine may lack a capability that Apptainer asks for outside a namespace.
        namespace = ["--userns"] if build.is_restricted_root() and action in ("run", "exec", "test") else []
        command = ["apptainer", "--silent", action, *namespace, *options, str(self.file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="session")
def image() -> Callable[[str], Image]:
    """Gives a stage's image, built if it is missing or out of date."""
    if shutil.which("apptainer") is None:
        missing("apptainer", "apptainer is not installed")

    @functools.cache
    def get(stage: str) -> Image:
        build_image(stage)
        return Image(REPOSITORY / "stages" / f"{stage}.sif")

    return get


def build_image(stage: str) -> str:
    """Build a stage's image unless it is up to date; what the builder said."""
    done = subprocess.run([sys.executable, "apptainer/build.py", stage], cwd=REPOSITORY, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def numeric_environment() -> tuple[str, ...]:
    """Options that give the image this machine's settings of numeric libraries, on which last digits depend."""
    return tuple(
        option
        for name, value in os.environ.items()
        if name.startswith(NUMERIC_LIBRARIES)
        for option in ("--env", f"{name}={value}")
    )
