"""The manifest of a unit's work: what was written, what was read, which code did it, where."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ghosttrack.common.engine import image, manifest
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.files import sha256_of

MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pkl": "application/x-python-pickle",
    ".png": "image/png",
    ".pt": "application/x-pytorch",
    ".safetensors": "application/vnd.safetensors",
    ".txt": "text/plain",
}

_PROCESS_START = time.time()


def statement_of(
    unit: Unit,
    key: str,
    digests: Mapping[str, str],
    entries: Mapping[str, Entry],
    subjects: Sequence[manifest.Subject],
    *,
    started: str,
    internal: dict[str, Any],
    usage: dict[str, float | None],
    metrics: dict[str, Any],
) -> manifest.Manifest:
    """What is published beside a unit's files.

    key: its task key. digests: `stage/unit/file` to sha256 of all that was read. entries: `stage/unit` to the results
    that they are of. started: when the work began, as `now` gives it.
    """
    version = image.facts().get("version") or _version("ghosttrack") or "source"
    builder = "slurm" if os.environ.get("SLURM_JOB_ID") else "local"
    times = manifest.Metadata(invocation_id=invocation_id(), started_on=started, finished_on=now())
    predicate = manifest.Predicate(
        stage=unit.stage,
        contract_version=unit.version,
        unit=unit.name,
        task_key=key,
        build_definition=manifest.BuildDefinition(
            build_type=f"https://ghosttrack.dev/stage/{unit.stage}/v{unit.version}",
            external_parameters=unit.parameters,
            internal_parameters=internal,
            resolved_dependencies=[*_dependencies(digests, entries), *_stage_code(unit)],
        ),
        run_details=manifest.RunDetails(
            builder=manifest.Builder(id=builder, version={"ghosttrack": version}), metadata=times
        ),
        container_image=image.container_image(),
        environment=_environment(),
        resource_usage=usage,
        metrics=metrics,
    )
    return manifest.Manifest(subject=list(subjects), predicate=predicate)


def subject_of(path: Path) -> manifest.Subject:
    annotations: dict[str, Any] = {"size": path.stat().st_size}
    if path.suffix == ".pt":
        import torch

        content = torch.load(path, mmap=True, weights_only=True)
        if isinstance(content, dict):
            annotations["tensors"] = {
                name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
                for name, value in content.items()
                if isinstance(value, torch.Tensor)
            }
    return manifest.Subject(
        name=path.name,
        digest={"sha256": sha256_of(path)},
        media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        annotations=annotations,
    )


def _dependencies(digests: Mapping[str, str], entries: Mapping[str, Entry]) -> list[manifest.Dependency]:
    files = [
        manifest.Dependency(name=name, uri=f"../{name.split('/')[0]}/{entries[unit].key}/{file}",
                            digest={"sha256": digest}, annotations={"inTaskKey": True})
        for name, digest in digests.items()
        for unit, file in [name.rsplit("/", 1)]
    ]  # fmt: skip
    manifests = [
        manifest.Dependency(name=f"{unit}/manifest.json", uri=f"../{unit.split('/')[0]}/{entry.key}/manifest.json",
                            digest={"sha256": entry.manifest_sha256})
        for unit, entry in entries.items()
    ]  # fmt: skip
    return files + manifests + _code()


def _stage_code(unit: Unit) -> list[manifest.Dependency]:
    """The stage's own code with what it imports, file by file the same wherever it is installed."""
    if not unit.code:
        return []
    name, uri = f"{unit.stage}/{manifest.CODE}", f"pkg:ghosttrack/stages/{unit.stage}"
    return [manifest.Dependency(name=name, uri=uri, digest={"sha256": unit.code})]


@functools.cache
def _code() -> list[manifest.Dependency]:
    """The commit that the code was at, when it runs from a checkout or in an image that was built from one."""
    if revision := image.facts().get("revision"):
        return [_code_at(revision.removesuffix("-dirty"), dirty=revision.endswith("-dirty"))]
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, errors="replace", check=True)
        return done.stdout.strip()

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return [_code_at(git("rev-parse", "HEAD"), dirty)]
    return []


def _code_at(commit: str, dirty: bool) -> manifest.Dependency:
    return manifest.Dependency(
        name="code", uri="git+ghosttrack", digest={"gitCommit": commit}, annotations={"dirty": dirty}
    )


@functools.cache
def host() -> str:
    """This machine by a number of its own: manifests travel (`crate`), and its name is nobody else's business."""
    secret = ""
    with contextlib.suppress(OSError):
        secret = Path("/etc/machine-id").read_text()
    return f"host-{hashlib.sha256(f'{secret}{socket.gethostname()}'.encode()).hexdigest()[:12]}"


def invocation_id() -> str:
    """`<cluster>/<job>/<restart>` under SLURM, else `<host>/<pid>/<start>`."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return f"{host()}/{os.getpid()}/{_PROCESS_START:.0f}"
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else job
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "slurm")
    return f"{cluster}/{name}/{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _environment() -> dict[str, str | None]:
    facts: dict[str, str | None] = {
        "host": host(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")},
        "cuda": None,
        "gpu": None,
        "threads": None,
    }
    if torch := sys.modules.get("torch"):
        facts["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            facts["cuda"], facts["gpu"] = torch.version.cuda, torch.cuda.get_device_name()
    return facts


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def now() -> str:
    """This moment, as manifests and records have it: ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).strftime(manifest.TIME_FORMAT)
