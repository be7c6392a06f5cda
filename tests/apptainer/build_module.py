"""Imports apptainer/build.py, which is a program and in no package."""

import importlib.util
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

_spec = importlib.util.spec_from_file_location("ghosttrack_build", REPOSITORY / "apptainer/build.py")
assert _spec is not None
assert _spec.loader is not None
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)
