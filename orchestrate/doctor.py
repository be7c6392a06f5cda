"""What could go wrong with a run on this machine, looked for before it costs anything.

Every check gives findings: what was looked at, what was seen, and where that is trouble, the mend.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
from huggingface_hub import constants

from ghosttrack.common.config.cluster import ClusterProfile, Resources, seconds_of
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import PRETRAINED, PRETRAINED_INDEPENDENT
from ghosttrack.common.engine.fingerprint import HUB_PREFIX, SAE_FILES, WORDS, content_of_sae, local_path
from ghosttrack.common.engine.progress import format_bytes, format_seconds
from ghosttrack.common.errors import ConfigError, ImageError, ModelSourceError, SchedulerError
from ghosttrack.common.files import fsync
from ghosttrack.common.models.sizes import BYTES, SHARE_OF_ROOM, arithmetic, weights_and_vocabulary
from ghosttrack.common.models.source import MINIATURE, PACKAGE_PREFIX, locate
from ghosttrack.orchestrate.child import ending
from ghosttrack.orchestrate.container import images_of
from ghosttrack.orchestrate.disk import mount_of
from ghosttrack.orchestrate.executor import executor_named
from ghosttrack.orchestrate.machine import machine_of
from ghosttrack.orchestrate.plan import Plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.status import Diagnosis, Level

CLOCK_TOLERANCE = 5.0
"""Seconds that a file server's clock may be off."""
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


def examine(request: Request, executor: str, contained: bool) -> Iterator[Diagnosis]:
    """All checks, each as it is done."""
    plan = request.plan()
    yield from disk(plan)
    yield from file_system(plan.root)
    yield from sources(request, plan)
    yield from model(request, plan)
    yield from columns(request, plan)
    yield from room(request.config, request.profile)
    if executor == "slurm":
        yield from cluster(request.profile, plan.stale_stages, plan.root)
    if contained:
        yield from apptainer()
        yield from images(request.profile, plan.stale_stages)


def _judged(what: str, good: str, bad: str = "", mend: str = "", level: Level = "warning") -> Diagnosis:
    """What a check found: that all is good, or what is not, with its mend."""
    return Diagnosis(level, what, bad, mend) if bad else Diagnosis("ok", what, good)


def _trouble(what: str, error: Exception, mend: str = "") -> Diagnosis:
    """An error's text and the mend in it, else `mend`."""
    seen, _, told = str(error).partition("; ")
    return Diagnosis("trouble", what, seen, told or mend)


def disk(plan: Plan) -> Iterator[Diagnosis]:
    """What may still be written, free space and quota, against what the plan predicts."""
    seen = f"{format_bytes(plan.size)} to come, {format_bytes(plan.free)} free in {plan.root.resolve()}"
    tight = "other users of the disk may need it too: free some, or use another root with --set paths.root=…"
    level: Level = "trouble" if plan.refusal else "warning" if plan.size > 0.8 * plan.free else "ok"
    yield Diagnosis(level, "disk", seen, plan.refusal or tight * (level == "warning"))


