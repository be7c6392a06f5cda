"""The files that come with the package beside its code: configurations, contracts, the page."""

from importlib import resources
from pathlib import Path


def package_folder(name: str) -> Path:
    """A folder of the installed package, such as `config`. The package is always installed as files, never as a zip."""
    return Path(str(resources.files("ghosttrack"))) / name
