"""How a stage is started in its Apptainer image: shut off from the machine but for what it reads and where it works.

The root folder is bound read-only. What is bound on top of it can be written: the stage's log, and, by the publisher that
starts the container (`orchestrate/publisher.py`), the folders of its units' work. docs/RELIABILITY.md has the table.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.engine.contained import VARIABLE
from ghosttrack.common.engine.fingerprint import SOURCE_KEYS, local_path
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ImageError
from ghosttrack.common.files import remembered_sha256
from ghosttrack.orchestrate.request import Request

CAP_SYS_RESOURCE = 24


@dataclass(frozen=True)
class Image:
    stage: str
    path: Path
    sha256: str


Images = Mapping[str, Image]
"""Stage to its image, as it was when a run began; empty where stages run in none."""


def images_of(profile: ClusterProfile, stages: Iterable[str]) -> Images:
    """The images of these stages, each hashed once and, where the profile names a public key, verified.

    Raises ImageError for one that is missing, unsigned or was changed after it was signed.
    """
    return {stage: _image(profile, stage) for stage in stages}


def container_command(image: Image, request: Request, units: Sequence[str] = ()) -> list[str]:
    """`apptainer run …` for units of the image's stage, all that are stale where none is named, started by a publisher."""
    profile, stage = request.profile, image.stage
    gpus, network = profile.resources_of(stage).gpus > 0, request.contract_of(stage).network
    variables = {
        "GHOSTTRACK_IMAGE": str(image.path),
        "GHOSTTRACK_IMAGE_SHA256": image.sha256,
        VARIABLE: "1",
        **(hub_variables() if network else {}),
        **({"HF_HUB_OFFLINE": "1"} if not network or os.environ.get("HF_HUB_OFFLINE") == "1" else {}),
        **profile.environment,
    }
    command = request.module_command(
        "ghosttrack.orchestrate.publisher", *request.sizes(), "--stages", str(request.stages_folder.resolve()), "--stage", stage,
        "--image", str(image.path), "--",
    )  # fmt: skip
    command += ["apptainer", "--quiet", "run", "--cleanenv", "--containall", "--no-home"]
    if is_restricted_root():
        command.append("--userns")
    if gpus:
        command.append("--nv")
    for source, mode in binds(request, stage).items():
        command += bind_option(source, mode)
    for bind in profile.binds:
        command += ["--bind", ",".join(os.path.expanduser(part) for part in bind.split(","))]
    command += ["--pwd", str(Path.cwd())]
    for name, value in variables.items():
        command += ["--env", f"{name}={value}"]
    return [*command, str(image.path), *request.stage_arguments(stage, units)]


def bind_option(path: str, mode: str) -> list[str]:
    """The option that makes a path visible inside; colons and commas, which separate the parts of `--bind`, are its own."""
    if not {":", ",", '"'} & set(path):
        return ["--bind", f"{path}:{path}:{mode}"]
    quoted = path.replace('"', '""')
    fields = ["type=bind", f'"source={quoted}"', f'"destination={quoted}"', *(["ro"] if mode == "ro" else [])]
    return ["--mount", ",".join(fields)]  # fields of CSV


def binds(request: Request, stage: str) -> dict[str, str]:
    """Path to `ro` or `rw`, in the order in which they are mounted; what is not there is made. Paths are the same inside."""
    root, log = request.store.root.resolve(), request.log_of(stage)
    chosen: dict[Path, str] = {Path.cwd(): "ro", root: "ro"}
    for source in sources(request):
        chosen.setdefault(source, "ro")
    chosen[log] = "rw"
    if request.contract_of(stage).network:
        chosen |= dict.fromkeys(map(Path, hub_variables().values()), "rw")
    with storage_errors(root):
        for path in chosen:
            if not path.exists():
                (path.parent if path == log else path).mkdir(parents=True, exist_ok=True)
        log.touch()
    return {str(path): mode for path, mode in chosen.items()}


def hub_variables() -> dict[str, str]:
    """Folders of what comes from a model hub, as variables. A token lies in HF_HOME; it is not written into scripts."""
    named = {"HF_HOME": constants.HF_HOME}
    named |= {
        name: os.environ[name] for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE") if os.environ.get(name)
    }
    return {name: str(Path(folder).resolve()) for name, folder in named.items()}


def sources(request: Request) -> list[Path]:
    """Files and folders of this machine that the configuration names: models, questions, corpora, SAEs, itself."""
    values = [(key, request.config.value(key)) for key in SOURCE_KEYS]
    named = [
        local_path(each, key)
        for key, value in values
        for each in (value if isinstance(value, list) else [value])
    ] + [local_path(each) for each in request.options]
    found = [each for path in named if path for each in (path.absolute(), path.resolve())]
    sae = request.config.sae
    for independent, given in ((False, sae.pretrained), (True, sae.pretrained_independent)):
        if given is not None:
            folders = [sae.pretrained_folder(layer, independent) for layer in request.config.layers]
            found += [folder.resolve() for folder in folders if folder.exists()]
    return list(dict.fromkeys(found))


def is_restricted_root() -> bool:
    """Whether this is root without a capability that Apptainer asks of root; a user namespace does without."""
    if os.geteuid() != 0:
        return False
    lines = Path("/proc/self/status").read_text().splitlines()
    permitted = next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm"))
    return not permitted & (1 << CAP_SYS_RESOURCE)


def _image(profile: ClusterProfile, stage: str) -> Image:
    path = (Path(profile.images) / f"{stage}.sif").resolve()
    if not path.is_file():
        raise ImageError(f"there is no image {path}; build it with `make images STAGES={stage}`, or say in the "
                         "cluster profile where it is (images)")  # fmt: skip
    if profile.public_key:
        _verify(path, Path(profile.public_key))
    return Image(stage, path, remembered_sha256(path))


def _verify(path: Path, key: Path) -> None:
    if not key.is_file():
        raise ImageError(f"there is no public key {key}; correct public_key in the cluster profile")
    done = subprocess.run(
        ["apptainer", "verify", "--key", str(key), str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        complaint = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ImageError(
            f"{path} does not bear a good signature of {key}: {complaint[0]}; build and sign it again, "
            "or take it from where you trust it"
        )