def file_system(root: Path) -> Iterator[Diagnosis]:
    """What the store relies on: renames, hard links and symbolic links, and a clock that agrees."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".doctor-") as name:
            folder = Path(name)
            missing = [text for text, works in ABILITIES.items() if not _works(works, folder)]
            probe = folder / "clock"
            probe.touch()
            skew = probe.stat().st_mtime - time.time()
    except OSError as error:
        yield Diagnosis("trouble", "file system", f"{root.resolve()} cannot be written: {error.strerror}",
                        "choose another root with --set paths.root=…")  # fmt: skip
        return
    lacks = f"{root.resolve()} has no {', '.join(missing)}" if missing else ""
    mend = "choose a root on another file system with --set paths.root=…"
    yield _judged("file system", f"{root.resolve()}: {', '.join(ABILITIES)}", lacks, mend, "trouble")
    off = f"the file server's clock is {skew:+.0f} s off" if abs(skew) > CLOCK_TOLERANCE else ""
    mend = "have it set; claims of other machines may look dead or alive for too long"
    yield _judged("clock", f"{abs(skew):.1f} s between this machine and its file server", off, mend)


def _replaces(folder: Path) -> None:
    for name in ("one", "other"):
        (folder / name).write_text(name)
    (folder / "one").replace(folder / "other")
    assert (folder / "other").read_text() == "one"


def _links(folder: Path) -> None:
    (folder / "linked").touch()
    os.link(folder / "linked", folder / "hard")
    (folder / "soft").symlink_to("linked")
    assert (folder / "soft").exists()


ABILITIES: dict[str, Callable[[Path], None]] = {
    "atomic renames": _replaces,
    "hard and symbolic links": _links,
    "synced folders": fsync,
}
"""What a file system must be able to do to a function that tries it in a folder; an error means that it cannot."""


def _works(attempt: Callable[[Path], None], folder: Path) -> bool:
    try:
        attempt(folder)
    except (OSError, AssertionError):
        return False
    return True


def sources(request: Request, plan: Plan) -> Iterator[Diagnosis]:
    """Whether model, data and SAEs are there already, or can be had; compute nodes are often offline."""
    settings = request.config
    if settings.sae.pretrained is not None:
        yield pretrained_saes(settings, PRETRAINED)
        if settings.sae.pretrained_independent is not None:
            yield pretrained_saes(settings, PRETRAINED_INDEPENDENT)
    fetching = [contract.stage for contract in request.contracts if contract.network]
    if not any(plan.stale_of(stage) for stage in fetching):
        seen = f"stage {', '.join(fetching)} is done: no node needs a network"
        yield Diagnosis("ok", "model and data", seen)
        return
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    wanted = {"model.base_model": settings.model.base_model, "data.questions": settings.data.questions,
              "data.corpus": settings.data.corpus}  # fmt: skip
    remote = {
        key: value.removeprefix(HUB_PREFIX)
        for key, value in wanted.items()
        if local_path(value, key) is None
        and (
            value.startswith(HUB_PREFIX)
            or (key == "model.base_model" and value != MINIATURE and not value.startswith(PACKAGE_PREFIX))
        )
    }
    if not remote:
        yield Diagnosis("ok", "model and data", "all local: no network is needed")
    for key, name in remote.items():
        kind = "models" if key == "model.base_model" else "datasets"
        lacks = f"{name} is not in the hub's cache{' and HF_HUB_OFFLINE=1' if offline else ''}"
        mend = (
            f"where compute nodes are offline, run `python -m ghosttrack.stages.{fetching[0]} --config {request.name}` "
            "on a machine with a network and this root first"
        )
        yield _judged(key, f"{name} is in the hub's cache", "" if is_cached(kind, name) else lacks, mend,
                      "trouble" if offline else "warning")  # fmt: skip


def model(request: Request, plan: Plan) -> Iterator[Diagnosis]:
    """Whether a model that is here can be read, as far as that is known without its weights."""
    source = request.config.model.base_model
    stale = {planned.unit.name for planned in plan.stale_of("prepare")}
    if "model" not in stale or "--stub" in request.options:
        return
    try:
        refuse_model(source, request.config.model.revision)
        yield Diagnosis("ok", "model.base_model", f"{source} is of an architecture that can be read")
    except ModelSourceError as error:
        yield _trouble("model.base_model", error)


def refuse_model(source: str, revision: str | None) -> None:
    """Raises ModelSourceError for a model that is here and could not be read; the stage that would read it looks."""
    if source == MINIATURE or locate(source).hub is not None:
        return
    try:
        ask_prepare("model", source, *(["--revision", revision] if revision else []))
    except ConfigError as error:
        raise ModelSourceError(str(error)) from error


def room(config: Config, profile: ClusterProfile) -> Iterator[Diagnosis]:
    """Where the model's weights are larger than the GPU or the memory that they go to: what is done about it, or could be."""
    weights, _ = weights_and_vocabulary(config.model.base_model)
    if weights is None:
        return
    machine, settings = machine_of(profile), config.model
    dtype = arithmetic(settings.dtype, machine.gpu)
    size = weights * BYTES[dtype]
    place = "a GPU" if machine.gpu else "memory"
    what, seen = "room for the model", f"the model's weights take {format_bytes(size)} as {dtype}"
    if machine.memory is None:
        seen += "; what a GPU has is not known here, and would be with resources.track.gpu_memory in the cluster profile"
    else:
        seen += f", and {place} has {format_bytes(machine.memory)}"
    if machine.memory is None or size <= SHARE_OF_ROOM * machine.memory:
        yield Diagnosis("ok", what, seen)
        return
    spread = []
    if machine.gpu and settings.devices == "auto":
        spread.append("all GPUs of the job (model.devices: auto)")
    if settings.offload != "none":
        spread.append(f"{settings.offload} (model.offload: {settings.offload}), which is slow")
    less = "" if dtype != "float32" else ", or --set model.dtype=bfloat16"
    mend = "let blocks lie elsewhere with --set model.offload=disk"
    if spread:
        seen += f": its blocks will be spread over {' and '.join(spread)}"
        mend = "where that is too little or too slow, take another machine"
    yield Diagnosis("warning", what, seen, mend + less)


