"""The identity of a stage's code: its own files, and what they import of `ghosttrack.common`, wherever they lie.

Imports are read, not followed at run time, so that no stage is loaded; a file is read again only when its size or time
has changed. Left out is what does not make results: the contract, whose version counts, and the costs.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ghosttrack.common.package import package_folder

PACKAGE = "ghosttrack.common"
LEFT_OUT = {"contract.yaml", "costs.py"}
_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+({re.escape(PACKAGE)}[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+({re.escape(PACKAGE)}[\w.]*))",
    re.MULTILINE,
)


def code_digest(stage_folder: Path) -> str:
    """sha256 over names and contents, the same in a clone, a wheel and an image; "" where there is no such folder."""
    parts = parts_of(stage_folder)
    lines = "".join(f"{name}\0{parts[name]}\n" for name in sorted(parts))
    return hashlib.sha256(lines.encode()).hexdigest() if parts else ""


def parts_of(stage_folder: Path) -> dict[str, str]:
    """File of the stage or module of the package to its sha256."""
    found: dict[str, str] = {}
    waiting: set[str] = set()
    for path in stage_folder.rglob("*"):
        relative = path.relative_to(stage_folder)
        if path.is_file() and not _beside(relative):
            name = f"{stage_folder.name}/{relative.as_posix()}"
            found[name], imported = _read(path)
            waiting |= set(imported)
    while waiting:
        module = waiting.pop()
        if module not in found and (file := _file_of(module)):
            found[module], imported = _read(file)
            waiting |= {module.rpartition(".")[0], *imported} - {"ghosttrack"}
    return found


def _beside(path: Path) -> bool:
    """Whether a file of a stage's folder has no part in its results: caches, what editors leave, contract and costs."""
    return path.name in LEFT_OUT or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """sha256 of a file, and the modules of the package that it names in imports."""
    status = path.stat()
    return _read_once(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read_once(path: Path, size: int, changed: int) -> tuple[str, tuple[str, ...]]:
    content = path.read_bytes()
    named = tuple(_imports(content.decode("utf-8"))) if path.suffix == ".py" else ()
    return hashlib.sha256(content).hexdigest(), named


def _imports(text: str) -> Iterator[str]:
    """Dotted names; of `from a import b` both `a` and `a.b`, since `b` may be a module."""
    for source, names, alone in _IMPORT.findall(text):
        yield source or alone
        for name in re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", re.sub(r"#[^\n]*", "", names)):
            yield f"{source}.{name}"


def _file_of(module: str) -> Path | None:
    """The file of a module of the package; None for what is no module."""
    path = package_folder("common").joinpath(*module.removeprefix(PACKAGE).strip(".").split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
