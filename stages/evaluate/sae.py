"""Quality of the SAEs, as `sae_train` measured it on held-out text."""

from collections.abc import Sequence
from pathlib import Path

from ghosttrack.common.errors import CorruptInputError
from ghosttrack.common.formats.final_report import SaeLayer, SaeStack
from ghosttrack.common.formats.saes import QUALITY, SaeQuality


def read_sae(path: Path, layers: Sequence[int]) -> tuple[list[SaeLayer], SaeStack]:
    """Quality of these layers' SAEs, and of all of them at once. Raises CorruptInputError."""
    quality = SaeQuality.model_validate(QUALITY.read(path))
    matches = {pair.layer: pair.self_match for pair in quality.identity.adjacent}
    found = [
        SaeLayer(
            layer=each.layer, l0=each.l0, fvu=each.fvu, mse=each.mse, dead_fraction=each.dead_fraction,
            ce_recovered=each.splice.ce_recovered["mean"],
            kl_recovered=each.splice.kl_recovered["mean"],
            next_self_match=matches.get(each.layer),
        )
        for each in quality.layers
    ]  # fmt: skip
    whole = quality.all_layers
    stack = SaeStack(
        ce_recovered=whole.ce_recovered["mean"],
        kl_recovered=whole.kl_recovered["mean"],
        fvu_at_the_end=whole.error_by_depth[-1].fvu,
    )
    if [layer.layer for layer in found] != list(layers):
        raise CorruptInputError(f"{path} is of other layers than are studied; run sae_train again")
    return found, stack