def words(config: Config) -> Iterator[Diagnosis]:
    """A file that has the name of a word is not read: the word wins."""
    for key, known in WORDS.items():
        value = config.value(key)
        if value in known and local_path(value) is not None:
            yield Diagnosis(
                "warning", key, f"{value!r} is a word of {key}, and the file or folder of that name is not read",
                f"write ./{value} where it is meant",
            )  # fmt: skip


def columns(request: Request, plan: Plan) -> Iterator[Diagnosis]:
    """Whether questions and text have the columns that the configuration names, where they are at hand: before anything runs;
    and files that a word hides.

    The stage that will read them looks at their first rows, in a process of its own.
    """
    yield from words(request.config)
    data = request.config.data
    sources = {"data.questions": data.questions, "data.corpus": data.corpus}
    named = [source for key, source in sources.items() if source not in WORDS[key]]
    stale = {planned.unit.name for planned in plan.stale_of("prepare")}
    if not named or not stale & {"questions", "corpus"} or "--stub" in request.options:
        return
    if any(
        local_path(n) is None and n.startswith(HUB_PREFIX) and not is_cached("datasets", n[len(HUB_PREFIX) :])
        for n in named
    ):
        return  # it would have to be fetched
    try:
        ask_prepare("columns", *request.options)
        yield Diagnosis("ok", "columns", f"{' and '.join(named)} have their columns")
    except ConfigError as error:
        yield _trouble("columns", error, "correct data in the configuration")


