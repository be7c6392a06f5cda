"""The files that come with the package beside its code: configurations, contracts, the page."""

from importlib import resources
from pathlib import Path

from ghosttrack.common.errors import ConfigError


def package_folder(name: str) -> Path:
    """A folder of the installed package, such as `config`. The package is always installed as files, never as a zip."""
    return Path(str(resources.files("ghosttrack"))) / name


def package_file(name: str) -> Path:
    """A file of the installed package. Raises ConfigError where the installation lacks it."""
    path = package_folder(name)
    if not path.is_file():
        raise ConfigError(f"{path} is missing: the installation is not whole, install ghosttrack again")
    return path
