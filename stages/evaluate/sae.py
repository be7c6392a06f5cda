"""Quality of the SAEs, as `sae_train` measured it on held-out text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.stages.evaluate.schema import SaeLayer, SaeStack

QUALITY_SCHEMA_VERSION = 1


def read_sae(path: Path, layers: Sequence[int]) -> tuple[list[SaeLayer], SaeStack]:
    """Quality of these layers' SAEs, and of all of them at once. Raises CorruptInputError."""
    try:
        quality = json.loads(path.read_text(encoding="utf-8"))
        version = quality["schema_version"]
        matches = {pair["layer"]: pair["self_match"] for pair in quality["identity"]["adjacent"]}
        found = [
            SaeLayer(
                **{name: record[name] for name in ("layer", "l0", "fvu", "mse", "dead_fraction")},
                ce_recovered=record["splice"]["ce_recovered"]["mean"],
                kl_recovered=record["splice"]["kl_recovered"]["mean"],
                next_self_match=matches.get(record["layer"]),
            )
            for record in quality["layers"]
        ]
        whole = quality["all_layers"]
        stack = SaeStack(
            ce_recovered=whole["ce_recovered"]["mean"],
            kl_recovered=whole["kl_recovered"]["mean"],
            fvu_at_the_end=whole["error_by_depth"][-1]["fvu"],
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CorruptInputError(
            f"{path} is not a file of SAE quality ({' '.join(str(error).split())}); run sae_train again"
        ) from error
    if version != QUALITY_SCHEMA_VERSION:
        raise CorruptInputError(
            f"{path} has schema version {version}, not {QUALITY_SCHEMA_VERSION}; run sae_train again"
        )
    if [layer.layer for layer in found] != list(layers):
        raise CorruptInputError(f"{path} is of other layers than are studied; run sae_train again")
    return found, stack
