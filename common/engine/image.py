"""Container images: what the manifest says of the one that this process runs in, and what one was built from.

An image holds `image.json` beside the code (see apptainer/build.py). The digest of the image file comes from whoever
started it (GHOSTTRACK_IMAGE_SHA256), or from the file itself where the container can see it.
"""

import contextlib
import functools
import json
import os
import subprocess
from pathlib import Path

from ghosttrack.common.files import sha256_of, stamp_of
from ghosttrack.common.package import package_folder

FACTS_FILE = package_folder("image.json")
INPUTS_LABEL = "org.ghosttrack.inputs.sha256"


@functools.cache
def facts() -> dict[str, str]:
    """What the image was built from: `version`, `revision` (the code's commit), `inputs` (a digest); {} outside one."""
    with contextlib.suppress(OSError):
        found: dict[str, str] = json.loads(FACTS_FILE.read_text(encoding="utf-8"))
        return found
    return {}


@functools.cache
def container_image() -> dict[str, str] | None:
    """The manifest's `containerImage`; without a `sha256` if the image file can't be seen from inside.

    Its name without folders: manifests leave the machine, and folders have the names of users.
    """
    name = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("GHOSTTRACK_IMAGE")
    digest = os.environ.get("GHOSTTRACK_IMAGE_SHA256")
    if not name and not digest:
        return None
    if not digest and name:
        with contextlib.suppress(OSError):
            digest = sha256_of(Path(name))
    image = {
        "@type": "ContainerImage",
        "additionalType": "SIFImage",
        "name": Path(name).name if name else "unnamed",
    }
    if digest:
        image["sha256"] = digest
    if inputs := facts().get("inputs"):
        image["inputsSha256"] = inputs
    return image


def inputs_of(path: Path) -> str:
    """Digest of what an image file was built from, as its label says; "" where there is none to be read."""
    try:
        return _label(path, stamp_of(path))
    except OSError:
        return ""


@functools.lru_cache
def _label(path: Path, stamp: tuple[int, ...]) -> str:
    done = subprocess.run(["apptainer", "inspect", "--json", str(path)], capture_output=True)
    if done.returncode:
        return ""
    labels: dict[str, str] = json.loads(done.stdout)["data"]["attributes"].get("labels") or {}
    return labels.get(INPUTS_LABEL, "")
