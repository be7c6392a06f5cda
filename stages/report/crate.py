"""A finished run as an RO-Crate: its files with what made them, in JSON-LD that other tools read.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1). Every unit is a `CreateAction` whose objects are the files that it read, whose
results are the files that it wrote, and whose instrument is the stage. Hidden states and the snapshot of the model are
not packed: they are named with their digests and can be made again.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.layout import MANIFEST
from ghosttrack.common.engine.storage import Entry
from ghosttrack.common.errors import MissingInputError, StorageError
from ghosttrack.common.foreign import whole
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.stages.report.dashboard.run_card import code_of
from ghosttrack.stages.report.results import Results

Json = dict[str, Any]
LEFT_OUT = ("extract/", "prepare/model")
"""What the labels of units whose files are named only begin with."""
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    {
        "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
        "taskKey": "https://ghosttrack.dev/stage-run/v1#taskKey",
    },
]


def write_crate(results: Results, folder: Path) -> int:
    """Write the crate, its files verified; the number of files that it describes.

    Nothing is seen of it before all of it is there. Raises MissingInputError for a run that is not finished, StorageError
    where the folder has something else in it, CorruptInputError for a file that is not what its manifest says.
    """
    if REPORT.unit not in results.entries:
        raise MissingInputError(
            f"{results.name} is not finished: it has no evaluation; `ghosttrack run {results.name}` makes it"
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / "ro-crate-metadata.json").exists():
        raise StorageError(f"{folder} is no RO-Crate and is not empty; choose another --output")
    packed = {
        label
        for label, entry in results.entries.items()
        if not label.startswith(LEFT_OUT) and not entry.released
    }
    with atomic.folder(folder) as new:
        # A result may go while it is copied.
        with whole(new, f"`ghosttrack run {results.name}` makes it again", "crate"):
            _fill(new, results, packed)
        _keep_others(folder, new)
    return sum(len(entry.manifest.files) for entry in results.entries.values())


def _keep_others(old: Path, new: Path) -> None:
    """What lies in an older crate and is no part of the new one, such as notes of the user's."""
    for file in sorted(old.rglob("*")):
        target = new / file.relative_to(old)
        if not target.exists() and (file.is_symlink() or file.is_file()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target, follow_symlinks=False)


def _fill(folder: Path, results: Results, packed: set[str]) -> None:
    for label in sorted(packed):
        entry = results.entries[label]
        for name in entry.manifest.files:
            target = folder / label / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results.verified(label, name), target)
        shutil.copyfile(entry.file(MANIFEST), folder / label / MANIFEST)
    content = json.dumps(metadata_of(results, packed), indent=1, ensure_ascii=False) + "\n"
    (folder / "ro-crate-metadata.json").write_text(content, encoding="utf-8")


def metadata_of(results: Results, packed: set[str]) -> Json:
    """The content of `ro-crate-metadata.json`. packed: labels of the units whose files are in the crate."""
    report = results.json_if_there(REPORT) or {}
    headline = report.get("headline") or {}
    actions = [_action(label, entry, results, packed) for label, entry in results.entries.items()]
    parts = [entity for label, entry in results.entries.items() for entity in _files(label, entry, packed)]
    stages = dict.fromkeys(label.split("/")[0] for label in results.entries)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"GhostTrack run {results.name}",
        "description": " ".join(filter(None, (headline.get("detector"), headline.get("tracking"))))
        or "A run of GhostTrack.",
        "datePublished": max(
            entry.manifest.predicate.run_details.metadata.finished_on for entry in results.entries.values()
        ),
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "hasPart": [_ref(part["@id"]) for part in parts if part["@type"] == "File"],
        "mentions": [_ref(action["@id"]) for action in actions],
    }
    return {
        "@context": CONTEXT,
        "@graph": [
            {"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": _ref("./"),
             "conformsTo": _ref("https://w3id.org/ro/crate/1.1")},
            root,
            {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"},
            *({"@id": f"#stage-{stage}", "@type": "SoftwareApplication", "name": f"GhostTrack stage {stage}",
               "softwareVersion": _version(results, stage)} for stage in stages),
            *actions,
            *parts,
        ],
    }  # fmt: skip


def _action(label: str, entry: Entry, results: Results, packed: set[str]) -> Json:
    predicate = entry.manifest.predicate
    metadata = predicate.run_details.metadata
    read = [name for name in entry.manifest.input_digests if name.rsplit("/", 1)[0] in results.entries]
    return {
        "@id": f"#unit-{label.replace('/', '-')}",
        "@type": "CreateAction",
        "name": label,
        "startTime": metadata.started_on,
        "endTime": metadata.finished_on,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "instrument": _ref(f"#stage-{label.split('/')[0]}"),
        "object": [_ref(_identity(name, packed)) for name in read],
        "result": [_ref(_identity(f"{label}/{name}", packed)) for name in entry.manifest.files],
        "taskKey": entry.key,
        "description": f"parameters: {json.dumps(entry.parameters, sort_keys=True, ensure_ascii=False)}",
    }  # fmt: skip


def _files(label: str, entry: Entry, packed: set[str]) -> list[Json]:
    found = [
        {
            "@id": _identity(f"{label}/{name}", packed),
            "@type": "File" if label in packed else "CreativeWork",
            "name": name,
            "encodingFormat": subject.media_type,
            "contentSize": str(subject.size),
            "sha256": subject.sha256,
        }
        for name, subject in entry.manifest.files.items()
    ]
    if label in packed:
        found.append(
            {"@id": f"{label}/{MANIFEST}", "@type": "File", "name": f"manifest of {label}", "encodingFormat": "application/json",
             "contentSize": str(entry.file(MANIFEST).stat().st_size), "sha256": entry.manifest_sha256}
        )  # fmt: skip
    return found


def _identity(name: str, packed: set[str]) -> str:
    """Of `stage/unit/file`: its path in the crate, or a name for what is not in it."""
    return name if name.rpartition("/")[0] in packed else f"#not-packed-{name.replace('/', '-')}"


def _version(results: Results, stage: str) -> str:
    entry = next(entry for label, entry in results.entries.items() if label.startswith(f"{stage}/"))
    released = entry.manifest.predicate.run_details.builder.version.get("ghosttrack", "unknown")
    return f"{released} at {code_of(entry.manifest) or 'an unknown commit'}"


def _ref(identity: str) -> Mapping[str, str]:
    return {"@id": identity}
