"""Takes a layer's SAE from a SAELens folder instead of training it. How good it is, the unit `quality` measures."""

import json
from typing import Any

from common import saelens
from common.stage import Job


def import_layer(job: Job, layer: int) -> dict[str, Any]:
    """Write the layer's SAE and a metrics file that says where it comes from; see `common.saelens.read` for errors."""
    settings = job.config.sae
    found = saelens.read(
        settings.pretrained_folder(layer),
        layer=layer,
        d_model=job.config.model.d_model,
        d_hidden=settings.d_hidden,
        target_l0=settings.target_l0,
    )
    found.sae.save(job.output(f"sae_layer_{layer}_best.pt"))
    metrics = {"layer": layer, "target_l0": found.target_l0, "pretrained": True, "source": found.source}
    text = json.dumps(metrics, indent=1)
    job.output(f"sae_layer_{layer}_metrics.json").write_text(text + "\n", encoding="utf-8")
    return metrics
