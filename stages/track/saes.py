"""The SAEs of all tracked layers, checked against the model that they are used with."""

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.saes import INDEPENDENT_SAE, SAE
from ghosttrack.common.models.sae import JumpReLUSAE


def load_saes(job: Job) -> list[JumpReLUSAE]:
    """The SAE of each layer. Raises ModelMismatchError naming the layer."""
    return [_load(job, f"sae_train/layer_{i}", SAE.of(i), i) for i in job.config.layers]


def load_twins(job: Job) -> list[JumpReLUSAE]:
    """The SAEs that were trained apart, without a shared base."""
    return [_load(job, f"sae_train/independent_{i}", INDEPENDENT_SAE.of(i), i) for i in job.config.layers]


def _load(job: Job, unit: str, file: str, layer: int) -> JumpReLUSAE:
    return JumpReLUSAE.load(job.input(unit, file), d_model=job.config.model.d_model, layer=layer)
