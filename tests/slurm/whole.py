"""Whole pipelines of the real stages on the test cluster: the site, and the command."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests import commands

CODE = Path(__file__).parents[2]
NUMERIC_LIBRARIES = ("OPENBLAS_", "OMP_", "MKL_")
"""What variables of theirs begin with: they choose kernels, and with them the last bits."""


def profile(folder: Path, **changes: object) -> Path:
    """A site whose jobs compute with one thread and the same kernels as the runs that they are compared with."""
    kernels = {name: value for name, value in os.environ.items() if name.startswith(NUMERIC_LIBRARIES)}
    settings = {
        "environment": kernels | {"OMP_NUM_THREADS": "1"},
        "resources": {"default": {"cpus": 4, "memory": "8G", "time": "1:00:00"}},
        **changes,
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def ghosttrack(*arguments: str, folder: Path = CODE) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CODE / "src"), "OMP_NUM_THREADS": "1"}
    return commands.ghosttrack(*arguments, cwd=folder, env=environment).stdout


def sets(values: Sequence[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]
