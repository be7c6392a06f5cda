"""What the overview says of a run: its stages, what they took, and where each result came from."""

from typing import Any

from ghosttrack.common.engine.manifest import Manifest
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.origins import ORIGINS
from ghosttrack.common.formats.reasons import REASONS
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.formats.validation import VALIDATION
from ghosttrack.stages.report.results import Results

PARTS = (
    ("questions and answers", GENERATIONS),
    ("the logit lens", LENS),
    ("candidate answers", CANDIDATES),
    ("tracks", TRACKS),
    ("births and deaths, layer by layer", LAYERS),
    ("the account of every answer", ACCOUNT),
    ("what began each track", ORIGINS),
    ("tracks taken out", CAUSES),
    ("whether tracks can be believed", VALIDATION),
    ("where wrong answers came from", REASONS),
    ("candidate answers in other contexts", EVIDENCE),
    ("firing rates and tokens of latents", LATENTS),
    ("contexts of latents", LATENT_CONTEXTS),
    ("quality of the SAEs", QUALITY),
    ("scores of the questions", SCORES),
    ("figures of the detector", REPORT),
)
"""What the page shows, and the file that it is read from."""


def stage_cards(results: Results) -> list[dict[str, Any]]:
    """A record a stage that has results: units, seconds, memory, bytes, when, where, by which code."""
    cards = []
    for stage in results.stages:
        found = [entry for label, entry in results.entries.items() if label.startswith(f"{stage}/")]
        predicates = [entry.manifest.predicate for entry in found]
        usage = [predicate.resource_usage for predicate in predicates]
        gpus = [each.get("gpuMemoryPeak") or each.get("gpuPeakBytes") or 0.0 for each in usage]
        cards.append(
            {
                "stage": stage,
                "units": len(found),
                "seconds": sum(entry.elapsed for entry in found),
                "cpu_seconds": sum(each.get("cpuSec") or 0.0 for each in usage),
                "memory": max(entry.memory for entry in found),
                "gpu_memory": max(gpus) or None,
                "bytes": sum(entry.size for entry in found),
                "started": min(predicate.run_details.metadata.started_on for predicate in predicates),
                "finished": max(predicate.run_details.metadata.finished_on for predicate in predicates),
            }
        )
    return cards


def provenance(results: Results) -> list[dict[str, Any]]:
    """A record a unit: its task key, the digest of its manifest, the code and the machine that made it."""
    rows = []
    for label, entry in results.entries.items():
        predicate = entry.manifest.predicate
        rows.append(
            {
                "unit": label,
                "task_key": entry.key,
                "manifest": entry.manifest_sha256,
                "seconds": predicate.resource_usage.get("elapsedSec"),
                "finished": predicate.run_details.metadata.finished_on,
                "code": code_of(entry.manifest),
                "environment": {
                    key: known for key, known in predicate.environment.items() if known is not None
                },
                "files": {name: [file.size, file.sha256] for name, file in entry.manifest.files.items()},
                "released": entry.released,
            }
        )
    return rows


def code_of(manifest: Manifest) -> str | None:
    """The commit, with `-dirty` where the files were not as it has them; None where it is not known."""
    for dependency in manifest.predicate.build_definition.resolved_dependencies:
        if commit := dependency.digest.get("gitCommit"):
            return commit + ("-dirty" if dependency.annotations.get("dirty") else "")
    return None
