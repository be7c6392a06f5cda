"""Takes a layer's SAE from a SAELens folder instead of training it; folders of other forms and releases too. How good it is, the unit `quality` measures."""

from typing import Any

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.saes import SAE_METRICS
from ghosttrack.common.models import pretrained


def import_layer(job: Job, layer: int, sae_file: str, metrics_file: str, independent: bool) -> dict[str, Any]:
    """Write the layer's SAE and a metrics file that says where it comes from; see `ghosttrack.common.models.pretrained.read` for errors.

    independent: whether it is the one that was trained apart.
    """
    settings = job.config.sae
    found = pretrained.read(
        settings.pretrained_folder(layer, independent),
        layer=layer,
        d_model=job.config.model.d_model,
        d_hidden=settings.d_hidden,
        target_l0=settings.target_l0,
    )
    found.sae.save(job.output(sae_file))
    metrics = {"layer": layer, "target_l0": found.target_l0, "pretrained": True, "source": found.source}
    SAE_METRICS.write(job.output(metrics_file), metrics)
    return metrics
