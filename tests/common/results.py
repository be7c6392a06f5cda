"""Units and results made by hand, for the tests of the store."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ghosttrack.common.engine.contract import Read, Unit, key_of
from ghosttrack.common.engine.manifest import (
    BuildDefinition,
    Builder,
    Dependency,
    Manifest,
    Metadata,
    Predicate,
    RunDetails,
    Subject,
)
from ghosttrack.common.engine.storage import Entry, Store


def unit_of(stage: str = "alpha", *, reads: Mapping[str, list[str]] | None = None, **parameters: Any) -> Unit:
    """A unit `all` with two outputs, a.txt and b.txt."""
    return Unit(
        config_name="mine", stage=stage, version=1, name="all", layer=None,
        reads=[Read(stage=source.split("/")[0], unit=source.split("/")[1], files=files)
               for source, files in (reads or {}).items()],
        parameters=parameters, folder=f"results/mine/{stage}", writes=["a.txt", "b.txt"],
    )  # fmt: skip


def manifest_of(
    unit: Unit, files: Mapping[str, bytes], digests: Mapping[str, str] | None = None
) -> tuple[str, Manifest]:
    """The task key and the manifest of a unit with these outputs and inputs."""
    digests = digests or {}
    key = key_of(unit.stage, unit.version, unit.name, unit.parameters, digests)
    statement = Manifest(
        subject=[
            Subject(name=name, digest={"sha256": hashlib.sha256(content).hexdigest()}, media_type="text/plain",
                    annotations={"size": len(content)})
            for name, content in files.items()
        ],
        predicate=Predicate(
            stage=unit.stage, contract_version=unit.version, unit=unit.name, task_key=key,
            build_definition=BuildDefinition(
                build_type="test", external_parameters=unit.parameters,
                resolved_dependencies=[
                    Dependency(name=name, uri="", digest={"sha256": digest}, annotations={"inTaskKey": True})
                    for name, digest in digests.items()
                ],
            ),
            run_details=RunDetails(
                builder=Builder(id="test"),
                metadata=Metadata(invocation_id="test/1", started_on="2026-01-01T00:00:00Z",
                                  finished_on="2026-01-01T00:00:05Z"),
            ),
            environment={"python": "3"}, resource_usage={"elapsedSec": 5.0},
        ),
    )  # fmt: skip
    return key, statement


def publish(store: Store, unit: Unit, text: str, digests: Mapping[str, str] | None = None) -> Entry:
    """Publish `text` and `text` in capitals as the unit's two files."""
    files = {"a.txt": text.encode(), "b.txt": text.upper().encode()}
    key, statement = manifest_of(unit, files, digests)
    out = store.staging(unit, key) / "out"
    for name, content in files.items():
        (out / name).unlink(missing_ok=True)
        (out / name).write_bytes(content)
    return store.publish(unit, key, statement)
