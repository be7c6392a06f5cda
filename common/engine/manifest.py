"""The manifest: the record that a unit's work was done, by what, from what.

An in-toto Statement (https://in-toto.io/Statement/v1) with a predicate in the shape of SLSA
provenance and the run terms of Process Run Crate, so that other tools can read it. Published as
JSON Schema in `docs/manifest.schema.json`.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCHEMA_VERSION = "1.0.0"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""UTC, to the second."""
CODE = "code"
"""Ends the name of the dependency that is the stage's code."""
LARGEST = 2**63


class ManifestPart(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


def plain_name(name: str) -> str:
    """A name that stays in the folder that it is looked up in. Raises ValueError for one that does not."""
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is no plain file name")
    return name


def has_size(annotations: dict[str, Any]) -> dict[str, Any]:
    """Annotations that say how many bytes a file has. Raises ValueError for others."""
    size = annotations.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < LARGEST:
        raise ValueError(f"size is {size!r} and should be a number of bytes")
    return annotations


def is_bounded(values: dict[str, Any]) -> dict[str, Any]:
    """Values whose whole numbers a float can hold. Raises ValueError for others."""
    left: list[Any] = [values]
    while left:
        value = left.pop()
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError("it has a number beyond all measure")
    return values


def has_sha256(digest: dict[str, str]) -> dict[str, str]:
    """Digests with a sha256 among them. Raises ValueError for others."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest.get("sha256", "")):
        raise ValueError("it has no sha256")
    return digest


def is_moment(text: str) -> str:
    """A time as manifests write it. Raises ValueError for anything else."""
    datetime.strptime(text, TIME_FORMAT)
    return text


class Subject(ManifestPart):
    """A published file."""

    name: Annotated[str, AfterValidator(plain_name)]
    digest: Annotated[dict[str, str], AfterValidator(has_sha256)]
    media_type: str
    annotations: Annotated[dict[str, Any], AfterValidator(has_size)]
    """`size` in bytes; `shape` and `dtype` by tensor where the file holds tensors."""

    @property
    def sha256(self) -> str:
        return self.digest["sha256"]

    @property
    def size(self) -> int:
        return int(self.annotations["size"])


class Dependency(ManifestPart):
    """Something that was read: a file of another unit, the code, the model."""

    name: str
    uri: str
    digest: dict[str, str]
    annotations: dict[str, Any] = {}


class BuildDefinition(ManifestPart):
    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any] = {}
    resolved_dependencies: list[Dependency]


class Builder(ManifestPart):
    id: str
    version: dict[str, str] = {}


class Metadata(ManifestPart):
    invocation_id: str
    started_on: Annotated[str, AfterValidator(is_moment)]
    finished_on: Annotated[str, AfterValidator(is_moment)]


class RunDetails(ManifestPart):
    builder: Builder
    metadata: Metadata
    byproducts: list[dict[str, str]] = []


class Predicate(ManifestPart):
    schema_version: str = SCHEMA_VERSION
    stage: str
    contract_version: int
    unit: str
    task_key: str
    build_definition: BuildDefinition
    run_details: RunDetails
    container_image: dict[str, str] | None = None
    action_status: Literal["CompletedActionStatus"] = "CompletedActionStatus"
    environment: dict[str, str | None]
    resource_usage: dict[str, Annotated[float, Field(ge=0, le=LARGEST)] | None]
    metrics: Annotated[dict[str, Any], AfterValidator(is_bounded)] = {}


class Manifest(ManifestPart):
    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject]
    predicate_type: Literal["https://ghosttrack.dev/stage-run/v1"] = "https://ghosttrack.dev/stage-run/v1"
    predicate: Predicate

    @property
    def files(self) -> dict[str, Subject]:
        return {subject.name: subject for subject in self.subject}

    @property
    def input_digests(self) -> dict[str, str]:
        """`stage/unit/file` to sha256, for the dependencies that the task key covers."""
        return {
            dependency.name: dependency.digest["sha256"]
            for dependency in self.predicate.build_definition.resolved_dependencies
            if "sha256" in dependency.digest and dependency.annotations.get("inTaskKey")
        }

    @property
    def code_digest(self) -> str:
        """Of the stage's code that did the work; "" where it is not on record."""
        dependencies = self.predicate.build_definition.resolved_dependencies
        found = [d for d in dependencies if d.name == f"{self.predicate.stage}/{CODE}"]
        return found[0].digest.get("sha256", "") if found else ""

    def to_bytes(self) -> bytes:
        data = self.model_dump(mode="json", by_alias=True)
        return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest_line(manifest: bytes) -> str:
    """The content of `manifest.json.sha256`, in the format of `sha256sum --check`."""
    return f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n"
