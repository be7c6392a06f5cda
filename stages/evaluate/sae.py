"""Quality of the SAEs, as `sae_train` measured it on held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.final_report import SaeLayer, SaeStack
from ghosttrack.common.formats.saes import QUALITY


def read_sae(path: Path, layers: Sequence[int]) -> tuple[list[SaeLayer], SaeStack]:
    """Quality of these layers' SAEs, and of all of them at once. Raises CorruptInputError."""
    quality = QUALITY.read(path)
    try:
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
        raise QUALITY.corrupt(path, error) from error
    if [layer.layer for layer in found] != list(layers):
        raise CorruptInputError(f"{path} is of other layers than are studied; run sae_train again")
    return found, stack