def ask_prepare(*arguments: str) -> str:
    """What a command of the stage that reads data prints, run as a process of its own. Raises ConfigError with its error."""
    line = [sys.executable, "-m", "ghosttrack.stages.prepare", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode < 0:
        last = "".join(f", saying {line!r}" for line in done.stderr.strip().splitlines()[-1:])
        raise ConfigError(
            f"prepare {arguments[0]} {ending(done.returncode)}{last}; if nobody ended it, the machine ran out of memory: "
            "free some, then give the same command again"
        )
    if done.returncode:
        # Libraries' own threads may have a last word when a process ends with an error.
        lines = done.stderr.strip().splitlines() or [
            f"prepare {arguments[0]} {ending(done.returncode)}, without a reason"
        ]
        said = next((line for line in reversed(lines) if line.startswith("prepare: error: ")), lines[-1])
        raise ConfigError(said.removeprefix("prepare: error: "))
    return done.stdout


def pretrained_saes(config: Config, key: str) -> Diagnosis:
    """Whether there is a folder with the files of a SAE for every layer. key: that names the folders."""
    folders = [config.sae.pretrained_folder(layer, key == PRETRAINED_INDEPENDENT) for layer in config.layers]
    missing = [folder for folder in folders if content_of_sae(folder) is None]
    lacks = f"{missing[0]} has no {' and '.join(SAE_FILES)}" if missing else ""
    mend = "correct it, or choose the layers that there are with --set model.layers=0-5"
    return _judged(key, f"{len(folders)} SAEs in {config.value(key)}", lacks, mend, "trouble")


def is_cached(kind: str, name: str) -> bool:
    """Whether the hub's cache on this machine has a whole snapshot of a model or dataset."""
    cache = Path(constants.HF_HUB_CACHE, f"{kind}--{name.replace('/', '--')}")
    if any(cache.glob("blobs/*.incomplete")):
        return False
    return any(
        all(path.exists() for path in snapshot.rglob("*"))  # links to what was fetched
        and (
            kind != "models"
            or ((snapshot / "config.json").exists() and any(any(snapshot.rglob(kind)) for kind in WEIGHTS))
        )
        and any(snapshot.iterdir())
        for snapshot in cache.glob("snapshots/*")
    )


def cluster(profile: ClusterProfile, stages: Iterable[str], root: Path) -> Iterator[Diagnosis]:
    """Whether SLURM would take what each stage asks for, and whether jobs see the root."""
    executor = executor_named("slurm", Terminal())
    asked: dict[Resources, list[str]] = {}
    for stage in stages:
        asked.setdefault(profile.resources_of(stage), []).append(stage)
    refused: dict[str, list[str]] = {}
    for resources, names in asked.items():
        what = f"slurm: {', '.join(names)}"
        try:
            said, most = executor.limits(profile, resources)
        except SchedulerError as error:
            refused.setdefault(str(error), []).extend(names)
            continue
        # Many sites take such a job and never start it.
        above = ""
        if most is not None and seconds_of(resources.time) > most:
            limit = format_seconds(most)
            above = f"{resources.time} are asked for, above the partition's time limit of {limit}"
        mend = "ask for less time in `resources` of the cluster profile: work that is stopped goes on where it was"
        yield _judged(what, said, above, mend, "trouble")
    for refusal, names in refused.items():
        yield _trouble(f"slurm: {', '.join(names)}", SchedulerError(refusal))
    if mount_of(root) == Path("/") or _kind_of(root) in ("tmpfs", "overlay"):
        yield Diagnosis("warning", "shared root", f"{root.resolve()} may lie on this machine's own disk",
                        "where jobs run on other machines, take a shared folder with --set paths.root=…")  # fmt: skip


def _kind_of(folder: Path) -> str:
    """The type of a folder's file system, as the kernel calls it; "" where it cannot be seen."""
    mount = str(mount_of(folder))
    return next((each.fstype for each in psutil.disk_partitions(all=True) if each.mountpoint == mount), "")


def apptainer() -> Iterator[Diagnosis]:
    """Whether Apptainer is there and can mount an image without unpacking it."""
    if shutil.which("apptainer") is None:
        mend = "load its module (modules in the profile), or --container none"
        yield Diagnosis("trouble", "apptainer", "there is none on this machine", mend)
        return
    done = subprocess.run(["apptainer", "--version"], capture_output=True, text=True, errors="replace")
    yield Diagnosis("ok", "apptainer", done.stdout.strip() or done.stderr.strip())
    switches = Path("/proc/sys/user/max_user_namespaces"), Path("/proc/sys/kernel/unprivileged_userns_clone")
    off = any(switch.exists() and switch.read_text().strip() == "0" for switch in switches)
    mend = "an Apptainer that was installed setuid does without; else ask the site"
    yield _judged("user namespaces", "allowed", "switched off" if off else "", mend)
    mounts = {"squashfuse": shutil.which("squashfuse") or shutil.which("squashfuse_ll", path="/usr/libexec/apptainer/bin"),
              "/dev/fuse": os.access("/dev/fuse", os.R_OK | os.W_OK)}  # fmt: skip
    lacks = " and ".join(f"no {name}" for name, there in mounts.items() if not there)
    mend = "without them every start unpacks the whole image; ask the site"
    yield _judged("mounting images", "squashfuse and /dev/fuse are usable", lacks, mend)


def images(profile: ClusterProfile, stages: Iterable[str]) -> Iterator[Diagnosis]:
    """Whether the image of every stage is there, signed where that is asked for, and what its digest is."""
    for stage in stages:
        try:
            image = images_of(profile, [stage])[stage]
        except ImageError as error:
            yield _trouble(f"image of {stage}", error)
        else:
            yield Diagnosis("ok", f"image of {stage}", f"{image.path}, sha256 {image.sha256[:12]}…")


def raise_for(found: Iterable[Diagnosis]) -> None:
    """Raise ConfigError with a count where something is trouble."""
    troubles = [diagnosis for diagnosis in found if diagnosis.level == "trouble"]
    if troubles:
        raise ConfigError(
            f"{len(troubles)} things stand in the way, {troubles[0].what} first; what to do is above"
        )
